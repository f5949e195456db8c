"""Stop strings with an answer for each row, for `generate` and the shared-prefix engine alike."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria

# Says of rows of new tokens, (rows, n), which of them have come to their end, (rows,).
Stopped = Callable[[torch.Tensor], torch.Tensor]


class StopStrings:
    """Do the newest tokens of a row hold a stop string? Stateless: each row is asked by itself."""

    def __init__(self, stops: Sequence[str], tokenizer: Any) -> None:
        """Look for `stops`, none of them empty."""
        self.stops, self.tokenizer = stops, tokenizer
        # A token has at least one byte, so no stop string reaches further back than its bytes; one
        # more, since decoding drops the space in front of the first token.
        self.window = max(len(stop.encode()) for stop in stops) + 1

    def __call__(self, new_tokens: torch.Tensor) -> torch.Tensor:
        """Return which rows hold a stop string, (rows,).

        Args:
            new_tokens: (rows, n), without the prompt; rows are prompts, beams or beam candidates.
        """
        texts = self.tokenizer.batch_decode(new_tokens[:, -self.window :])
        found = [any(stop in text for stop in self.stops) for text in texts]
        return torch.tensor(found, device=new_tokens.device)


class StopCriterion(StoppingCriteria):
    """What has come to its end as a criterion of `generate`, whose rows begin with the prompt."""

    def __init__(self, stopped: Stopped, prompt_length: int) -> None:
        """Ask `stopped` about what comes after the first `prompt_length` tokens."""
        self.stopped, self.prompt_length = stopped, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Return a bool tensor of shape (rows,)."""
        return self.stopped(input_ids[:, self.prompt_length :])
