"""What transformers' `generate` makes of one prompt, which the shared-prefix engine must equal."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

# Two hypotheses whose reference scores differ by less are tied: float sums in another order decide.
TIE = 1e-5


def reference(
    model: Any, ids: list[int], eos: int, pad: int, new: int, **kwargs: Any
) -> tuple[list[int], float | None]:
    """Return the new tokens of one prompt, and what beam search ranks them by."""
    output = model.generate(
        torch.tensor([ids]),
        do_sample=False,
        max_new_tokens=new,
        eos_token_id=eos,
        pad_token_id=pad,
        return_dict_in_generate=True,
        output_scores=True,
        **kwargs,
    )
    score = float(output.sequences_scores[0]) if kwargs["num_beams"] > 1 else None
    tokens = output.sequences[0, len(ids) :].tolist()
    return tokens[: tokens.index(eos) + 1] if eos in tokens else tokens, score


def is_tie(
    model: Any,
    ids: list[int],
    found: Sequence[int],
    expected: tuple[list[int], float | None],
    penalty: float,
) -> bool:
    """Say whether a response differs from the expected one by a tie; they must be equal else."""
    tokens, score = expected
    if list(found) == tokens:
        return False
    assert score is not None, (ids, found, tokens)
    assert score_of(model, ids, found, penalty) == pytest.approx(score, abs=TIE), (
        ids,
        found,
        tokens,
    )
    return True


def score_of(model: Any, ids: list[int], tokens: Sequence[int], penalty: float) -> float:
    """Return what beam search ranks a response by."""
    with torch.no_grad():
        scores = model(torch.tensor([ids + list(tokens)])).logits[0].log_softmax(-1)
    total = sum(float(scores[len(ids) - 1 + i, token]) for i, token in enumerate(tokens))
    return total / len(tokens) ** penalty
