"""The floating types of weights: in a checkpoint's files, in training, and as they are written.

A base may be float16 and its training bfloat16, which holds neither all of its values nor small
updates of them. So what is not trained is written as it was read, in its own type, and what is
trained is added in float32 and rounded once, to that type.
"""

from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import load_state_dict
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

# In transformers' order.
_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def stored_dtypes(place: str) -> dict[str, torch.dtype]:
    """Return the floating type of each weight in a checkpoint's files, by its name there.

    Args:
        place: A folder or hub id.

    Returns:
        Empty where there are no files of weights that transformers would read.
    """
    for name in _FILES:
        file = cached_file(
            place,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
        if file is None:
            continue
        shards = get_checkpoint_shard_files(place, file)[0] if name.endswith(".json") else [file]
        states = (load_state_dict(shard, map_location="meta") for shard in shards)
        weights = (item for state in states for item in state.items())
        # Types of one byte are quantised weights.
        return {k: w.dtype for k, w in weights if w.is_floating_point() and w.dtype.itemsize > 1}
    return {}


def file_dtypes(
    model: Any, stored: Mapping[str, torch.dtype], default: torch.dtype
) -> dict[str, torch.dtype]:
    """Return the type of each of a model's weights in its files.

    Args:
        model: A model loaded from them.
        stored: As `stored_dtypes` gives them.
        default: Of weights that are in no file.
    """
    weights = {n: weight for n, weight in model.state_dict().items() if weight.is_floating_point()}
    kinds = set(stored.values())
    if len(kinds) < 2:
        return dict.fromkeys(weights, next(iter(kinds), default))
    return {
        name: stored.get(_name_in_file(model, name, weight, stored), default)
        for name, weight in weights.items()
    }


def _name_in_file(
    model: Any, name: str, weight: torch.Tensor, stored: Mapping[str, torch.dtype]
) -> str:
    """Return a weight's name in the files, the first name if several of theirs make it up.

    transformers may have renamed it while reading, or stacked it from the experts' weights.
    """
    there = next(iter(revert_weight_conversion(model, {name: weight.to("meta")})))
    alike = (key for key in stored if key.endswith(f".{there}") or there.endswith(f".{key}"))
    return there if there in stored else next(alike, name)


def hold_frozen(model: Any, dtype: torch.dtype) -> None:
    """Convert frozen weights to the type that training holds them in."""
    for weight in model.parameters():
        if not weight.requires_grad and weight.is_floating_point():
            weight.data = weight.data.to(dtype)
    if model.config.model_type == "smolvlm":
        # It gives images the type of its first weight, a tower's that may be trained, and writes
        # them among embeddings, which must have the same.
        model.get_input_embeddings().to(model.dtype)


def holds_frozen_exactly(model: Any, dtypes: Mapping[str, torch.dtype]) -> bool:
    """Tell whether a model holds its frozen weights without loss, given their file types."""
    return all(
        torch.promote_types(weight.dtype, dtypes[name]) == weight.dtype
        for name, weight in model.named_parameters()
        if not weight.requires_grad and name in dtypes
    )


def put_trained(base: Any, trained: Mapping[str, torch.Tensor]) -> None:
    """Copy trained weights into a base, in float32."""
    for name, weight in base.named_parameters():
        if name in trained:
            weight.data = trained[name].to("cpu", torch.float32)


def merge_adapter(adapted: PeftModel, dtypes: Mapping[str, torch.dtype]) -> tuple[Any, float]:
    """Merge a low-rank adapter into its base, each layer in float32.

    Args:
        adapted: The base, in its own types, and the adapter.
        dtypes: The types that weights are rounded to, by name; other weights keep the base's.

    Returns:
        The base with the adapter in it, and the share of the update that rounding loses: the
        norm of the rounding error over the norm of the update.
    """
    change = error = 0.0
    for name, module in adapted.get_base_model().named_modules():
        if not isinstance(module, LoraLayer):
            continue
        weight = module.get_base_layer().weight
        dtype = dtypes.get(f"{name}.weight", weight.dtype)
        before = weight.data.float()
        # PEFT adds in the type of the base.
        weight.data = before.clone()
        module.merge()
        rounded = weight.data.to(dtype)
        change += float((weight.data - before).square().sum())
        error += float((weight.data - rounded.float()).square().sum())
        weight.data = rounded
    return adapted.unload(), (error / change) ** 0.5 if change else 0.0


def round_weights(model: Any, dtypes: Mapping[str, torch.dtype]) -> None:
    """Round each weight to the type that it is saved in."""
    for name, weight in model.named_parameters(remove_duplicate=False):
        if name in dtypes:
            weight.data = weight.data.to(dtypes[name])
