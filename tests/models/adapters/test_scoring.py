"""Loglikelihoods with shared prefixes are those of a plain forward pass, batch or no batch."""

import random
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from tokenizers.processors import ByteLevel

from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.models.engine.shared_prefix import SharedPrefixEngine

WORDS = ["the", "movie", "is", "good", "bad", "yes", "no", "foo", "bar", "lake", "sentence", "was"]


def requests(contexts: int, seed: int = 0) -> list[Instance]:
    """Return label words and longer endings of contexts that share much, little or nothing."""
    rng = random.Random(seed)
    instruction = " ".join(rng.choices(WORDS, k=40))
    found = []
    for number in range(contexts):
        shared = instruction if number % 3 else ""
        context = f"{shared} {' '.join(rng.choices(WORDS, k=rng.randint(1, 20)))}".strip()
        endings = [" foo", " bar"] if number % 2 else [" yes", " really not good", " no"]
        if number % 5 == 0:
            endings.append(" " + " ".join(rng.choices(WORDS, k=20)))
        for ending in endings:
            found.append(Instance("loglikelihood", {}, (context, ending), 0))
    found.append(Instance("loglikelihood", {}, ("", "foo bar"), 0))
    return found


def same(found: list[Any], expected: list[Any]) -> None:
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [value for value, _ in found] == pytest.approx([v for v, _ in expected], abs=2e-3)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_llm(toys: tuple[Path, Path], batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = VerbalizerLLM(str(toys[0]), device="cpu", dtype="float32", engine="generate")
    shared = VerbalizerLLM(
        str(toys[0]), device="cpu", dtype="float32", engine="shared_prefix", batch_size=batch_size
    )
    scored = count_scored(monkeypatch)
    asked = requests(20)
    same(shared.loglikelihood(asked, disable_tqdm=True), plain.loglikelihood(asked, True))
    assert sum(scored) == len(asked) - 4


@pytest.mark.parametrize("image", ["white", "none"])
def test_lvlm(toys: tuple[Path, Path], image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"device": "cpu", "dtype": "float32", "image": image}
    plain = VerbalizerLVLM(str(toys[1]), engine="generate", **options)
    shared = VerbalizerLVLM(str(toys[1]), engine="shared_prefix", **options)
    scored = count_scored(monkeypatch)
    asked = requests(8, seed=1)
    same(shared.loglikelihood(asked, disable_tqdm=True), plain.loglikelihood(asked, True))
    assert sum(scored) >= len(asked) - 3


def count_scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by how many continuations the engine scores."""
    original, counts = SharedPrefixEngine._score, []

    def score(self: Any, batch: Any, continuations: Any, *rest: Any) -> Any:
        counts.append(sum(map(len, continuations)))
        return original(self, batch, continuations, *rest)

    monkeypatch.setattr(SharedPrefixEngine, "_score", score)
    return counts


def test_what_does_not_fit_is_left_to_lm_eval(toys: tuple[Path, Path]) -> None:
    plain = VerbalizerLLM(
        str(toys[0]), device="cpu", dtype="float32", engine="generate", max_length=64
    )
    shared = VerbalizerLLM(
        str(toys[0]), device="cpu", dtype="float32", engine="shared_prefix", max_length=64
    )
    asked = requests(12)
    same(shared.loglikelihood(asked, disable_tqdm=True), plain.loglikelihood(asked, True))


def test_only_short_continuations_in_batches_of_their_own_size(toys: tuple[Path, Path]) -> None:
    lm = VerbalizerLLM(str(toys[0]), device="cpu", dtype="float32", batch_size="auto")
    ((value, _),) = lm.loglikelihood(
        [Instance("loglikelihood", {}, ("the movie", " foo"), 0)], True
    )
    assert value < 0


def test_generation_settings_of_a_checkpoint_change_no_score(toys: tuple[Path, Path]) -> None:
    options = {"device": "cpu", "dtype": "float32"}
    plain = VerbalizerLLM(str(toys[0]), engine="generate", **options)
    shared = VerbalizerLLM(str(toys[0]), engine="shared_prefix", **options)
    shared.model.generation_config.repetition_penalty = 1.5
    asked = requests(3)
    same(shared.loglikelihood(asked, disable_tqdm=True), plain.loglikelihood(asked, True))


def test_nothing_is_kept_of_weights_that_changed(toys: tuple[Path, Path]) -> None:
    plain, shared = (
        VerbalizerLLM(str(toys[0]), device="cpu", dtype="float32", engine=engine)
        for engine in ("generate", "shared_prefix")
    )
    # Two contexts with the long instruction.
    asked = requests(3)[4:-1]
    before = shared.loglikelihood(asked, disable_tqdm=True)
    for lm in (plain, shared):
        for weight in lm.model.parameters():
            weight.data *= 1.2
    after = shared.loglikelihood(asked, disable_tqdm=True)
    same(after, plain.loglikelihood(asked, disable_tqdm=True))
    assert after != before


@pytest.mark.parametrize("engine", ["generate", "auto"])
@pytest.mark.parametrize("adapter", [VerbalizerLLM, VerbalizerLVLM])
def test_a_context_of_white_space_alone(
    toys: tuple[Path, Path], adapter: type, engine: str
) -> None:
    options = {"image": "none"} if adapter is VerbalizerLVLM else {}
    folder = toys[adapter is VerbalizerLVLM]
    lm = adapter(str(folder), device="cpu", dtype="float32", engine=engine, **options)
    # A tokenizer that adds no BOS.
    lm.tokenizer.backend_tokenizer.post_processor = ByteLevel(trim_offsets=False)
    assert lm.tokenizer("")["input_ids"] == []
    spaces, nothing = (
        lm.loglikelihood([Instance("loglikelihood", {}, pair, 0)], disable_tqdm=True)
        for pair in ((" ", "yes"), ("", " yes"))
    )
    same(spaces, nothing)
