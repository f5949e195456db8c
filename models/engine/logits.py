"""Logits of hidden states, by a model's own forward.

What stands behind the decoder is more than a matrix in many families: logits are scaled (Cohere,
Granite) or capped (Gemma 2). So the model's own forward makes them, with its decoder's output put
in the decoder's place for the call.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from verbalizer_bench.models.engine.support import base_model, language_model


class LogitsHead:
    """What makes logits of a loaded model's hidden states."""

    def __init__(self, model: Any) -> None:
        """Take a causal or image-text-to-text model of transformers."""
        self.model = base_model(model)
        # Some call the decoder past the model around it.
        inner = getattr(self.model, "model", None), self.model.base_model, language_model(model)
        self._inner = {id(part): part for part in inner if part not in (None, self.model)}
        self.device: torch.device = self.model.get_output_embeddings().weight.device

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return float32 logits, (..., V), of hidden states, (..., width).

        float32 whatever the model's type, as in `generate`.
        """
        rows = hidden.reshape(-1, 1, hidden.shape[-1])
        # Only its shape is read: no embedding is looked up.
        ids = torch.zeros(len(rows), 1, dtype=torch.long, device=hidden.device)
        with ExitStack() as stack:
            for part in self._inner.values():
                stack.enter_context(_replaced(part, rows))
            logits: torch.Tensor = self.model(input_ids=ids, use_cache=False).logits
        return logits.view(*hidden.shape[:-1], -1).float()


class _Output:
    """A decoder's output of which only the last hidden state is there."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, place: int) -> torch.Tensor:
        return (self.last_hidden_state,)[place]

    def __getattr__(self, name: str) -> None:
        return None


@contextmanager
def _replaced(decoder: Any, hidden: torch.Tensor) -> Iterator[None]:
    """Have a module return these hidden states instead of running, for the time of a call."""
    before = vars(decoder).get("forward")
    decoder.forward = lambda *args, **kwargs: _Output(hidden)
    try:
        yield
    finally:
        if before is None:
            del decoder.forward
        else:
            decoder.forward = before
