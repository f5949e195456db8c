"""What 100, 50, 33 and 0 mean: answers that need no model, scored by the metric itself."""

import dataclasses
from pathlib import Path

import pytest

from tests.helpers.echo import write_run
from tests.helpers.runs import run, task
from verbalizer_bench.results.references import references
from verbalizer_bench.results.run import Run, TaskScores, read_run
from verbalizer_bench.tasks.metrics import score
from verbalizer_bench.tasks.spec import Verbalizer


def asked(label_type: str, first: str, second: str, firsts: int, seconds: int) -> TaskScores:
    """Return a task whose documents are so many of either class."""
    made = task("sst2", label_type, first, [0.0] * (firsts + seconds))
    verbalizer = Verbalizer(label_type, first, second)  # type: ignore[arg-type]
    counts = ((first, firsts), (second, seconds))
    return dataclasses.replace(made, verbalizer=verbalizer, targets=counts)


def scores(of: Run) -> list[dict[str, float]]:
    return [{name: 100 * f1 for name, f1 in one.f1.items()} for one in references(of)]


def test_numbers_of_a_balanced_set_with_words_of_one_token() -> None:
    whole = run(
        asked("natural", "positive", "negative", 50, 50),
        asked("neutral", "foo", "bar", 50, 50),
        asked("unnatural", "negative", "positive", 50, 50),
    )
    right, same, among, meant, other = scores(whole)
    every = ("natural", "neutral", "unnatural", "All")
    assert right == dict.fromkeys(every, 100)
    assert same == dict.fromkeys(every, 50)
    assert among == pytest.approx(dict.fromkeys(every, 100 / 3))
    assert meant == pytest.approx({"natural": 100, "neutral": 0, "unnatural": 0, "All": 100 / 3})
    assert other == dict.fromkeys(every, 0)
    assert "(50.0 at random)" in references(whole)[1].answer


def test_classes_of_unlike_size_and_words_that_share_a_token() -> None:
    """The more frequent word gets its share; "equivalent" is two thirds of "not equivalent"."""
    uneven = run(asked("natural", "yes", "no", 30, 70))
    right, same, *_ = scores(uneven)
    assert same == {"natural": pytest.approx(70)} and right == {"natural": 100}
    assert "(50.0 at random)" in references(uneven)[1].answer
    shared = run(asked("natural", "equivalent", "not equivalent", 60, 40))
    _, same, among, _, other = scores(shared)
    assert same["natural"] == pytest.approx(60 + 40 * 2 / 3)
    assert other["natural"] == pytest.approx(100 * 2 / 3)
    assert among["natural"] == pytest.approx(60 / 3 + 40 * 2 * 2 / (2 + 6))
    # Either word half of the time: each gets its own documents, and two thirds of the others.
    assert "(83.3 at random)" in references(shared)[1].answer


def test_what_a_run_expected_is_read_from_its_responses(tmp_path: Path) -> None:
    """The better constant of the table is what a model scores that says that word."""
    name = "verbalizer_fp_natural_positive_negative"
    found = {
        word: read_run(write_run(tmp_path, word, [name], limit=9))
        for word in ("positive", "negative")
    }
    (counts,) = {one.tasks[0].targets for one in found.values()}
    assert sum(count for _, count in counts) == 9 and len(counts) == 2
    measured = [float(one.tasks[0].scores["f1"].mean()) for one in found.values()]
    assert references(found["positive"])[1].f1["natural"] == pytest.approx(max(measured))
    assert measured[0] != measured[1]


def test_nothing_is_said_where_the_words_are_not_known() -> None:
    assert references(run(task("sst2", "natural", "yes", [0.0]))) == []


def test_the_metric_gives_the_right_word_among_n_two_of_n_plus_one() -> None:
    for count in range(1, 10):
        said = " ".join(("foo", *(f"x{place}" for place in range(1, count))))
        assert score("foo", "bar", said)["f1"] == pytest.approx(2 / (count + 1))
