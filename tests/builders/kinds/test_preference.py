"""Preference data: sampled, judged, paired; with a server that misbehaves, killed and restarted."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.data_recipes import COCO
from tests.helpers.endpoint_server import Faults, Server
from tests.helpers.kills import killed_at
from tests.helpers.preference import Assistant, quality, questions, recipe
from verbalizer_bench.builders.build import build
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import read_samples
from verbalizer_bench.io.preferences import PreferencePair, RatedCompletions, read

FAULTS = Faults(
    seed=5,
    rate_limited=0.03,
    error=0.03,
    cut=0.03,
    garbled=0.02,
    empty=0.01,
    refused=0.02,
    retry_after="0.05",
)


def outputs(made: DataRecipe) -> dict[str, bytes]:
    """Return what must be the same in builds that are to be identical."""
    files = [*made.output.glob("*.*"), *made.work.glob("*.jsonl"), made.work / "stages.json"]
    return {file.name: file.read_bytes() for file in files if file.name != "calls.jsonl"}


def calls(made: DataRecipe) -> list[dict[str, Any]]:
    lines = (made.work / "calls.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def answered(server: Server) -> int:
    return sum(asked.outcome in ("ok", "slow") for asked in server.requests)


def pairs(made: DataRecipe, name: str = "pairs") -> list[PreferencePair]:
    return [record for _, record in read(PreferencePair, made.output / f"{name}.jsonl")]


def rated(made: DataRecipe) -> list[RatedCompletions]:
    return [record for _, record in read(RatedCompletions, made.output / "completions.jsonl")]


def rejections(made: DataRecipe) -> Counter[str]:
    samples = read_samples(made.work / "set_aside.jsonl")
    return Counter(sample.rejection.reason for sample in samples if sample.rejection)


def photographs() -> None:
    if not (COCO / "images").is_dir():
        pytest.skip(f"{COCO} is not there")


def check_pairs(made: DataRecipe) -> None:
    """Hold what pairs are to what the judge gives to the texts."""
    texts = {record.id: [one.text for one in record.completions] for record in rated(made)}
    gaps = {name: [quality(text) for text in some] for name, some in texts.items()}
    wanted = {name for name, values in gaps.items() if max(values) - min(values) >= 2}
    found = pairs(made)
    assert {pair.id for pair in found} == wanted
    for pair in found:
        assert pair.score_chosen == quality(pair.chosen[0].content) == max(gaps[pair.id])
        assert pair.score_rejected == quality(pair.rejected[0].content) == min(gaps[pair.id])


def kill_and_compare(n: int, k: int, kills: int, serve: Any, tmp_path: Path) -> None:
    """Build twice, undisturbed and killed so many times: the same files, and nothing twice."""
    photographs()
    model = Assistant(prose=0.05)
    whole = recipe(tmp_path / "whole", serve(model, FAULTS).url, questions(n, True))
    built = build(
        whole,
    )
    assert built.sets and built.usage.calls >= n * k
    server = serve(model, FAULTS)
    made = recipe(tmp_path / "killed", server.url, questions(n, True))
    moments, share = random.Random(3), n * k // (kills + 1)
    for _ in range(kills):
        at = moments.randint(share // 2, share)
        assert killed_at(server, at, lambda: build(made)), "it was done too early"
    build(made)
    keys = [row["key"] for row in calls(made)]
    assert len(keys) == len(set(keys))
    # What was under way at a kill was answered and is not stored; all else is asked once.
    assert answered(server) - len(keys) <= 16 * kills
    assert outputs(made) == {
        name: content.replace(b"/whole/", b"/killed/") for name, content in outputs(whole).items()
    }
    check_pairs(made)


def test_a_build_killed_three_times_asks_nothing_twice(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    kill_and_compare(24, 4, 3, serve, tmp_path)


@pytest.mark.slow
def test_200_prompts_with_ten_kills(serve: Callable[..., Server], tmp_path: Path) -> None:
    kill_and_compare(200, 4, 10, serve, tmp_path)
