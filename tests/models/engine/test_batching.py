"""How many prompts are taken at a time: by tokens, and by memory."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

from verbalizer_bench.models.engine import batching
from verbalizer_bench.models.engine.batching import (
    TokenBudget,
    in_batches,
    shared_prefix_batch_size,
)

PLENTY = 2**40
BUDGET = TokenBudget(tokens_per_pass=40, kv_cache_tokens=100, logits=1)
# 2 layers x 2 (keys, values) x 2 heads x 4 x 4 bytes = 128 bytes of keys and values a token;
# activations (8 x 8 + 3 x 16) x 4 = 448 bytes.
CONFIG = SimpleNamespace(
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    intermediate_size=16,
    vocab_size=32,
)
MODEL = SimpleNamespace(
    config=SimpleNamespace(get_text_config=lambda: CONFIG),
    dtype=torch.float32,
    device=torch.device("cpu"),
)


def size(lengths: Sequence[int], beams: int = 2, new_tokens: int = 5) -> int:
    return shared_prefix_batch_size(MODEL, lengths, 10, BUDGET, new_tokens, beams)


@pytest.mark.parametrize(
    ("lengths", "beams", "expected"),
    [
        ([3] * 100, 2, 20),  # 40 tokens a pass, 2 a prompt; 20 x (3 + 2) = 100 in the cache
        ([3] * 7, 2, 7),
        ([8] * 100, 2, 10),  # 10 x (8 + 2) = 100 in the cache
        ([3, 3, 3, 48, 48], 2, 3),  # a fourth would have all four take 50
        ([500], 2, 1),
        ([3] * 100, 50, 1),
    ],
)
def test_a_batch_is_what_the_token_budget_allows(
    lengths: list[int], beams: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "_free_memory", lambda device: PLENTY)
    assert size(lengths, beams) == expected


def test_a_batch_is_what_half_of_the_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    # Own tokens: 3 + 5 x 2 = 13, 1664 bytes a prompt. A pass: 40 x (448 + 16 x (10 + 13)) = 32640.
    for prompts in (1, 4, 11):
        needed = 32640 + prompts * 1664
        monkeypatch.setattr(batching, "_free_memory", lambda device, n=needed: 2 * n)
        assert size([3] * 100) == prompts
    monkeypatch.setattr(batching, "_free_memory", lambda device: 0)
    assert size([3] * 100) == 1


def test_low_precision_copies_the_prefix_for_every_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODEL, "dtype", torch.bfloat16)
    # As above in half the bytes but for the scores: 13 tokens are 832 bytes a prompt, a pass is
    # 40 x (224 + 16 x 23) = 23680; a copied layer is 10 + 13 tokens of 32 bytes.
    for prompts in (1, 4, 11):
        needed = 23680 + prompts * (832 + 23 * 32)
        monkeypatch.setattr(batching, "_free_memory", lambda device, n=needed: 2 * n)
        assert size([3] * 100) == prompts


def test_the_size_is_asked_for_what_is_still_to_come() -> None:
    seen = []

    def run(batch: Sequence[int]) -> list[int]:
        seen.append(list(batch))
        return [-item for item in batch]

    found = dict(in_batches([1, 2, 3, 4, 5, 6], lambda coming: 3 if coming[0] < 4 else 2, run))
    assert seen == [[1, 2, 3], [4, 5], [6]]
    assert found == {item: -item for item in range(1, 7)}


def test_out_of_memory_limits_a_size_that_is_asked_for() -> None:
    sizes = []

    def run(batch: Sequence[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return list(batch)

    assert [item for item, _ in in_batches(list(range(8)), len, run)] == list(range(8))
    assert sizes == [8, 4, 2, 2, 2, 2]


def test_one_prompt_that_does_not_fit_is_an_error() -> None:
    def run(batch: Sequence[int]) -> list[int]:
        raise MemoryError

    with pytest.raises(MemoryError, match="with a batch of one prompt"):
        list(in_batches([1, 2], 2, run))
