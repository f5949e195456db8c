"""Load a checkpoint for lm-eval whole, or refuse it in one line."""

import logging
from pathlib import Path
from typing import Any

from transformers import ProcessorMixin

from verbalizer_bench.models.chat.bos import append_nothing
from verbalizer_bench.models.checkpoints.gguf import (
    check_all_read,
    gguf_path,
    take_out_invented_tokens,
)
from verbalizer_bench.models.checkpoints.peft_adapter import add_adapter, fit_vocabulary
from verbalizer_bench.models.checkpoints.strict_loading import load_whole, one_line, reading
from verbalizer_bench.models.checkpoints.vocabulary import check_vocabulary

log = logging.getLogger(__name__)


class _WholeAutoClass:
    """An auto class whose models are whole; lm-eval calls its `from_pretrained`."""

    def __init__(self, auto_class: Any, pretrained: str) -> None:
        self.auto_class, self.pretrained = auto_class, pretrained

    def from_pretrained(self, name: str, **kwargs: Any) -> Any:
        role = "pretrained" if name == self.pretrained else "delta"
        what = f"model_args {role}={name}"
        model = load_whole(self.auto_class, name, what, **kwargs)
        if file := kwargs.get("gguf_file"):
            check_all_read(model, gguf_path(name, file, kwargs), f"{what},gguf_file={file}")
        return model


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
        self.AUTO_MODEL_CLASS = _WholeAutoClass(auto_class, pretrained)
        try:
            super()._create_model(  # type: ignore[misc]
                pretrained=pretrained, revision=revision, delta=delta, **kwargs
            )
        except (KeyError, RuntimeError) as error:
            if not delta:
                raise
            raise ValueError(
                f"model_args delta={delta}: cannot be added to pretrained={pretrained}: "
                f"{one_line(error)}; give the base that it was made from"
            ) from error
        finally:
            self.AUTO_MODEL_CLASS = auto_class
        if peft:
            fit_vocabulary(self._model, peft, self.tokenizer, self._tokenizer_given, revision)
            self._model = add_adapter(self._model, peft, f"model_args peft={peft}", revision)
            _warn_of_base(self._model, peft, pretrained)
        # lm-eval ties weights once more: of two that differ it would drop one, and of an adapter's
        # own embeddings it knows nothing. What is one was tied by the load.
        self._model.tie_weights = lambda: None

    def _create_tokenizer(self, pretrained: Any, tokenizer: Any = None, **kwargs: Any) -> None:
        """Read the tokenizer, for an LVLM its processor.

        lm-eval's class for LVLMs returns the processor that it was asked for and uses none.
        """
        self._tokenizer_given = tokenizer is not None
        role = "pretrained" if tokenizer is None else "tokenizer"
        place = pretrained if tokenizer is None else tokenizer
        what = f"model_args {role}={place}"
        with reading(f"{what}: its tokenizer", "give tokenizer=DIR of a whole one"):
            try:
                processor = super()._create_tokenizer(  # type: ignore[misc]
                    pretrained, tokenizer, **kwargs
                )
            except AttributeError as error:
                raise ValueError(f"no processor is in it ({error})") from error
        if processor is not None:
            if not isinstance(processor, ProcessorMixin):
                raise ValueError(f"{what}: no processor is in it; give tokenizer=DIR of an LVLM's")
            self.processor, self.tokenizer = processor, processor.tokenizer
        if tokenizer is None and (file := kwargs.get("gguf_file")):
            take_out_invented_tokens(self.tokenizer, gguf_path(pretrained, file, kwargs))
        append_nothing(self.tokenizer, what)

    def _check_vocabulary(self, pretrained: Any, peft: Any) -> None:
        """Raise ValueError for tokens that have no embedding, naming what they may come from."""
        vars(self._model).pop("tie_weights", None)
        what = f"model_args pretrained={pretrained if isinstance(pretrained, str) else '(a model)'}"
        if peft:
            what += f",peft={peft}"
        fix = (
            "leave tokenizer= out, or give the one that the weights were trained with"
            if self._tokenizer_given
            else "give tokenizer=DIR of the one that the weights were trained with"
        )
        check_vocabulary(self._model, self.tokenizer, what, fix)


def _warn_of_base(adapted: Any, peft: str, pretrained: str) -> None:
    """Warn of an adapter that names another base; shapes do not tell Vicuna from Llama 2."""
    base = adapted.active_peft_config.base_model_name_or_path
    if base and Path(base).name != Path(pretrained).name:
        log.warning(
            "peft=%s: was trained on %s, it says; its base here is %s", peft, base, pretrained
        )
