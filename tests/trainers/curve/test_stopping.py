"""Training stops when a metric has not been better for long enough, and keeps what was best."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.curve.conftest import TINY, Train
from verbalizer_bench.trainers import train
from verbalizer_bench.trainers.curve.points import Point
from verbalizer_bench.trainers.curve.stopping import judge
from verbalizer_bench.trainers.evaluation_settings import EarlyStoppingSettings
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training.progress_bar import TrainingProgressBar

# The first point is the best, since none is better by so much; the next one ends it.
STOPS = ("evaluation.steps=2", "evaluation.tasks=[]", "early_stopping.metric=held_out_loss")
STOPS += ("early_stopping.patience=1", "early_stopping.min_delta=100")
LORA = ("lora.r=4", "lora.alpha=8")


def points(metric: str, *values: float) -> list[Point]:
    return [Point(10 * n, n, None, {metric: value}, 0.0) for n, value in enumerate(values)]


CASES: list[tuple[dict[str, Any], tuple[float, ...], tuple[int | None, int, bool]]] = [
    # Settings; values at steps 0, 10, 20 and so on; best step, waited, stop.
    ({"metric": "held_out_loss"}, (3.0,), (None, 0, False)),
    ({"metric": "held_out_loss", "patience": 2}, (1.0, 3.0, 2.0, 2.5, 2.1), (20, 2, True)),
    ({"metric": "f1_all", "patience": 2}, (0.9, 0.1, 0.5, 0.4), (20, 1, False)),
    # Of equals the earliest; of nothing but equals the last, and they end nothing.
    ({"metric": "f1_all", "patience": 2}, (0.9, 0.4, 0.5, 0.5, 0.5), (20, 2, True)),
    ({"metric": "f1_all", "patience": 2}, (0.9, 0.5, 0.5, 0.5), (30, 0, False)),
    ({"metric": "f1_all", "patience": 2}, (0, 0.5, 0.5, 0.5, 0.4), (30, 1, False)),
    ({"metric": "held_out_loss", "patience": 1}, (3.0, 2.0, 2.0, 1.9), (30, 0, False)),
    ({"metric": "f1_all", "patience": 2, "min_delta": 0.1}, (0, 0.5, 0.55, 0.65), (30, 0, False)),
    ({"metric": "f1_all", "patience": None}, (0, 0.5, 0.4, 0.3, 0.2), (10, 3, False)),
]


@pytest.mark.parametrize(("settings", "values", "wanted"), CASES)
def test_the_best_and_the_end_follow_from_the_points(
    settings: dict[str, Any],
    values: tuple[float, ...],
    wanted: tuple[int | None, int, bool],
) -> None:
    found = judge(EarlyStoppingSettings(**settings), points(settings["metric"], *values))
    assert (found.best, found.waited, found.stop) == wanted
    assert ("before training" in found.reason) == (values[0] == 0.9 or values[:2] == (1.0, 3.0))


def test_values_that_are_all_the_same_are_said_to_say_nothing() -> None:
    settings = EarlyStoppingSettings("f1_all", patience=1)
    found = judge(settings, points("f1_all", 0.0, 0.0, 0.0, 0.0))
    assert found.reason == (
        "f1_all is the same at every step: it says nothing; the weights of the last step are kept"
    )
    # One evaluation is no comparison.
    assert "best at step 10" in judge(settings, points("f1_all", 0.0, 0.0)).reason


def test_the_last_planned_step_is_no_early_end() -> None:
    settings, found = EarlyStoppingSettings("f1_all", patience=1), points("f1_all", 0, 0.5, 0.4)
    early, planned = judge(settings, found), judge(settings, found, last_step=20)
    assert early.stop and "; training stopped at step 20, after 1 evaluation " in early.reason
    assert not planned.stop and planned.reason == "f1_all is best at step 10: 0.5000"


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return found


def same(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def test_the_best_or_the_last_weights_are_kept(trained: Train) -> None:
    states = trained("save_steps=2") / "state"
    best, last = trained(*STOPS), trained(*STOPS, "early_stopping.keep=last")
    # Of six steps.
    assert record(best)["steps"] == record(last)["steps"] == 4
    assert same(last / "model.safetensors", states / "checkpoint-4" / "model.safetensors")
    assert not same(best / "model.safetensors", last / "model.safetensors")
    kept = record(best)["evaluation"]["kept"]
    assert kept["step"] == 2 and kept["stopped_early"]
    assert "stopped at step 4, after 1 evaluation without a better" in kept["reason"]
    card = (best / "README.md").read_text()
    assert "The weights are those of step 2" in card
    # The last step's loss is not that of the weights.
    assert f"{record(best)['loss']['kept']:.4f} at step 2, whose weights these are" in card
    assert "kept" not in record(last)["loss"]
    assert f"Held out (`{record(best)['held_out']['data'][0]['file']}`): loss" in card
    # What is said of the checkpoint is measured on what is kept.
    found = record(best)["held_out"]["loss"], record(best)["evaluation"]["last"]["held_out_loss"]
    assert found[0] != pytest.approx(found[1])
    assert record(last)["held_out"]["loss"] == pytest.approx(found[1])
    assert not any((last / "state").glob("checkpoint-*"))


def test_a_best_adapter_is_kept(trained: Train) -> None:
    best = trained(*STOPS, *LORA)
    state = best / "state" / "checkpoint-2" / "adapter_model.safetensors"
    assert same(best / "adapter" / "adapter_model.safetensors", state)


@pytest.mark.parametrize("where", ["before it stops", "after it stopped"])
def test_an_interrupted_training_ends_alike(
    where: str, trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        """Stands for a kill."""

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise Stopped

    def fail(*args: Any) -> None:
        raise Stopped

    words = (*STOPS, "save_steps=1", f"seed={len(where)}")
    whole = trained(*words, "evaluation.data=sample")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        if where == "before it stops":
            patch.setattr(TrainingProgressBar, "on_step_end", stop)
        else:
            patch.setattr(train, "export", fail)
        trained(*words)
    resumed = trained(*words, again=True)
    assert same(resumed / "model.safetensors", whole / "model.safetensors")
    one, other = record(resumed), record(whole)
    assert one["steps"] == other["steps"] == 4
    assert one["evaluation"]["kept"] == other["evaluation"]["kept"]
    rows = [(folder / "curve.csv").read_text().splitlines() for folder in (resumed, whole)]
    # All but the seconds.
    assert len({tuple(row.rpartition(",")[0] for row in table) for table in rows}) == 1


FAULTS = [
    (["evaluation=null"], "give evaluation.steps=N too"),
    (["early_stopping.metric=f1"], "one of held_out_loss"),
    (["early_stopping.patience=0"], "at least 1"),
    (["early_stopping.min_delta=-1"], "at least 0"),
    (["early_stopping.keep=first"], "one of best, last"),
    (["held_out=null"], "give held_out=FILE"),
    (["early_stopping.metric=f1_all", "evaluation.tasks=[]"], "give evaluation.tasks"),
]


@pytest.mark.parametrize(("words", "problem"), FAULTS)
def test_what_cannot_stop_a_training_is_told(words: list[str], problem: str) -> None:
    given = ["held_out=data/x.json", "evaluation.steps=2", "early_stopping.metric=held_out_loss"]
    with pytest.raises(ValueError, match=problem):
        read_recipe(TINY / "sft.yaml", [*given, *words])


def test_a_label_type_that_is_not_asked_cannot_stop_it(trained: Train) -> None:
    words = ["evaluation.steps=2", "evaluation.data=sample", "early_stopping.metric=f1_all"]
    with pytest.raises(ValueError, match="no task with natural and unnatural label words"):
        trained(*words, "evaluation.tasks=verbalizer_sst2_neutral_foo_bar")
