"""The arithmetic of attention over two blocks: a prefix of all prompts, and each prompt's slots.

Both go through one softmax, so that the result is that of plain attention over their concatenation.
Scores, softmax and sums are float32 in low precision too; the output is rounded once and, on a GPU,
the weights of the values before it.
"""

from functools import cache
from typing import NamedTuple

import torch

KeyValue = tuple[torch.Tensor, torch.Tensor]


class Bias(NamedTuple):
    """What is added to scores: minus infinity where a query does not see a token, else 0.

    Attributes:
        prefix: (1, n, P), or (B, 1, P) while decoding; None where all of the prefix is seen.
        suffix: (1, n, C) or (B, n, C).
    """

    prefix: torch.Tensor | None
    suffix: torch.Tensor


def attend(
    query: torch.Tensor,
    prefix: KeyValue,
    suffix: KeyValue,
    bias: Bias,
    scaling: float,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend to the prefix and to a prompt's slots.

    Args:
        query: (Hk, B, n, D).
        prefix: Keys and values, (Hk, P, D).
        suffix: Keys and values of the slots, (Hk, B, C, D).
        bias: Added to the scores, in their type: float32 or more.
        scaling: Factor of the scores.
        softcap: Bound of the scores.
        sinks: A score of no key for each query, (Hk, 1, n).

    Returns:
        (Hk, B, n, D), in the type of `query`.
    """
    (prefix_key, prefix_value), (suffix_key, suffix_value) = prefix, suffix
    kind, dtype = query.dtype, bias.suffix.dtype
    split, end = prefix_key.shape[1], prefix_key.shape[1] + suffix_key.shape[2]
    if kind != suffix_key.dtype:
        query = query.to(suffix_key.dtype)
    if query.dtype == dtype:
        # In low precision that would be rounded.
        query, scaling = query * scaling, 1.0
    scores = query.new_empty(*query.shape[:3], end + (sinks is not None), dtype=dtype)
    own = scores[..., split:end]
    # All prompts' queries to the prefix are one matrix product a head.
    _multiply_into(scores.flatten(1, 2)[..., :split], query.flatten(1, 2), prefix_key.mT)
    own_scores = _multiply(query, suffix_key.mT, dtype)
    if scaling == 1.0 and softcap is None:
        torch.add(own_scores, bias.suffix, out=own)
    else:
        own.copy_(own_scores)
        scores *= scaling
        if softcap is not None:
            scores.div_(softcap).tanh_().mul_(softcap)
        own += bias.suffix
    if bias.prefix is not None:
        scores[..., :split] += bias.prefix
    if sinks is not None:
        scores[..., end] = sinks
    weights = torch.softmax(scores, dim=-1, out=scores)
    if query.dtype != dtype:
        weights = weights.to(query.dtype)
    output = _multiply(weights[..., split:end], suffix_value, dtype)
    _add_product(output.flatten(1, 2), weights.flatten(1, 2)[..., :split], prefix_value)
    return output if kind == dtype else output.to(kind)


def _multiply(first: torch.Tensor, second: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return products of matrices, (..., n, m), whose sums are of `dtype`."""
    matrices = first.flatten(0, -3), second.flatten(0, -3)
    if first.dtype == dtype:
        product = torch.bmm(*matrices)
    else:
        product = torch.bmm(*matrices, out_dtype=dtype)
    return product.view(*first.shape[:-1], -1)


def _multiply_into(out: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> None:
    if first.dtype == out.dtype:
        torch.bmm(first, second, out=out)
    else:
        out.copy_(torch.bmm(first, second, out_dtype=out.dtype))


def _add_product(total: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> None:
    if first.dtype == total.dtype:
        total.baddbmm_(first, second)
    else:
        total += torch.bmm(first, second, out_dtype=total.dtype)


@cache
def kept_dtype(device: str, dtype: torch.dtype) -> torch.dtype:
    """Return the type that keys and values are kept in: float32 in place of low precision.

    But on a device that multiplies low precision without rounding the sums to it (CUDA) they stay
    as they are.
    """
    if dtype in (torch.float32, torch.float64):
        return dtype
    one = torch.ones(1, 1, 1, dtype=dtype, device=device)
    try:
        torch.bmm(one, one, out_dtype=torch.float32)
    except (RuntimeError, TypeError):
        return torch.float32
    return dtype
