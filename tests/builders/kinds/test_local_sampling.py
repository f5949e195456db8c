"""Completions of a checkpoint on this machine: text and images, interrupted and gone on with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.checkpoints import clone
from tests.helpers.endpoint_server import Server
from tests.helpers.preference import (
    Assistant,
    outputs,
    photographs,
    questions,
    rated,
    recipe,
    rejections,
)
from verbalizer_bench.builders.build import build
from verbalizer_bench.builders.kinds import local_sampling
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import TrainingSample, read_samples
from verbalizer_bench.running.resume_hints import build_hint


def made_from(
    folder: Path, checkpoint: Path, server: Server, rows: list[dict[str, Any]], **settings: Any
) -> DataRecipe:
    """Return a recipe whose completions are sampled here; only the judge is an endpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    sampled = {
        "model": "verbalizer-lvlm" if checkpoint.name == "llava" else "verbalizer-llm",
        "model_args": {"pretrained": str(checkpoint), "dtype": "float32", "device": "cpu"},
        "max_tokens": 6,
        "batch_size": 4,
        "temperature": 2.0,
        **settings,
    }
    made = recipe(folder, server.url, rows)
    endpoints = {"judge": json.loads(json.dumps(vars(made.endpoints["judge"])))}
    return recipe(
        folder,
        server.url,
        rows,
        endpoints=endpoints,
        completions={"k": 2, "cut_off": "keep", "checkpoint": sampled},
    )


def sampled(made: DataRecipe) -> list[TrainingSample]:
    return read_samples(made.work / "2_completions.jsonl")


def test_text_and_images_are_sampled_by_the_adapters(
    toys: tuple[Path, Path], serve: Callable[..., Server], tmp_path: Path
) -> None:
    photographs()
    server = serve(Assistant())
    made = made_from(tmp_path, toys[1], server, questions(6, True))
    build(made)
    samples = sampled(made)
    assert sum(bool(sample.image) for sample in samples) == 3
    for sample in samples:
        assert [one.ending for one in sample.candidates] == ["length"] * 2 or any(
            one.ending == "stop" for one in sample.candidates
        )
        assert all(one.seed is not None for one in sample.candidates)
    assert any(sample.candidates[0].text != sample.candidates[1].text for sample in samples)
    assert rated(made) and not any(one.body["model"] == "answerer" for one in server.requests)


def test_an_interrupted_build_ends_in_the_same_files_and_samples_nothing_twice(
    toys: tuple[Path, Path],
    serve: Callable[..., Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, rows = serve(Assistant()), questions(9)
    whole = made_from(tmp_path / "whole", toys[0], server, rows)
    build(whole)
    made = made_from(tmp_path / "again", toys[0], server, rows)
    batches: list[str] = []
    row = local_sampling.LocalSampler._row

    def counted(self: Any, key: str, batch: Any) -> Any:
        if len(batches) in (1, 3):
            batches.append("interrupted")
            raise KeyboardInterrupt
        batches.append(key)
        return row(self, key, batch)

    monkeypatch.setattr(local_sampling.LocalSampler, "_row", counted)
    for count in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            build(made)
        kept = f"{count} batches of completions are kept in {made.work / 'sampled.jsonl'}"
        assert build_hint(made, ["build", "x"]) == f"{kept}; `verbalizer-bench build x` goes on"
    build(made)
    done = [key for key in batches if key != "interrupted"]
    assert len(done) == len(set(done)) == 5
    assert outputs(made) == {
        name: content.replace(b"/whole/", b"/again/") for name, content in outputs(whole).items()
    }


def test_a_prompt_that_does_not_fit_is_set_aside(
    toys: tuple[Path, Path], serve: Callable[..., Server], tmp_path: Path
) -> None:
    rows = [*questions(3), {"question": "why? " * 900}]
    made = made_from(tmp_path, toys[0], serve(Assistant()), rows)
    build(made)
    assert rejections(made)["too_long"] == 1


def test_a_conversation_that_the_template_does_not_take_is_set_aside(
    toys: tuple[Path, Path], serve: Callable[..., Server], tmp_path: Path
) -> None:
    checkpoint = clone(toys[0], tmp_path / "llama")
    template = checkpoint / "chat_template.jinja"
    refuse = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    template.write_text(refuse + template.read_text())
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    rows = [*questions(5), {"messages": turns}]
    made = made_from(tmp_path / "made", checkpoint, serve(Assistant()), rows)
    build(made)
    assert rejections(made)["template"] == 1 and rated(made)


def test_a_checkpoint_that_changed_in_its_place_is_sampled_again(
    toys: tuple[Path, Path], serve: Callable[..., Server], tmp_path: Path
) -> None:
    checkpoint = clone(toys[0], tmp_path / "llama")
    made = made_from(tmp_path / "made", checkpoint, serve(Assistant()), questions(3))
    build(made)
    log = made.work / "sampled.jsonl"
    before = log.read_bytes()
    (checkpoint / "config.json").touch()
    build(made)
    assert log.read_bytes() == before
    template = checkpoint / "chat_template.jinja"
    template.write_text(template.read_text().replace("USER: ", "Q: "))
    build(made)
    assert log.read_bytes().startswith(before) and len(log.read_bytes()) > len(before)


def test_a_checkpoint_that_is_not_there_is_a_line(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    made = made_from(tmp_path, tmp_path / "llama", serve(Assistant()), questions(3))
    with pytest.raises(
        (ValueError, FileNotFoundError), match=r"completions\.checkpoint: model_args pretrained="
    ):
        build(made)


def test_a_checkpoint_without_a_chat_template_is_a_line(
    stories: Path, serve: Callable[..., Server], tmp_path: Path
) -> None:
    made = made_from(tmp_path, stories, serve(Assistant()), questions(3))
    with pytest.raises(ValueError, match=r"completions\.checkpoint: .* has no chat template"):
        build(made)
