"""Outputs do not depend on batches: the property that lm-eval's own models lack."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval.models.huggingface import HFLM

from tests.helpers.asking import STORY, load, requests
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.engine import batching
from verbalizer_bench.models.engine.batching import auto_batch_size, in_batches
from verbalizer_bench.models.engine.stop_strings import StopCriterion, StopStrings
from verbalizer_bench.tasks.data import test_documents as documents_of
from verbalizer_bench.tasks.suite import suite_datasets


def task_prompts() -> list[str]:
    """Return four prompts of each data set under four verbalizers, and four stories."""
    prompts = []
    for spec, verbalizers in suite_datasets().values():
        docs = documents_of(spec, "sample").docs
        prompts += [spec.render(docs[i], verbalizers[3 * i]) for i in range(4)]
    return [*prompts, *(STORY[:end] for end in (20, 60, 100, 160))]


def one_by_one(lm: Any, prompts: Sequence[str], **kwargs: Any) -> list[str]:
    """Return what plain `generate` makes of each prompt alone."""
    outputs = []
    for prompt in prompts:
        ids = lm.tokenizer(prompt, return_tensors="pt")["input_ids"]
        output = lm.model.generate(
            ids, num_beams=10, do_sample=False, max_new_tokens=15, pad_token_id=2, **kwargs
        )
        outputs.append(lm.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
    return outputs


ENGINES = ("generate", "shared_prefix")


@pytest.fixture(scope="module")
def ours(stories: Path) -> VerbalizerLLM:
    return load(VerbalizerLLM, stories, engine="generate")


def test_beams_equal_generate_one_by_one_at_every_batch_size(stories: Path) -> None:
    prompts = task_prompts()
    assert len(prompts) == 40
    expected = None
    for engine in ENGINES:
        lm = load(VerbalizerLLM, stories, engine=engine)
        expected = expected or one_by_one(lm, prompts)
        for size in (1, 7, 40):
            lm.batch_size_per_gpu = size
            found = lm.generate_until(requests(prompts), disable_tqdm=True)
            assert found == expected, (engine, size)
        assert lm.get_model_info()["verbalizer_bench"]["engine"] == {engine: 120}


def end_at_full_stops(lm: Any) -> int:
    """Make `.` the end of a response: a real model that often ends early, its weights untouched."""
    stop = lm.tokenizer.convert_tokens_to_ids(".")
    lm.tokenizer.eos_token = "."
    lm.model.generation_config.eos_token_id = stop
    return stop


def test_beams_that_end_early_and_the_stock_model_that_gets_them_wrong(stories: Path) -> None:
    """Documents lm-eval 0.4.13: its `hf` depends on the batch size where responses end early."""
    words = STORY.split()
    prompts = [" ".join(words[:count]) for count in range(2, 42)]
    for engine in ENGINES:
        lm = load(VerbalizerLLM, stories, engine=engine)
        stop = end_at_full_stops(lm)
        expected = one_by_one(lm, prompts, eos_token_id=stop)
        assert sum(text.endswith(".") for text in expected) > 20
        for size in (1, 7, 40):
            lm.batch_size_per_gpu = size
            found = lm.generate_until(requests(prompts), disable_tqdm=True)
            assert found == expected, (engine, size)

    stock = load(HFLM, stories)
    end_at_full_stops(stock)
    # The stock model cuts the stop string off.
    reference = [text.split(".")[0] for text in expected]
    wrong = {}
    for size in (1, 40):
        stock.batch_size_per_gpu = size
        outputs = stock.generate_until(requests(prompts), disable_tqdm=True)
        wrong[size] = sum(a != b for a, b in zip(outputs, reference, strict=True))
    assert wrong[1] > wrong[40], wrong


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    chosen=st.lists(st.integers(0, 39), min_size=1, max_size=6),
    size=st.integers(1, 6),
    beams=st.integers(1, 10),
)
def test_neighbours_do_not_matter(
    ours: VerbalizerLLM, chosen: list[int], size: int, beams: int
) -> None:
    prompts = [task_prompts()[index] for index in chosen]
    ours.batch_size_per_gpu = 1
    alone = [
        ours.generate_until(requests([p], num_beams=beams), disable_tqdm=True)[0] for p in prompts
    ]
    ours.batch_size_per_gpu = size
    together = ours.generate_until(requests(prompts, num_beams=beams), disable_tqdm=True)
    assert together == alone


@pytest.mark.parametrize("engine", ENGINES)
def test_stop_strings_end_rows_one_by_one(stories: Path, engine: str) -> None:
    lm = load(VerbalizerLLM, stories, engine=engine)
    prompts = task_prompts()[-4:]
    full = lm.generate_until(requests(prompts, num_beams=1), disable_tqdm=True)
    for size in (1, 4):
        lm.batch_size_per_gpu = size
        cut = lm.generate_until(requests(prompts, num_beams=1, until=["a"]), disable_tqdm=True)
        assert cut == [text.split("a")[0] for text in full]


def test_both_engines_stop_beams_alike(stories: Path) -> None:
    answers = []
    for engine in ("generate", "auto"):
        lm = load(VerbalizerLLM, stories, engine=engine)
        asked = [
            request
            for until in ([" the", "to "], ["a", "an", "and"])
            for request in requests(task_prompts()[::4], until=until)
        ]
        answers.append(lm.generate_until(asked, disable_tqdm=True))
        record = lm.get_model_info()["verbalizer_bench"]
        assert record["engine"] == {"generate" if engine == "generate" else "shared_prefix": 20}
        assert record["endings"]["stop"] > 8
    assert answers[0] == answers[1]


def test_a_stop_string_is_left_to_eos_only_where_it_ends_a_response(stories: Path) -> None:
    lm = load(VerbalizerLLM, stories)
    lm.tokenizer.eos_token = "."
    prompts = task_prompts()[-4:]
    full = lm.generate_until(requests(prompts, num_beams=1), disable_tqdm=True)
    assert any("." in text for text in full)
    cut = lm.generate_until(requests(prompts, num_beams=1, until=["."]), disable_tqdm=True)
    assert cut == [text.split(".")[0] for text in full]


def test_stop_strings_answer_for_each_row(ours: VerbalizerLLM) -> None:
    encode = ours.tokenizer.encode
    rows = ["the end.", "the endless", "no end here"]
    ids = [encode(f"{STORY[:10]} {row}") for row in rows]
    longest = max(map(len, ids))
    batch = torch.tensor([[2] * (longest - len(row)) + row for row in ids])
    prompt_length = longest - min(map(len, ids))
    criterion = StopCriterion(StopStrings(("end.", "here"), ours.tokenizer), prompt_length)
    assert criterion(batch, None).tolist() == [True, False, True]


def test_the_prompt_is_no_part_of_a_stop_string(ours: VerbalizerLLM) -> None:
    ids = torch.tensor([ours.tokenizer.encode("the end. the dog")])
    assert not StopCriterion(StopStrings(("end.",), ours.tokenizer), 6)(ids, None).any()


def test_mixed_settings_keep_their_order(ours: VerbalizerLLM) -> None:
    prompts = task_prompts()[-4:]
    ours.batch_size_per_gpu = 4
    mixed = [
        instance
        for prompt in prompts
        for instance in (*requests([prompt], max_gen_toks=3), *requests([prompt], num_beams=1))
    ]
    random.Random(0).shuffle(mixed)
    expected = [ours.generate_until([instance], disable_tqdm=True)[0] for instance in mixed]
    assert ours.generate_until(mixed, disable_tqdm=True) == expected


def test_out_of_memory_halves_the_batch_and_goes_on(
    ours: VerbalizerLLM, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = task_prompts()[-4:] * 3
    ours.batch_size_per_gpu = 1
    expected = ours.generate_until(requests(prompts), disable_tqdm=True)
    original, sizes = ours.model.generate, []

    def generate(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        sizes.append(len(input_ids))
        if len(input_ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return original(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(ours.model, "generate", generate)
    ours.batch_size_per_gpu = 12
    assert ours.generate_until(requests(prompts), disable_tqdm=True) == expected
    assert sizes == [12, 6, 3, 3, 3, 3]
    assert "going on with batches of 3" in caplog.text


def test_a_batch_of_one_that_does_not_fit_is_an_error() -> None:
    def run(batch: Sequence[int]) -> list[int]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(MemoryError, match="a batch of one prompt"):
        list(in_batches([1, 2, 3], 2, run))


def test_other_errors_are_not_taken_for_out_of_memory() -> None:
    def run(batch: Sequence[int]) -> list[int]:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(in_batches([1, 2], 2, run))


def test_automatic_batch_size(ours: VerbalizerLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = task_prompts()[:6]
    ours.batch_size_per_gpu = 1
    expected = ours.generate_until(requests(prompts), disable_tqdm=True)
    ours.batch_size_per_gpu = "auto"
    assert ours.generate_until(requests(prompts), disable_tqdm=True) == expected

    class Memory:
        available = 64 * 2**20

    monkeypatch.setattr(batching.psutil, "virtual_memory", lambda: Memory)
    sizes = [auto_batch_size(ours.model, tokens, 10, 64) for tokens in (50, 200, 5000)]
    assert 64 >= sizes[0] > sizes[1] >= sizes[2] == 1
