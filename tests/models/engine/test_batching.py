"""How many prompts are taken at a time: by tokens, and by memory."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
)

from verbalizer_bench.models.engine import batching
from verbalizer_bench.models.engine.batching import (
    TokenBudget,
    even_batch_size,
    free_memory,
    in_batches,
    kv_cache_bytes,
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
    monkeypatch.setattr(batching, "free_memory", lambda model: PLENTY)
    assert size(lengths, beams) == expected


def test_a_batch_is_what_half_of_the_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    # Own tokens: 3 + 5 x 2 = 13, 1664 bytes a prompt. A pass: 40 x (448 + 16 x (10 + 13)) = 32640.
    for prompts in (1, 4, 11):
        needed = 32640 + prompts * 1664
        monkeypatch.setattr(batching, "free_memory", lambda model, n=needed: 2 * n)
        assert size([3] * 100) == prompts
    monkeypatch.setattr(batching, "free_memory", lambda model: 0)
    assert size([3] * 100) == 1


def test_the_beams_of_a_long_response_share_most_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Own tokens: 3 + 1000 + 64 = 1067, 136,576 bytes a prompt; 40 x (448 + 16 x 1077) = 707,200.
    needed = 707200 + 3 * 136576
    monkeypatch.setattr(batching, "free_memory", lambda model: 2 * needed)
    assert size([3] * 100, new_tokens=1000) == 3


def test_low_precision_may_take_a_layer_once_more_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MODEL, "dtype", torch.bfloat16)
    # As above in half the bytes but for the scores: 13 tokens are 832 bytes a prompt, a pass is
    # 40 x (224 + 16 x 23) = 23680; a layer in float32 is 64 bytes for 10 tokens and each prompt's.
    for prompts in (1, 4, 11):
        needed = 23680 + prompts * 832 + (10 + prompts * 13) * 64
        monkeypatch.setattr(batching, "free_memory", lambda model, n=needed: 2 * n)
        assert size([3] * 100) == prompts


def test_free_on_a_gpu_is_what_the_driver_and_the_allocator_have_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = {0: (50, 30, 10), 1: (20, 25, 24)}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda d: (left[d.index][0], 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda d: left[d.index][1])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda d: left[d.index][2])
    where = [SimpleNamespace(device=torch.device("cuda", index)) for index in (0, 1)]
    assert free_memory(SimpleNamespace(parameters=lambda: where[:1])) == 50 + 30 - 10
    # The fullest of several.
    assert free_memory(SimpleNamespace(parameters=lambda: where)) == 20 + 25 - 24


# Sizes that are no plain width / heads: a head size of its own, latent attention, a text model in
# a vision-language model's configuration, experts.
SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 4,
    "q_lora_rank": None,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 2,
}
# The head size of full attention is another.
PER_LAYER = {
    "head_dim": 4,
    "layer_types": ["sliding_attention", "full_attention"],
    "hidden_size_per_layer_input": 0,
}
ROTARY = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1]}}


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("llama", SMALL),
        ("qwen3", SMALL | {"head_dim": 12}),
        ("gpt2", {"vocab_size": 32, "n_embd": 16, "n_layer": 2, "n_head": 4}),
        ("mixtral", SMALL | {"num_local_experts": 2}),
        ("deepseek_v3", SMALL | LATENT),
        ("gemma4_text", SMALL | PER_LAYER),
        ("qwen2_vl", {"text_config": SMALL | ROTARY, "vision_config": {"depth": 0}}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keys_and_values_take_as_many_bytes_as_attention_is_given(
    model_type: str, settings: dict[str, Any], dtype: torch.dtype
) -> None:
    given = []

    def attention(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, None]:
        given.extend((key.nbytes, value.nbytes))
        rows, heads, length, _size = query.shape
        return query.new_zeros(rows, length, heads, value.shape[3]), None

    AttentionInterface.register("bytes_of_keys_and_values", attention)
    config = AutoConfig.for_model(model_type, **settings)
    kind = AutoModelForImageTextToText if "text_config" in settings else AutoModelForCausalLM
    model = kind.from_config(config, dtype=dtype, attn_implementation="bytes_of_keys_and_values")
    with torch.inference_mode():
        model(torch.tensor([[1, 2, 3]]))
    assert sum(given) == 3 * kv_cache_bytes(model)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([2] * 8, 8),
        ([2] * 9, 5),
        ([2] * 16, 8),
        ([2] * 17, 8),
        # Half would leave four long ones, of which two fit.
        ([2, 2, 2, 2, 8, 8, 8, 8], 4),
        ([2, 2, 2, 2, 2, 8, 8], 5),
        ([20], 1),
    ],
)
def test_of_two_batches_none_is_of_a_few(lengths: list[int], expected: int) -> None:
    def fitting(coming: Sequence[int]) -> int:
        return max(1, sum(length * (place + 1) <= 16 for place, length in enumerate(coming)))

    assert even_batch_size(lengths, fitting) == expected


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
