"""What a report says of preference data."""

from pathlib import Path

from tests.helpers.preference import questions, recipe
from verbalizer_bench.builders.export.preference_report import sections
from verbalizer_bench.builders.export.preference_sets import PairLayout
from verbalizer_bench.builders.pipeline.preference_blocks import PairRule
from verbalizer_bench.builders.pipeline.prompts import read_prompts
from verbalizer_bench.builders.pipeline.sample import Candidate, TrainingSample, Turn, Verdict
from verbalizer_bench.io.preferences import ATTRIBUTES


def rated(name: str, better: str, worse: str) -> TrainingSample:
    """Return a prompt with two rated completions that ended so."""
    scores = tuple(dict.fromkeys(ATTRIBUTES, value) for value in (4, 1))
    verdict = Verdict((0, 1), scores, ("good", "bad"))
    answers = (Candidate("A red dog.", better), Candidate("A dog", worse))
    turns = (Turn("What is it?", ""),)
    return TrainingSample(name, turns=turns, candidates=answers, verdicts=(verdict,), source="x")


def test_completions_and_pairs_that_were_cut_off_are_counted(tmp_path: Path) -> None:
    endings = (("length", "stop"), ("length", "length"), ("stop", "length"), ("stop", "length"))
    samples = [rated(str(n), *ends) for n, ends in enumerate(endings)]
    text = "\n".join(sections(samples, recipe(tmp_path, "http://nowhere/v1", questions(1))))
    assert "| used, cut off | 5 |" in text and "| used | 3 |" in text
    assert "| 2 of 4 | 3 of 4 |" in text
    unknown = [rated("a", "unknown", "unknown")]
    text = "\n".join(sections(unknown, recipe(tmp_path, "http://nowhere/v1", questions(1))))
    assert "| not known | not known |" in text


def test_pairs_say_what_ended_their_answers() -> None:
    record = PairLayout("pairs", PairRule()).record(
        rated("a", "stop", "length"), read_prompts(None, {})
    )
    assert (record["ending_chosen"], record["ending_rejected"]) == ("stop", "length")
