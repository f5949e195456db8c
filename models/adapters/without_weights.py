"""A checkpoint without its weights: its prompts can be made and counted, and nothing is asked."""

from contextlib import suppress
from typing import Any

import torch
from transformers import GenerationConfig


class WithoutWeights:
    """Mixin in front of lm-eval's HFLM or a class of ours: shapes stand for the weights.

    Configuration, tokenizer or processor are read as that class reads them.
    """

    AUTO_MODEL_CLASS: Any
    config: Any
    _model: Any

    def _create_model(
        self, pretrained: str, revision: str | None = "main", subfolder: str = "", **kwargs: Any
    ) -> None:
        trusted = bool(kwargs.get("trust_remote_code"))
        with torch.device("meta"):
            self._model = self.AUTO_MODEL_CLASS.from_config(self.config, trust_remote_code=trusted)
        # Neither has anything to do: there is nothing on a device.
        self._model.to = lambda *places, **more: self._model
        self._model.tie_weights = lambda *tied, **more: None
        # A folder without one has what its configuration says.
        with suppress(OSError):
            self._model.generation_config = GenerationConfig.from_pretrained(
                pretrained, revision=revision, subfolder=subfolder
            )

    def _check_vocabulary(self, pretrained: Any, peft: Any) -> None:
        """Compare nothing: an adapter's new tokens have no shape here."""
