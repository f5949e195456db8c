"""Which vector of an image a vision tower gives: `projected`, `pooled`, `cls`, `patches`, `cls@-2`.

The paper of CLIP-blind pairs does not say which it took, so that it is a choice that is recorded.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

KINDS = ("projected", "pooled", "cls", "patches")


class Embedding(NamedTuple):
    """A vector of an image.

    Attributes:
        kind: `projected` into the space that images share with texts (CLIP's; SigLIP's pooled one);
            `pooled` as the tower gives it, before a projection; the class token `cls`; the mean
            of the `patches`, without class and register tokens.
        layer: Of the hidden states, for the last two; None: the tower's output.
    """

    kind: str
    layer: int | None = None

    def __str__(self) -> str:
        return self.kind if self.layer is None else f"{self.kind}@{self.layer}"


def parse_embedding(text: str, option: str) -> Embedding:
    """Read an embedding's name.

    Args:
        text: The name.
        option: Where it was given, for the error.

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(rf"({'|'.join(KINDS)})(?:@(-?\d+))?", text)
    if not match or (match[2] and match[1] not in ("cls", "patches")):
        raise ValueError(
            f"{option} {text}: give one of {', '.join(KINDS)}; of cls and patches also with a "
            "layer, such as patches@-2"
        )
    return Embedding(match[1], int(match[2]) if match[2] else None)


def embed(model: Any, inputs: Mapping[str, torch.Tensor], embedding: Embedding) -> torch.Tensor:
    """Return an embedding of images, shape (images, width).

    Args:
        model: A vision tower, or a model of images and texts.
        inputs: What the checkpoint's image processor makes.
        embedding: Which vector.

    Raises:
        ValueError: The tower has none of the kind.
    """
    if embedding.kind == "projected":
        return _vectors(model, _projected(model, inputs), embedding)
    tower = getattr(model, "vision_model", model)
    output = tower(**inputs, output_hidden_states=embedding.layer is not None)
    if embedding.kind == "pooled":
        return _vectors(model, getattr(output, "pooler_output", None), embedding)
    states = output.last_hidden_state
    if embedding.layer is not None:
        try:
            states = output.hidden_states[embedding.layer]
        except IndexError:
            many = len(output.hidden_states)
            raise _lacks(model, embedding, f"it has hidden states 0 to {many - 1}") from None
    return _of_tokens(model, tower, states, inputs, embedding)


def _of_tokens(
    model: Any,
    tower: Any,
    states: torch.Tensor,
    inputs: Mapping[str, torch.Tensor],
    embedding: Embedding,
) -> torch.Tensor:
    if states.ndim != 3:
        raise _lacks(model, embedding, f"its states have the shape {tuple(states.shape)}")
    patches = _patches(tower.config, inputs, states.shape[1])
    before = states.shape[1] - patches
    if before < 0 or (embedding.kind == "cls" and before == 0):
        raise _lacks(model, embedding, f"it has {states.shape[1]} tokens of {patches} patches")
    if embedding.kind == "cls":
        return states[:, 0]
    mask = inputs.get("pixel_attention_mask")
    if mask is None:
        return states[:, before:].mean(dim=1)
    weights = mask.to(states.dtype)[:, :, None]
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _patches(config: Any, inputs: Mapping[str, torch.Tensor], tokens: int) -> int:
    pixels = inputs["pixel_values"]
    # SigLIP 2 with its own resolutions is given patches.
    if pixels.ndim == 3:
        return tokens
    size = config.patch_size
    high, wide = (size, size) if isinstance(size, int) else size
    return (pixels.shape[-2] // high) * (pixels.shape[-1] // wide)


def _projected(model: Any, inputs: Mapping[str, torch.Tensor]) -> Any:
    if hasattr(model, "get_image_features"):
        return model.get_image_features(**inputs).pooler_output
    return getattr(model(**inputs), "image_embeds", None)


def _vectors(model: Any, vectors: Any, embedding: Embedding) -> torch.Tensor:
    if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2:
        raise _lacks(model, embedding, "not one of each image")
    return vectors


def _lacks(model: Any, embedding: Embedding, why: str) -> ValueError:
    return ValueError(
        f"embedding {embedding}: {type(model).__name__} has no such vector: {why}; give another of "
        f"{', '.join(KINDS)}"
    )
