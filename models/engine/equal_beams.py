"""Stop where `generate` gives the beams of a prompt different inputs.

Beams are equal before the first token. In some releases of transformers they are not: `generate` of
5.23 repeats the images of a prompt for its beams one by one, so that with several images beams of
GLM-4V and Fuyu see others than the prompt's, without a word.
"""

import torch
from transformers import LogitsProcessor

# How much of their probability two beams may give to different tokens: sums round otherwise.
_TOLERANCE, _LOW_PRECISION_TOLERANCE = 1e-3, 0.05


class EqualBeams(LogitsProcessor):
    """Raise ValueError within `generate` where beams differ before the first token."""

    def __init__(self, beams: int, prompt_length: int, dtype: torch.dtype) -> None:
        """Take the beams of a prompt, the length of the padded prompts, and the model's type."""
        self.beams, self.prompt_length = beams, prompt_length
        exact = dtype in (torch.float32, torch.float64)
        self.tolerance = _TOLERANCE if exact else _LOW_PRECISION_TOLERANCE

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores`, (prompts x beams, V), as they are."""
        if input_ids.shape[1] == self.prompt_length:
            probabilities = torch.softmax(scores.float(), dim=-1).unflatten(0, (-1, self.beams))
            apart = (probabilities - probabilities[:, :1]).abs().sum(-1).max() / 2
            if apart > self.tolerance:
                raise ValueError(
                    f"generate shows the beams of a prompt different inputs: {float(apart):.0%} of "
                    "their first token's probability differs; this transformers repeats several "
                    "images wrongly for this model: use engine=auto, num_beams=1 or one image"
                )
        return scores
