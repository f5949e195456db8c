"""Refuse, in one line and before weights are read, what a checkpoint cannot be loaded with."""

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

_ARCHITECTURES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "verbalizer-llm": ("AutoModelForCausalLM", MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    "verbalizer-lvlm": ("AutoModelForImageTextToText", MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
}


@contextmanager
def loading(adapter: type, name: str, pretrained: Any, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Check an adapter's arguments, then name the one that loading does not know.

    Args:
        adapter: The adapter's class; its constructor and its parents' say which arguments exist.
        name: Its name in lm-eval.
        pretrained: A checkpoint folder, a hub id, or a loaded model.
        kwargs: The other arguments.

    Raises:
        ValueError: `dtype` is no type of torch, the device is not there, the checkpoint is of
            another architecture, or an argument is unknown to adapter and checkpoint.
        FileNotFoundError: `peft` is no LoRA folder.
    """
    _check_dtype(kwargs.get("dtype"))
    _check_device(kwargs.get("device"))
    _check_peft(kwargs.get("peft"))
    if isinstance(pretrained, str) and not kwargs.get("gguf_file"):
        _check_architecture(name, pretrained, kwargs)
    try:
        yield
    except TypeError as error:
        found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if not found or found[1] not in kwargs:
            raise
        known = {
            key for cls in adapter.__mro__[:-1] for key in inspect.signature(cls).parameters
        } - {"args", "kwargs"}
        near = difflib.get_close_matches(found[1], sorted(known), n=1)
        raise ValueError(
            f"model_args {found[1]}={kwargs[found[1]]}: neither {name} nor this checkpoint has "
            f"such an argument; {f'did you mean {near[0]}=?' if near else 'leave it out'}"
        ) from error
    except (SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "size mismatch" not in str(error):
            raise
        raise ValueError(
            f"model_args pretrained={pretrained}: its weights cannot be read: "
            f"{' '.join(str(error).split())[:200]}; copy or save the checkpoint again"
        ) from error


def _check_dtype(dtype: Any) -> None:
    known = ("auto", "float32", "float16", "bfloat16", "float64")
    if isinstance(dtype, str) and dtype not in known:
        raise ValueError(f"model_args dtype={dtype}: one of {', '.join(known)}")


def _check_device(device: Any) -> None:
    """Raise ValueError for a device that lm-eval would silently replace by another.

    Its default, `cuda` or `cuda:0`, means a GPU where there is one.
    """
    if device in (None, "cuda", "cuda:0"):
        return
    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError as error:
        raise ValueError(f"device={device}: no device of torch; give cpu or cuda:0") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count()}
    if index >= counts.get(kind, index + 1):
        raise ValueError(
            f"device={device}: torch finds {counts[kind]} {kind} devices here; "
            "give another, or leave it out"
        )


def _check_peft(peft: Any) -> None:
    if isinstance(peft, str) and peft.startswith((".", "/", "~")):
        file = Path(peft) / "adapter_config.json"
        if not file.is_file():
            raise FileNotFoundError(
                f"model_args peft={peft}: {file.name} is not in it; give a LoRA folder or a hub id"
            )


def _check_architecture(name: str, pretrained: str, kwargs: Mapping[str, Any]) -> None:
    hub = {
        key: kwargs[key] for key in ("revision", "subfolder", "trust_remote_code") if key in kwargs
    }
    try:
        config = AutoConfig.from_pretrained(pretrained, **hub)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"model_args pretrained={pretrained}: not a checkpoint that can be read: {reason}; "
            "give a folder that save_pretrained wrote, or a hub id"
        ) from error
    auto_class, known = _ARCHITECTURES[name]
    if config.model_type in known or auto_class in (getattr(config, "auto_map", None) or {}):
        return
    others = [other for other, (_, types) in _ARCHITECTURES.items() if config.model_type in types]
    raise ValueError(
        f"model_args pretrained={pretrained}: {name} takes checkpoints of {auto_class}, and this "
        f"one is {config.model_type}; "
        + (f"use --model {others[0]}" if others else "use another model class of lm-eval")
    )
