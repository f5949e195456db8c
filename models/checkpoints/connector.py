"""The connector of a LLaVA: what it is, and which of its layers are trained.

The stock class has two layers. A `linear` connector (LLaVA, arXiv 2304.08485 section 4.1) has the
activation `linear` and the identity as its second layer; no file of a checkpoint says what is not
to be trained, so a marker in config.json (`CONNECTOR_KEY`) tells `fix_identity` to freeze it after
every load. `mlp2x_gelu` is LLaVA-1.5's (arXiv 2310.03744).
"""

from typing import Any

import torch
from transformers import LlavaForConditionalGeneration

from verbalizer_bench.models.checkpoints.choices import CONNECTORS

CONNECTOR_KEY = "verbalizer_connector"
_NAME = "multi_modal_projector"
ACTIVATIONS = {"linear": "linear", "mlp2x_gelu": "gelu"}


def new_connector(model: LlavaForConditionalGeneration, seed: int) -> None:
    """Initialise each connector in place: normal weights as the LLM's, zero biases.

    Of a `linear` connector the second layer becomes the identity, frozen.

    Args:
        model: A LLaVA.
        seed: The weights are the same on every device, up to rounding to the model's type.

    Raises:
        ValueError: The checkpoint does not say which connector it has.
    """
    kind = connector_of(model.config)
    if kind is None:
        raise ValueError(
            f"{CONNECTOR_KEY} is not in the checkpoint's config.json, so its connector is unknown; "
            "compose the checkpoint"
        )
    generator = torch.Generator().manual_seed(seed)
    deviation = getattr(model.config.text_config, "initializer_range", None) or 0.02
    for connector in connectors(model):
        with torch.no_grad():
            for layer in (connector.linear_1, connector.linear_2):
                drawn = torch.empty(layer.weight.shape).normal_(0, deviation, generator=generator)
                layer.weight.copy_(drawn)
                if layer.bias is not None:
                    layer.bias.zero_()
            if kind == "linear":
                connector.linear_2.weight.copy_(torch.eye(len(connector.linear_2.weight)))
    fix_identity(model)


def connector_of(config: Any) -> str | None:
    """Return which connector a checkpoint has.

    Args:
        config: Its configuration.

    Returns:
        What the marker says. Without one: `mlp2x_gelu` for a stock LLaVA with the activation
        `gelu`; None for others, where nobody says whether both layers are trained, and for models
        that are no LLaVA.

    Raises:
        ValueError: The marker names no connector, or contradicts `projector_hidden_act`.
    """
    activation = getattr(config, "projector_hidden_act", None)
    kind: str | None = getattr(config, CONNECTOR_KEY, None)
    if kind is None:
        return "mlp2x_gelu" if activation == "gelu" else None
    check_choice(CONNECTOR_KEY, kind, CONNECTORS)
    if activation != ACTIVATIONS[kind]:
        raise ValueError(
            f"config.json has {CONNECTOR_KEY}={kind} and projector_hidden_act={activation}; "
            f"{kind} goes with {ACTIVATIONS[kind]}: correct the one that is wrong"
        )
    return kind


def fix_identity(model: Any) -> None:
    """Freeze the second layer of a `linear` connector; call it after every load and resume.

    Does nothing to other connectors. Weights on the meta device are frozen and not compared.

    Args:
        model: A LLaVA, or a PEFT model over one.

    Raises:
        ValueError: The layer is not exactly the identity.
    """
    if connector_of(model.config) != "linear":
        return
    for connector in connectors(model):
        _fix(connector.linear_2.requires_grad_(False))


def _fix(layer: Any) -> None:
    if layer.weight.is_meta:
        return
    plain = all(name in ("weight", "bias") for name, _ in layer.named_parameters())
    exact = plain and torch.equal(layer.weight, torch.eye(len(layer.weight)).to(layer.weight))
    if not exact or (layer.bias is not None and layer.bias.any()):
        raise ValueError(
            f"{_NAME}.linear_2 of this {CONNECTOR_KEY}=linear checkpoint is not the "
            "identity: it was trained, adapted or quantised; go back to a checkpoint from before, "
            "or compose it again"
        )


def fixed_layer(config: Any) -> str | None:
    """Return the end of the name of a connector's layer that is not trained; None if all are.

    Args:
        config: A checkpoint's configuration.
    """
    return f"{_NAME}.linear_2" if connector_of(config) == "linear" else None


def connectors(model: torch.nn.Module) -> list[Any]:
    """Return a model's connectors: two where two towers have one each, none in a text model."""
    named = model.named_modules()
    return [module for name, module in named if name.endswith(_NAME)]


def check_choice(key: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ValueError, in one line, for a value that is not known."""
    if value not in known:
        raise ValueError(f"{key}={value}: one of {', '.join(known)}")
