"""Load a checkpoint for lm-eval whole, or refuse it in one line."""

import difflib
import inspect
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, ProcessorMixin
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)
from transformers.quantizers import AutoQuantizationConfig

from verbalizer_bench.models.chat.bos import append_nothing
from verbalizer_bench.models.checkpoints.peft_adapter import add_adapter, fit_vocabulary
from verbalizer_bench.models.checkpoints.strict_loading import (
    check_vocabulary,
    line,
    load_whole,
    reading,
)

log = logging.getLogger(__name__)
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
    if isinstance(pretrained, str) and not kwargs.get("gguf_file"):
        _check_architecture(name, pretrained, kwargs)
    try:
        yield
    except TypeError as error:
        found = re.search(r"(?:unexpected|values for) keyword argument '(\w+)'", str(error))
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
    except (ImportError, AssertionError) as error:
        # lm-eval asserts what it wants of arguments and packages.
        raise ValueError(f"model_args pretrained={pretrained}: {line(error)}") from error


class _Whole:
    """An auto class whose models are whole; lm-eval calls its `from_pretrained`."""

    def __init__(self, auto_class: Any, pretrained: str) -> None:
        self.auto_class, self.pretrained = auto_class, pretrained

    def from_pretrained(self, name: str, **kwargs: Any) -> Any:
        role = "pretrained" if name == self.pretrained else "delta"
        return load_whole(self.auto_class, name, f"model_args {role}={name}", **kwargs)


class WholeCheckpoint:
    """Mixin over lm-eval's HFLM: what is loaded is what is in the folders, or nothing is.

    Models, adapters and tokenizers are read by `load_whole`, `add_adapter` and `reading`; a fault
    is named by the argument that it stands in.
    """

    AUTO_MODEL_CLASS: Any
    _model: Any
    tokenizer: Any

    def _create_model(
        self,
        pretrained: str,
        revision: str | None = "main",
        peft: str | None = None,
        delta: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Load the base whole, and the adapter on it; lm-eval would cut the base's embeddings."""
        if peft and delta:
            raise ValueError(f"model_args peft={peft},delta={delta}: give one of them")
        auto_class = self.AUTO_MODEL_CLASS
        self.AUTO_MODEL_CLASS = _Whole(auto_class, pretrained)
        try:
            super()._create_model(  # type: ignore[misc]
                pretrained=pretrained, revision=revision, delta=delta, **kwargs
            )
        except (KeyError, RuntimeError) as error:
            if not delta:
                raise
            raise ValueError(
                f"model_args delta={delta}: cannot be added to pretrained={pretrained}: "
                f"{line(error)}; give the base that it was made from"
            ) from error
        finally:
            self.AUTO_MODEL_CLASS = auto_class
        if peft:
            fit_vocabulary(self._model, peft, self.tokenizer, self._own_tokenizer, revision)
            self._model = add_adapter(self._model, peft, f"model_args peft={peft}", revision)
            _warn_of_base(self._model, peft, pretrained)
        # lm-eval ties weights once more: of two that differ it would drop one, and of an adapter's
        # own embeddings it knows nothing. What is one was tied by the load.
        self._model.tie_weights = lambda: None

    def _create_tokenizer(self, pretrained: Any, tokenizer: Any = None, **kwargs: Any) -> None:
        """Read the tokenizer, for an LVLM its processor.

        lm-eval's class for LVLMs returns the processor that it was asked for and uses none.
        """
        self._own_tokenizer = tokenizer is not None
        role = "pretrained" if tokenizer is None else "tokenizer"
        place = pretrained if tokenizer is None else tokenizer
        what = f"model_args {role}={place}"
        with reading(f"{what}: its tokenizer", "give tokenizer=DIR of a whole one"):
            try:
                found = super()._create_tokenizer(pretrained, tokenizer, **kwargs)  # type: ignore[misc]
            except AttributeError as error:
                raise ValueError(f"no processor is in it ({error})") from error
        if found is not None:
            if not isinstance(found, ProcessorMixin):
                raise ValueError(f"{what}: no processor is in it; give tokenizer=DIR of an LVLM's")
            self.processor, self.tokenizer = found, found.tokenizer
        append_nothing(self.tokenizer, what)

    def _check_vocabulary(self, pretrained: Any, peft: Any) -> None:
        """Raise ValueError for tokens that have no embedding, naming what they may come from."""
        vars(self._model).pop("tie_weights", None)
        what = f"model_args pretrained={pretrained if isinstance(pretrained, str) else '(a model)'}"
        if peft:
            what += f",peft={peft}"
        fix = (
            "leave tokenizer= out, or give the one that the weights were trained with"
            if self._own_tokenizer
            else "give tokenizer=DIR of the one that the weights were trained with"
        )
        check_vocabulary(self._model, self.tokenizer, what, fix)


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


def _warn_of_base(adapted: Any, peft: str, pretrained: str) -> None:
    """Say that an adapter names another base; shapes do not tell Vicuna from Llama 2."""
    said = adapted.active_peft_config.base_model_name_or_path
    if said and Path(said).name != Path(pretrained).name:
        log.warning(
            "peft=%s: was trained on %s, it says; its base here is %s", peft, said, pretrained
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
    # Else transformers asks on the terminal, and waits.
    hub = {"trust_remote_code": False}
    hub |= {key: kwargs[key] for key in ("revision", "subfolder", *hub) if key in kwargs}
    with reading(f"model_args pretrained={pretrained}: its config.json"):
        config = AutoConfig.from_pretrained(pretrained, **hub)
        if (quantised := getattr(config, "quantization_config", None)) is not None:
            AutoQuantizationConfig.from_dict(quantised)
    auto_class, known = _ARCHITECTURES[name]
    if config.model_type in known or auto_class in (getattr(config, "auto_map", None) or {}):
        return
    others = [other for other, (_, types) in _ARCHITECTURES.items() if config.model_type in types]
    raise ValueError(
        f"model_args pretrained={pretrained}: {name} takes checkpoints of {auto_class}, and this "
        f"one is {config.model_type}; "
        + (f"use --model {others[0]}" if others else "use another model class of lm-eval")
    )
