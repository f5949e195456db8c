import numpy as np
import pytest

from tests.helpers.runs import run, task
from verbalizer_bench.results.resampling import standard_errors
from verbalizer_bench.results.run import TaskScores
from verbalizer_bench.results.statistics import Interval, estimate, summarize
from verbalizer_bench.tasks.metrics import METRICS, score
from verbalizer_bench.tasks.spec import Verbalizer


def test_label_types_are_means_over_tasks_and_all_is_the_mean_of_the_types() -> None:
    """By hand: natural (0.5 + 1) / 2, neutral (0 + 0 + 0.5) / 3, unnatural 0.25."""
    summary = summarize(
        run(
            task("a", "natural", "p", [1, 0, 1, 0]),
            task("b", "natural", "p", [1, 1]),
            task("a", "neutral", "p", [0, 0, 0, 0]),
            task("a", "neutral", "q", [0, 0, 0, 0]),
            task("b", "neutral", "p", [1, 0]),
            task("a", "unnatural", "p", [1, 0, 0, 0]),
        )
    )
    assert summary["natural"].f1.mean == pytest.approx(0.75)
    assert summary["neutral"].f1.mean == pytest.approx(0.5 / 3)
    assert summary["unnatural"].f1.mean == pytest.approx(0.25)
    assert summary["All"].f1.mean == pytest.approx((0.75 + 0.5 / 3 + 0.25) / 3)
    assert summary["natural"].f1_weighted == pytest.approx(4 / 6)
    assert (summary["neutral"].tasks, summary["neutral"].responses) == (3, 10)


def test_a_standard_error_worked_out_by_hand() -> None:
    """Two verbalizers, four documents: clusters' means are 1, 0.5, 0.5, 0; variance 1/6."""
    scores = {"a": np.array([[1.0, 1], [1, 0], [0, 1], [0, 0]])}
    (error,) = standard_errors(scores, np.array([[0.5], [0.5]]))
    assert error == pytest.approx((1 / 6 / 4) ** 0.5)


def test_verbalizers_that_agree_are_no_more_evidence_than_one() -> None:
    one = np.array([[1.0, 0.0, 0.0, 1.0, 1.0]]).T
    (single,) = estimate({"a": one}, np.ones((1, 1)))
    (triple,) = estimate({"a": np.hstack([one] * 3)}, np.full((3, 1), 1 / 3))
    assert triple == pytest.approx(single)


def test_coverage_of_the_interval() -> None:
    """Documents differ in how hard they are and share that over verbalizers: 95 % must hold."""
    generator = np.random.default_rng(0)
    hits, draws = 0, 500
    for _ in range(draws):
        scores = {}
        for dataset, n in (("a", 60), ("b", 40)):
            easy = generator.beta(2, 2, n)[:, None]
            scores[dataset] = (generator.random((n, 3)) < easy).astype(float)
        (found,) = estimate(scores, np.full((6, 1), 1 / 6), resamples=1000)
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.5 <= found.high
    assert 0.92 <= hits / draws <= 0.98


def test_one_document_has_no_interval() -> None:
    found = summarize(run(task("a", "natural", "p", [1])))
    assert found["natural"].f1 == Interval(1.0, None, None)
    assert "All" not in found


def test_outcomes_are_averaged_as_f1_is() -> None:
    rows = [score("foo", "bar", text) for text in ("foo", "bar", "bar", "a foo b")]
    scores = {metric: np.array([row[metric] for row in rows]) for metric in METRICS}
    verbalizer = Verbalizer("neutral", "foo", "bar")
    one = TaskScores("t", "a", verbalizer, "sample", "0", (0, 1, 2, 3), scores)
    found = summarize(run(one))["neutral"].outcomes
    assert found == {"follows": 0.25, "verbose": 0.25, "flipped": 0.5, "both": 0, "neither": 0}


def test_tasks_of_a_data_set_need_the_same_documents() -> None:
    tasks = (task("a", "natural", "p", [1, 1]), task("a", "natural", "q", [1, 0, 1]))
    with pytest.raises(ValueError, match=r"run on 3 documents and .* on 2, or on others"):
        summarize(run(*tasks))
