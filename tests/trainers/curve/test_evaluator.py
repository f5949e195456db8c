"""Evaluations during training are what the checkpoint answers, and leave training as it was."""

import csv
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.curve.conftest import TINY, Train
from verbalizer_bench import api
from verbalizer_bench.results.statistics import summarize
from verbalizer_bench.trainers.curve.evaluator import Evaluator
from verbalizer_bench.trainers.curve.points import COLUMNS, F1, CurveFiles
from verbalizer_bench.trainers.evaluation_settings import EvaluationSettings
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training.progress_bar import TrainingProgressBar

# A task of each label type.
TASKS = [
    f"verbalizer_sst2_{kind}" for kind in ("natural_1_0", "neutral_sfo_lax", "unnatural_no_yes")
]
ASKED = [f"evaluation.tasks=[{', '.join(TASKS)}]", "evaluation.limit=4"]
CURVE = ["evaluation.steps=2", "evaluation.data=sample", *ASKED]

LORA = ("lora.r=4", "lora.alpha=8", "lora.dropout=0.2")


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "curve.csv").open() as file:
        return list(csv.DictReader(file))


def responses(folder: Path, step: int) -> dict[tuple[str, int], str]:
    lines = (folder / "curve" / f"responses-{step:07}.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {(row["task"], row["doc_id"]): row["response"] for row in rows}


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return found


# Adapters with dropout draw random numbers; pairs are shown twice by a hook.
KINDS = [
    ("sft", ()),
    ("sft", LORA),
    ("vit", ("learning_rate=5e-4",)),
    pytest.param("vit_lora", ("precision=bf16",), marks=pytest.mark.slow),
    ("dpo", ()),
]


@pytest.mark.parametrize(("recipe", "words"), KINDS)
def test_training_is_the_same_with_and_without(
    recipe: str, words: tuple[str, ...], trained: Train
) -> None:
    plain, curve = trained(*words, recipe=recipe), trained(*words, *CURVE, recipe=recipe)
    one, other = (load_file(folder / "model.safetensors") for folder in (plain, curve))
    assert one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
    assert (plain / "losses.csv").read_bytes() == (curve / "losses.csv").read_bytes()
    for name in ("tokenizer.json", "generation_config.json", "config.json"):
        assert (plain / name).read_bytes() == (curve / name).read_bytes()


@pytest.mark.parametrize(("recipe", "words"), KINDS)
def test_the_last_point_is_what_run_makes_of_the_checkpoint(
    recipe: str, words: tuple[str, ...], trained: Train, tmp_path: Path
) -> None:
    folder = trained(*words, *CURVE, recipe=recipe)
    sees = {} if recipe == "sft" else {"image": "white"}
    run = api.evaluate(
        "verbalizer-lvlm" if sees else "verbalizer-llm",
        {"pretrained": folder, "dtype": "float32", **sees},
        output=tmp_path / "run",
        tasks=TASKS,
        data="sample",
        limit=4,
        device="cpu",
        apply_chat_template=True,
        batch_size="auto",
    )
    found = {
        (task.task, sample.doc_id): sample.response
        for task in run.tasks
        for sample in run.samples(task.task)
    }
    rows = table(folder)
    assert responses(folder, int(rows[-1]["step"])) == found
    # They tell models apart.
    assert len(set(found.values())) > 1 and responses(folder, 0) != found
    scores = summarize(run)
    assert {n: float(rows[-1][column]) for n, column in F1.items()} == {
        n: pytest.approx(scores[n].f1.mean) for n in F1
    }
    assert float(rows[-1]["neither"]) == pytest.approx(scores["All"].outcomes["neither"])
    # The interval is the report's.
    ends = scores["All"].f1.low, scores["All"].f1.high
    assert (float(rows[-1]["f1_all_low"]), float(rows[-1]["f1_all_high"])) == pytest.approx(ends)
    assert (rows[-1]["documents"], rows[-1]["responses"]) == ("4", "12")


def test_the_table_has_a_row_for_every_point_and_the_records_say_so(trained: Train) -> None:
    folder = trained(*CURVE)
    rows = table(folder)
    assert [int(row["step"]) for row in rows] == [0, 2, 4, 6]
    assert tuple(rows[0]) == COLUMNS and all(row["held_out_loss"] for row in rows)
    with (folder / "losses.csv").open() as file:
        tokens = {row["step"]: row["num_tokens"] for row in csv.DictReader(file)}
    assert [int(row["tokens"]) for row in rows[1:]] == [
        int(float(tokens[step])) for step in ("2", "4", "6")
    ]
    found = record(folder)
    assert float(rows[-1]["held_out_loss"]) == pytest.approx(found["held_out"]["loss"])
    made = found["evaluation"]
    assert made["points"] == 4 and made["last"]["step"] == 6
    assert made["suite"]["limit"] == 4 and len(made["suite"]["identity"]) == 3
    assert (folder / "curve.png").stat().st_size > 10_000
    card = " ".join((folder / "README.md").read_text().split())
    assert "3 verbalizer tasks the first 4 documents" in card
    assert "A point is over 4 documents, 12 responses; f1_all of the last " in card
    assert "![F1 by label type and held-out loss over the steps](curve.png)" in card


def test_what_is_not_asked_for_is_not_measured(trained: Train) -> None:
    share = trained("evaluation.steps=0.5", "evaluation.at_start=false", "evaluation.tasks=[]")
    assert [row["step"] for row in table(share)] == ["3", "6"]
    assert all(row["held_out_loss"] and not row["f1_all"] for row in table(share))
    assert "![Held-out loss over the steps](curve.png)" in (share / "README.md").read_text()
    neutral = ["evaluation.tasks=verbalizer_sst2_neutral_foo_bar", "evaluation.held_out=false"]
    (row,) = table(
        trained(
            "evaluation.steps=9", "evaluation.at_start=false", "evaluation.data=sample", *neutral
        )
    )
    assert row["step"] == "6" and row["f1_neutral"] and not row["f1_natural"] + row["f1_all"]
    assert not row["held_out_loss"]


def test_an_evaluation_that_an_interruption_left_out_is_made_up_for(
    trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    whole, words = trained(*CURVE), (*CURVE, "seed=0")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingProgressBar, "on_step_end", stop)
        trained(*words)
    resumed = trained(*words, again=True)
    one, other = load_file(resumed / "model.safetensors"), load_file(whole / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in other)
    rows = [[row | {"seconds": ""} for row in table(folder)] for folder in (whole, resumed)]
    assert rows[0] == rows[1] and record(resumed)["attempts"][1]["from_step"] == 4
    for step in (0, 2, 4, 6):
        assert responses(resumed, step) == responses(whole, step)


FAULTS = [
    (["evaluation.steps=1.5"], "evaluation.steps=1.5: a number of steps, or a share"),
    (["evaluation.limit=0"], "evaluation.limit=0: at least 1"),
    (["evaluation.tasks=[]", "held_out=null"], "has nothing to measure"),
    (["evaluation.image=red"], "evaluation.image=red: one of white"),
    (["evaluation.image=black"], "a text model sees none"),
    (["evaluation.step=3"], "did you mean evaluation.steps"),
]


@pytest.mark.parametrize(("words", "problem"), FAULTS)
def test_a_wrong_key_is_told(words: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("[", r"\[")):
        read_recipe(TINY / "sft.yaml", ["evaluation.steps=2", *words])


@pytest.mark.parametrize("name", ["verbalizer_sst3*", "mmvp"])
def test_a_name_of_no_verbalizer_task_is_told(name: str, trained: Train) -> None:
    with pytest.raises(ValueError, match=rf"evaluation.tasks={name}".replace("*", r"\*")):
        trained("evaluation.steps=2", "evaluation.data=sample", f"evaluation.tasks={name}")


@pytest.mark.parametrize(
    ("tasks", "keeps_best", "problem"),
    [(("verbalizer",), False, "evaluation.tasks=\\[\\] for the held-out"), ((), True, "keep=last")],
)
@pytest.mark.parametrize("kind", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_what_needs_whole_layers_is_refused_where_they_are_spread(
    kind: str, tasks: tuple[str, ...], keeps_best: bool, problem: str
) -> None:
    spread = {"is_fsdp_enabled": False, "is_deepspeed_enabled": False, kind: True}
    settings = EvaluationSettings(steps=2, tasks=tasks)
    evaluator = SimpleNamespace(settings=settings, _suite=tasks, _keeps_best=keeps_best)
    with pytest.raises(ValueError, match=problem):
        Evaluator.attach(evaluator, SimpleNamespace(**spread))  # type: ignore[arg-type]


def test_a_table_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    table = tmp_path / "curve.csv"
    names = [name for name in COLUMNS if "_low" not in name and "_high" not in name]
    names = [name for name in names if name not in ("documents", "responses")]
    table.write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    (point,) = CurveFiles(tmp_path).read(1)
    assert point.values["f1_all"] == 1.0 and not {"f1_all_low", "documents"} & set(point.values)
    # What is known of documents comes back as it was written.
    found = point._replace(values={**point.values, "documents": 4, "f1_all_low": 0.5})
    CurveFiles(tmp_path).write([found])
    assert CurveFiles(tmp_path).read(1) == [found]
