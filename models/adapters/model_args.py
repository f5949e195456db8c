"""Check an adapter's `model_args` before a weight is read: a wrong one is named in one line."""

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)
from transformers.quantizers import AutoQuantizationConfig

from verbalizer_bench.models.checkpoints.gguf import check_gguf, name_gguf
from verbalizer_bench.models.checkpoints.strict_loading import check_no_adapter, one_line, reading

_ARCHITECTURES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "verbalizer-llm": ("AutoModelForCausalLM", MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    "verbalizer-lvlm": ("AutoModelForImageTextToText", MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
}


@contextmanager
def checked_model_args(
    adapter: type, name: str, pretrained: Any, kwargs: Mapping[str, Any]
) -> Iterator[None]:
    """Check an adapter's arguments, then name the one that loading does not know.

    Args:
        adapter: The adapter's class; its constructor and its parents' say which arguments exist.
        name: Its name in lm-eval.
        pretrained: A checkpoint folder, a hub id, or a loaded model.
        kwargs: The other arguments.

    Raises:
        ValueError: A name is empty or no text, a type is none of torch's, the device is not there,
            the checkpoint is of another architecture, another library would load it unchecked, or
            an argument is unknown to adapter and checkpoint.
        FileNotFoundError: `peft` is no LoRA folder.
    """
    _check_texts(pretrained=pretrained, **kwargs)
    _check_dtypes(kwargs)
    # lm-eval's default means a GPU where there is one.
    if kwargs.get("device") not in (None, "cuda", "cuda:0"):
        check_device(kwargs["device"])
    _check_peft(kwargs.get("peft"))
    for library in ("autogptq", "gptqmodel"):
        if kwargs.get(library):
            raise ValueError(
                f"model_args {library}={kwargs[library]}: cannot say which weights it found; "
                "leave it out: transformers reads from config.json how weights are quantised"
            )
    if isinstance(pretrained, str):
        if kwargs.get("gguf_file"):
            check_gguf(pretrained, kwargs["gguf_file"], kwargs)
        elif not kwargs.get("subfolder"):
            name_gguf(pretrained)
        _check_architecture(name, pretrained, kwargs)
    try:
        yield
    except TypeError as error:
        match = re.search(r"(?:unexpected|values for) keyword argument '(\w+)'", str(error))
        if not match or match[1] not in kwargs:
            raise
        known = {
            key for cls in adapter.__mro__[:-1] for key in inspect.signature(cls).parameters
        } - {"args", "kwargs"}
        near = difflib.get_close_matches(match[1], sorted(known), n=1)
        raise ValueError(
            f"model_args {match[1]}={kwargs[match[1]]}: neither {name} nor this checkpoint has "
            f"such an argument; {f'did you mean {near[0]}=?' if near else 'leave it out'}"
        ) from error
    except (ImportError, AssertionError) as error:
        # lm-eval asserts what it wants of arguments and packages.
        raise ValueError(f"model_args pretrained={pretrained}: {one_line(error)}") from error


def check_device(device: Any) -> None:
    """Raise ValueError for a device that lm-eval would silently replace by another."""
    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError as error:
        raise ValueError(f"device={device}: no device of torch; give cpu or cuda:0") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "meta": 0}
    counts["mps"] = int(torch.backends.mps.is_available())
    if index >= counts.get(kind, index + 1):
        raise ValueError(
            f"device={device}: torch finds {counts[kind] or 'no'} {kind} devices here; "
            "give another, or leave it out"
        )


def _check_texts(**kwargs: Any) -> None:
    """Raise ValueError for a name that lm-eval took for a number, a truth value or nothing."""
    for key in ("pretrained", "peft", "delta", "tokenizer", "subfolder", "gguf_file", "revision"):
        value = kwargs.get(key)
        if value == "":
            raise ValueError(f"model_args {key}=: is empty; give a name, or leave {key}= out")
        if isinstance(value, (bool, float)) or (isinstance(value, int) and key != "revision"):
            kind = "truth value" if isinstance(value, bool) else "number"
            raise ValueError(
                f"model_args {key}={value}: was read as a {kind}; write {key}=./NAME for a folder, "
                f"or {key}='NAME' with the quotes"
            )
    if kwargs.get("pretrained") is None:
        raise ValueError(
            "model_args pretrained=None: give a checkpoint folder or a hub id; write ./NAME for a "
            "folder of that name"
        )


def _check_dtypes(kwargs: Mapping[str, Any]) -> None:
    known = ("float32", "float16", "bfloat16", "float64")
    # Autocast passes over any other type with a warning.
    mixed = ("float16", "bfloat16")
    allowed = {"dtype": ("auto", *known), "softmax_dtype": known, "mixed_precision_dtype": mixed}
    for key, names in allowed.items():
        value = kwargs.get(key)
        if isinstance(value, str) and value not in names:
            raise ValueError(f"model_args {key}={value}: one of {', '.join(names)}")


def _check_peft(peft: Any) -> None:
    if not isinstance(peft, str) or not (peft.startswith((".", "/", "~")) or Path(peft).is_dir()):
        return
    for names in (("adapter_config.json",), ("adapter_model.safetensors", "adapter_model.bin")):
        if not any((Path(peft) / name).is_file() for name in names):
            raise FileNotFoundError(
                f"model_args peft={peft}: {names[0]} is not in it; give a LoRA folder or a hub id"
            )


def _check_architecture(name: str, pretrained: str, kwargs: Mapping[str, Any]) -> None:
    check_no_adapter(pretrained, f"model_args pretrained={pretrained}", kwargs)
    # Else transformers asks on the terminal, and waits.
    hub = {"trust_remote_code": False}
    given = ("revision", "subfolder", "gguf_file", *hub)
    hub |= {key: kwargs[key] for key in given if key in kwargs}
    with reading(
        f"model_args pretrained={pretrained}: its {kwargs.get('gguf_file', 'config.json')}"
    ):
        config = AutoConfig.from_pretrained(pretrained, **hub)
        if (quantised := getattr(config, "quantization_config", None)) is not None:
            AutoQuantizationConfig.from_dict(quantised)
    own_code = getattr(config, "auto_map", None) or {}
    fit = [
        adapter
        for adapter, (auto_class, known) in _ARCHITECTURES.items()
        if config.model_type in known or auto_class in own_code
    ]
    if name in fit:
        return
    raise ValueError(
        f"model_args pretrained={pretrained}: {name} takes checkpoints of "
        f"{_ARCHITECTURES[name][0]}, and this "
        f"one is {config.model_type}; "
        + (f"use --model {fit[0]}" if fit else "use another model class of lm-eval")
    )
