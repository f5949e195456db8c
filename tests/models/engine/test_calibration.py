"""A device's budget is chosen from what passes took and what memory is free; no clock is asked."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.helpers.asking import requests
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.engine import calibration
from verbalizer_bench.models.engine.batching import TokenBudget, kv_cache_bytes
from verbalizer_bench.models.engine.calibration import PASSES, Calibration, calibrate, pass_timer
from verbalizer_bench.models.engine.decoder import EncodedPrompt
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.engine.shared_prefix import SharedPrefixEngine

GIB = 2**30
BEAMS = GenerationSettings(5, (), {"num_beams": 3, "do_sample": False})


@pytest.fixture(scope="module")
def engine(toys: tuple[Path, Path]) -> SharedPrefixEngine:
    model = AutoModelForCausalLM.from_pretrained(toys[0], dtype=torch.float32).eval()
    return SharedPrefixEngine(model, pad_token_id=0, eos_token_ids=[2])


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "free_memory", lambda model: 8 * GIB)


def launches_and_work(launches: float, a_token: float) -> Callable[[int], float]:
    """Return the seconds of a pass that waits for launches, or computes for so long a token."""
    return lambda tokens: max(launches, tokens * a_token)


@pytest.mark.parametrize(
    ("launches", "a_token", "expected"),
    [
        (0.025, 22e-6, 2048),  # 7B on an H100: 1,137 tokens take as long as their launches
        (0.025, 60e-6, 512),
        (0.025, 1e-6, 8192),  # so small a model that launches decide at any width
        (0.0, 1e-3, 128),
    ],
)
def test_the_narrowest_pass_near_the_best_rate_is_taken(
    engine: SharedPrefixEngine, launches: float, a_token: float, expected: int
) -> None:
    found = calibrate(engine.model, launches_and_work(launches, a_token))
    assert found.budget.tokens_per_pass == expected


def test_a_pass_is_timed_twice_after_one_that_is_not_counted(engine: SharedPrefixEngine) -> None:
    asked: list[int] = []

    def seconds(tokens: int) -> float:
        asked.append(tokens)
        # The first of a width takes a second more, the second is disturbed.
        return tokens * 1e-6 + {0: 1.0, 1: 0.01, 2: 0.0}[asked.count(tokens) - 1]

    found = calibrate(engine.model, seconds)
    assert asked == [tokens for tokens in PASSES for _ in range(3)]
    assert found.rates == pytest.approx(dict.fromkeys(PASSES, 1e6))


def test_a_slow_device_is_not_asked_for_long(engine: SharedPrefixEngine) -> None:
    asked = []

    def seconds(tokens: int) -> float:
        asked.append(tokens)
        return tokens * 1e-3

    found = calibrate(engine.model, seconds)
    # Counted are 2 x (0.128 + 0.256 + 0.512) = 1.8 s; 2 x 1.024 s more would be above 2.
    assert list(found.rates) == [128, 256, 512]
    assert sum(tokens * 1e-3 for tokens in asked) == pytest.approx(2.688)


def test_out_of_memory_leaves_the_narrower_passes(engine: SharedPrefixEngine) -> None:
    def seconds(tokens: int) -> float:
        if tokens > 1024:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 0.02

    found = calibrate(engine.model, seconds)
    assert list(found.rates) == [128, 256, 512, 1024]
    assert found.budget.tokens_per_pass == 1024


def test_where_no_pass_fits_the_narrowest_is_taken(engine: SharedPrefixEngine) -> None:
    def seconds(tokens: int) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    found = calibrate(engine.model, seconds)
    assert found.budget.tokens_per_pass == PASSES[0] and not found.rates


def test_any_other_error_is_one(engine: SharedPrefixEngine) -> None:
    def seconds(tokens: int) -> float:
        raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        calibrate(engine.model, seconds)


def test_keys_and_values_and_logits_come_from_the_free_memory(
    engine: SharedPrefixEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        found = calibrate(engine.model, launches_and_work(0.025, 22e-6))
    assert found.budget.kv_cache_tokens == 4 * GIB // kv_cache_bytes(engine.model)
    assert found.budget.logits == 8 * GIB // 16 // 16
    (line,) = [record.message for record in caplog.records if "tokens a pass" in record.message]
    assert "2048 tokens a pass" in line and "8192: 45455" in line and "8.0 GiB" in line
    record = found.record()
    assert record["tokens_per_pass"] == 2048 and record["free_gib"] == 8.0
    assert record["tokens_a_second"]["128"] == 5120


def test_timing_passes_changes_no_response_and_draws_no_random_number(
    engine: SharedPrefixEngine,
) -> None:
    front = list(range(5, 40))
    prompts = [EncodedPrompt([*front, *range(50 + n, 60 + 2 * n)]) for n in range(9)]
    before = dict(engine.generate(prompts, BEAMS, None))
    state, budget = torch.get_rng_state(), engine.decoder.budget
    ticks = iter(range(1000))
    seconds = pass_timer(engine.decoder, lambda: float(next(ticks)))
    assert [seconds(tokens) for tokens in (128, 256)] == [1.0, 1.0]
    assert torch.equal(torch.get_rng_state(), state) and engine.decoder.budget == budget
    assert dict(engine.generate(prompts, BEAMS, None)) == before
    # Nor does what is chosen from them.
    engine.decoder.budget = TokenBudget(tokens_per_pass=8192, kv_cache_tokens=10**6, logits=10**8)
    assert dict(engine.generate(prompts, BEAMS, None)) == before
    engine.decoder.budget = budget


def test_a_cpu_keeps_its_budget(engine: SharedPrefixEngine) -> None:
    budget = engine.decoder.budget
    assert engine.calibrate() is None and engine.decoder.budget == budget


def test_an_adapter_measures_once_and_its_record_says_what(
    toys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = VerbalizerLLM(str(toys[0]), device="cpu", engine="shared_prefix")
    assert lm.get_model_info()["verbalizer_bench"]["calibration"] is None
    measured = calibrate(lm.model, launches_and_work(0.025, 22e-6))
    known = []

    def on_a_gpu(engine: SharedPrefixEngine, before: Calibration | None) -> Calibration:
        known.append(before)
        return measured

    monkeypatch.setattr(SharedPrefixEngine, "calibrate", on_a_gpu)
    for _ in range(2):
        lm.generate_until(requests(["one prompt"]), disable_tqdm=True)
    assert known == [None, measured]
    record = lm.get_model_info()["verbalizer_bench"]["calibration"]
    assert record["tokens_per_pass"] == 2048
