"""Verdicts that are none, ties, and a judge that leans to a place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.endpoint_server import Server, prompt
from tests.helpers.preference import Assistant, pairs, questions, rated, recipe, rejections
from verbalizer_bench.builders.build import build
from verbalizer_bench.builders.export import agreement
from verbalizer_bench.builders.pipeline.sample import read_samples


def spoiled(change: Callable[[dict[str, Any]], Any], mends: bool) -> Any:
    """Return an assistant whose verdicts are changed, always or until it is told."""
    assistant = Assistant()

    def answer(body: dict[str, Any]) -> Any:
        value = assistant(body)
        told = "Your last response" in prompt(body)
        if isinstance(value, dict) and not (mends and told):
            return change(value)
        return value

    return answer


def with_first(verdict: dict[str, Any], **changes: Any) -> dict[str, Any]:
    first = {k: v for k, v in (verdict["answer_1"] | changes).items() if v is not None}
    return {**verdict, "answer_1": first}


SPOILED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "out of range": lambda verdict: with_first(verdict, helpfulness=5),
    "no whole number": lambda verdict: with_first(verdict, coherence=2.5),
    "an attribute missing": lambda verdict: with_first(verdict, correctness=None),
    "a text": lambda verdict: with_first(verdict, verbosity="4"),
    "a key too many": lambda verdict: with_first(verdict, grace=4),
    "an answer missing": lambda verdict: {k: v for k, v in verdict.items() if k != "answer_2"},
    "no reasons": lambda verdict: with_first(verdict, reasons=" "),
    "prose": lambda verdict: "The first answer is best: 4 of 4.",
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_verdict_that_is_none_is_asked_for_again(
    kind: str, serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(spoiled(SPOILED[kind], mends=True))
    made = recipe(tmp_path, server.url, questions(4), "judge.twice=0", "completions.k=2")
    build(made)
    assert len(rated(made)) == 4 and not rejections(made)
    judged = [one for one in server.requests if one.body["model"] == "judge"]
    assert len(judged) == 8


def test_whole_numbers_may_be_written_with_a_point(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(spoiled(lambda verdict: with_first(verdict, helpfulness=4.0), mends=False))
    made = recipe(tmp_path, server.url, questions(3), "judge.twice=0")
    build(made)
    scores = [one.scores for record in rated(made) for one in record.completions]
    assert len(scores) == 12 and all(one is not None for one in scores)
    assert len([one for one in server.requests if one.body["model"] == "judge"]) == 3


def test_verdicts_that_stay_none_are_excluded_and_counted(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(Assistant(prose=0.2, stubborn=True))
    made = recipe(tmp_path, server.url, questions(40), "retries=1", "judge.twice=0.5")
    build(made)
    lost = rejections(made)["unparsable"]
    assert 0 < lost == 40 - len(rated(made))
    samples = read_samples(made.work / "accepted.jsonl")
    twice = sum(len(sample.verdicts) == 2 for sample in samples)
    assert twice < 20
    report = (made.output / "report.md").read_text()
    assert f"{twice} prompts were judged twice" in report
    assert f"{20 - twice} more were meant to be" in report
    assert f"annotations: unparsable ({lost})" in report


def test_a_judge_that_never_gives_a_verdict_stops_the_build(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(Assistant(prose=1.0, stubborn=True))
    made = recipe(tmp_path, server.url, questions(60), "retries=0", "completions.k=2")
    with pytest.raises(ValueError, match=r"none of the first 2\d answers for judge can be used"):
        build(made)


def test_ties_and_gaps(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(spoiled(lambda verdict: dict.fromkeys(verdict, verdict["answer_1"]), False))
    made = recipe(tmp_path, server.url, questions(5), "pairs.pairs={drop_ties: true}")
    build(made)
    assert not pairs(made)
    report = (made.output / "report.md").read_text()
    assert "| pairs | 0 | 5 | 0 | 0 | 0 |" in report and "worst score: 0: 5." in report


def test_a_lean_to_the_first_answer_is_seen(serve: Callable[..., Server], tmp_path: Path) -> None:
    places = {}
    for lean in (0, 3):
        url = serve(Assistant(lean=lean)).url
        made = recipe(tmp_path / str(lean), url, questions(60), "completions.k=2")
        build(made)
        places[lean] = agreement.positions(read_samples(made.work / "accepted.jsonl"))
    fair, leaning = places[0], places[3]
    assert all(place.answers == 60 and place.expected == 30 for place in fair)
    assert sum(place.best for place in fair) == pytest.approx(60)
    assert all(abs(place.best - 30) < place.spread for place in fair)
    assert leaning[0].best > 30 + leaning[0].spread and leaning[0].score > leaning[1].score + 1
