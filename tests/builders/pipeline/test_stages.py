"""Stages: what is done is not done again, and each can be done alone."""

import asyncio
import json
from pathlib import Path

import pytest

from verbalizer_bench.builders.pipeline.sample import (
    Attempt,
    Instruction,
    Rejection,
    TrainingSample,
    Turn,
    read_samples,
)
from verbalizer_bench.builders.pipeline.stages import Pipeline, Stage


class Log:
    """Two stages that say when they work."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.done = folder, list[str]()

    def pipeline(self, images: int = 2, word: str = "yes") -> Pipeline:
        async def first(samples: list[TrainingSample]) -> list[TrainingSample]:
            self.done.append("images")
            return [TrainingSample(id=f"{n}") for n in range(images)]

        async def second(samples: list[TrainingSample]) -> list[TrainingSample]:
            self.done.append("items")
            return [TrainingSample(id=sample.id, turns=(Turn("?", word),)) for sample in samples]

        stages = [Stage("images", {"n": images}, first), Stage("items", {"word": word}, second)]
        return Pipeline(self.folder, stages)

    def run(self, only: str | None = None, **settings: object) -> list[str]:
        self.done.clear()
        asyncio.run(self.pipeline(**settings).run(only))  # type: ignore[arg-type]
        return list(self.done)


def test_a_complete_stage_is_not_done_again(tmp_path: Path) -> None:
    log = Log(tmp_path)
    assert log.run() == ["images", "items"]
    assert log.run() == []
    assert log.run(word="no") == ["items"]
    assert read_samples(tmp_path / "2_items.jsonl")[1].turns == (Turn("?", "no"),)
    assert log.run(images=3, word="no") == ["images", "items"]
    assert log.pipeline(images=3, word="no").pending() == []


def test_a_file_that_was_changed_or_lost_is_made_again(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.run()
    before = (tmp_path / "2_items.jsonl").read_bytes()
    (tmp_path / "2_items.jsonl").write_text("")
    assert log.run() == ["items"]
    (tmp_path / "1_images.jsonl").unlink()
    assert log.run() == ["images", "items"]
    assert (tmp_path / "2_items.jsonl").read_bytes() == before


def test_a_stage_alone_takes_the_file_before_it_as_it_is(tmp_path: Path) -> None:
    log = Log(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"1_images.jsonl: no such file; run stage=images"):
        log.run("items")
    assert log.run("images") == ["images"]
    (tmp_path / "1_images.jsonl").write_text('{"id": "mine"}\n')
    assert log.run("items") == ["items"]
    assert [sample.id for sample in read_samples(tmp_path / "2_items.jsonl")] == ["mine"]
    with pytest.raises(ValueError, match="stage=item: no such stage; did you mean items"):
        log.run("item")


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    sample = TrainingSample(
        id="7",
        arm="format",
        image="a\u2028b.jpg",
        image_sha256="0",
        caption="line\nline",
        instruction=Instruction("t:x", {"n": 2, "words": ["a"]}, "Say so.", "1:0"),
        turns=(Turn("\u00bf?", ""),),
        pair="8",
        attempts=(Attempt("item", "k", "m", 1, 2, "format: no"),),
        verified=False,
        rejection=Rejection("check", "format", "no"),
    )
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(sample.as_json(), ensure_ascii=False) + "\n" + '{"id": "8"}\n')
    assert read_samples(path) == [sample, TrainingSample(id="8")]
    path.write_text('{"id": "7"}\n{"name": "x"}\n')
    with pytest.raises(ValueError, match=r"rows.jsonl, line 2: not a row of a stage"):
        read_samples(path)


def test_an_index_that_is_none_is_named(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.run()
    for content in ("{", "[]", '{"images": 3}'):
        (tmp_path / "stages.json").write_text(content)
        with pytest.raises(ValueError, match=r"stages.json: .*; remove it") as error:
            log.run()
        assert "\n" not in str(error.value)
