"""A run as an object: what it prints, shows in a notebook, and gives to pandas."""

import sys

import pytest

from tests.helpers.runs import run, task
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.schema import EvaluatedTask, Sample


@pytest.fixture
def two() -> tuple[Run, Run]:
    tasks = [task("x", t, "p", [0.5, 1.0]) for t in ("natural", "neutral")]
    return run(*tasks, name="<b>"), run(*tasks, name="other")


def test_a_run_is_a_table_of_its_tasks(two: tuple[Run, Run]) -> None:
    assert repr(two[0]) == "<Run <b>: 2 tasks, run>"
    assert "| x       | 75.0    |    75.0 |         - |" in str(two[0])
    frame = two[0].to_frame()
    assert list(frame["label_type"]) == ["natural", "neutral"]
    assert list(frame["f1"]) == [0.75, 0.75] and list(frame["documents"]) == [2, 2]
    assert "<td>verbalizer_x_natural_p_x</td>" in two[0]._repr_html_()


def test_no_pandas_is_one_line(two: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"^to_frame needs pandas; `pip install pandas`$"):
        two[0].to_frame()


def test_scores_outside_their_range_are_no_sample() -> None:
    row = dict.fromkeys(("f1", "exact_match", "contains_label", "follows", "verbose"), 0.0)
    row |= {"flipped": 1.0, "both": 0.0, "neither": 0.0}
    rest = {"doc": {}, "doc_hash": "", "prompt_hash": "", "arguments": {}, "target": "a"}
    sample = Sample.model_validate({"doc_id": 0, "filtered_resps": ["b\ud800"], **rest, **row})
    assert (sample.response, sample.outcome) == ("b\ud800", "flipped")
    for change in ({"f1": True}, {"f1": 1.5}, {"doc_id": True}, {"filtered_resps": []}):
        with pytest.raises(ValueError, match=next(iter(change))):
            Sample.model_validate(sample.model_dump() | change)


def test_metadata_of_other_tasks_are_left_out() -> None:
    for metadata in ({"version": 1.0}, [{"version": 1.0}], "1.0", None):
        assert EvaluatedTask.model_validate({"metadata": metadata}).metadata is None
