"""A point of the study: its checkpoint, what the suite and IFEval find of it, and what that cost.

What is there is kept. Weights are removed when a point is measured, but for those that others start
from: half a gigabyte each.
"""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from verbalizer_bench import api
from verbalizer_bench.builders.filters.verifiers import verify
from verbalizer_bench.experiments.asking import Question, answers, run_suite
from verbalizer_bench.experiments.machine import machine
from verbalizer_bench.experiments.rows import document_rows, example_rows, read_rows, score_row
from verbalizer_bench.experiments.smollm2 import records
from verbalizer_bench.experiments.smollm2.arms import (
    ARMS,
    PLAIN,
    coefficient_of,
    recipe_file,
)
from verbalizer_bench.experiments.smollm2.columns import COLUMNS, PARTS, ending_row
from verbalizer_bench.experiments.smollm2.grid import BASE, Grid, Place, Point, base_path
from verbalizer_bench.experiments.smollm2.records import MEASURED, TRAINED, Rows
from verbalizer_bench.experiments.smollm2.sources import CURVE, SUITE
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_json, read_record
from verbalizer_bench.results.files import newest_results
from verbalizer_bench.results.run import read_run

_ADAPTER = "verbalizer-llm"
# States of a training that an interrupted one goes on from.
_STATES = 4


def measure(place: Place, grid: Grid, point: Point, rates: dict[str, float]) -> None:
    """Make a point, run the suite on it, and ask it IFEval's prompts.

    Args:
        place: Where.
        grid: What.
        point: The point.
        rates: The chosen learning rates of its base, by arm.
    """
    if records.is_kept(place, point, MEASURED):
        return
    folder = place.point(point)
    if not (folder / "ifeval.json").exists():
        checkpoint = made(place, grid, point, rates)
        with costing(folder, "suite"):
            score_once(checkpoint, place, grid, folder / "run")
        with costing(folder, "ifeval"):
            ask_ifeval(checkpoint, place, grid, folder / "ifeval.json")
    records.keep(place, point, MEASURED, measured_rows(place, point))
    if point.model not in (BASE, PLAIN):
        remove_weights(folder / "checkpoint")


def measured_rows(place: Place, point: Point) -> dict[str, Rows]:
    """Return a point's rows of the tables: what its run and answers say."""
    folder = place.point(point)
    run = read_run(newest_results(folder / "run").parent)
    costs = costs_of(folder)
    row = {
        "held_out_loss": "" if point.rate is None else f"{held_out_loss(place, point):.4f}",
        **{f"{part}_seconds": f"{costs.get(part, 0):.0f}" for part in PARTS},
        "machine": machine(),
    }
    return {
        "points": [{**row, **score_row(run), **ending_row(run)}],
        "documents": list(document_rows(run, COLUMNS)),
        "ifeval": [{"follows": follow_digits(folder / "ifeval.json")}],
        "examples": list(example_rows(run)),
    }


def follow_digits(file: Path) -> str:
    """Return a digit for each instruction, prompts apart by spaces."""
    return " ".join("".join(str(int(one)) for one in row["follows"]) for row in read_json(file))


def made(place: Place, grid: Grid, point: Point, rates: dict[str, float]) -> str:
    """Return a point's checkpoint, which is made unless it is there."""
    if point.model == BASE:
        return base_path(grid, point.base)
    if point.model in ARMS:
        return str(train(place, grid, point, rates))
    output = place.point(point) / "checkpoint"
    if not (output / "merge.json").exists():
        from verbalizer_bench.models.checkpoints.merge_weights import merge_weights

        shutil.rmtree(output, ignore_errors=True)
        tuned = train(place, grid, point._replace(model=PLAIN, rate=rates[PLAIN]), rates)
        coefficients = [(coefficient_of(point.model),)]
        with costing(place.point(point), "train"):
            merge_weights(base_path(grid, point.base), [str(tuned)], coefficients, output)
    return str(output)


def train(place: Place, grid: Grid, point: Point, rates: dict[str, float]) -> Path:
    """Train an arm unless its checkpoint is there.

    Args:
        place: Where.
        grid: What.
        point: An arm with its rate.
        rates: The chosen learning rates, of what it starts from.
    """
    output = place.point(point) / "checkpoint"
    finished = is_finished(output)
    if not finished or not any(output.glob("*.safetensors")):
        if finished:
            # Its weights were removed: there is nothing to go on from.
            shutil.rmtree(output)
        words = [*training_words(place, grid, point, rates), f"output={output}"]
        with costing(output.parent, "train"):
            api.train(recipe_file(ARMS[point.model].recipe), *words)
        shutil.rmtree(output / "state", ignore_errors=True)
    keep_trained(place, point)
    return output


def try_rate(place: Place, grid: Grid, point: Point, rates: dict[str, float]) -> None:
    """Train an arm with a learning rate, unless it was: its held-out loss is what is wanted."""
    if is_finished(place.point(point) / "checkpoint"):
        keep_trained(place, point)
    elif not records.is_kept(place, point, TRAINED):
        train(place, grid, point, rates)


def keep_trained(place: Place, point: Point) -> None:
    """Note what a training's evaluations say, unless it was noted."""
    if records.is_kept(place, point, TRAINED):
        return
    checkpoint = place.point(point) / "checkpoint"
    loss = read_record(checkpoint / "training.json")["held_out"]["loss"]
    curve = checkpoint / "curve.csv"
    tables: dict[str, Rows] = {
        "rates": [{"held_out_loss": f"{loss:.6g}"}],
        "curve": read_rows(curve) if curve.exists() else [],
    }
    records.keep(place, point, TRAINED, tables)


def is_finished(checkpoint: Path) -> bool:
    """Return whether a training came to its end, whatever became of the weights."""
    file = checkpoint / "training.json"
    # It is written at the start too; how long it took comes last.
    return file.exists() and "seconds" in read_record(file)


def training_words(place: Place, grid: Grid, point: Point, rates: dict[str, float]) -> list[str]:
    """Return the keys of an arm's recipe that the study sets."""
    arm, records, batch, micro = ARMS[point.model], grid.items, grid.batch, grid.micro_batch
    start = base_path(grid, point.base)
    if arm.start:
        before = point._replace(model=arm.start, rate=rates[arm.start])
        start = str(train(place, grid, before, rates))
    if arm.recipe == "dpo":
        records, batch, micro = records // 2, batch // 2, micro // 2
    words = [
        f"model.path={start}",
        f"data={place.items(point.seed) / arm.data}",
        f"held_out={place.items(None) / arm.data}",
        f"cache={place.folder / 'cache'}",
        f"global_batch_size={batch}",
        f"per_device_batch_size={micro}",
        f"learning_rate={point.rate}",
        f"seed={point.seed}",
        f"save_steps={max(1, grid.steps // _STATES)}",
        "resume=true",
    ]
    if point.model in grid.curve:
        words += [
            f"evaluation.steps={grid.curve_steps}",
            "evaluation.at_start=false",
            "evaluation.limit=null",
            f"evaluation.num_beams={grid.num_beams}",
            f"evaluation.data={place.data / CURVE}",
        ]
    if arm.replays:
        others = round(records * grid.replay)
        words[1] = f"data=[{place.items(point.seed) / arm.data},{place.data / 'replay.jsonl'}]"
        return [*words, f"data_records=[{records - others},{others}]"]
    return [*words, f"data_records={records}"]


def score_once(checkpoint: str, place: Place, grid: Grid, output: Path) -> None:
    """Run the suite unless it was run."""
    if any(output.rglob("run.json")):
        return
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    run_suite(
        {"pretrained": checkpoint},
        _ADAPTER,
        output / "lm-eval.log",
        output=output,
        data=place.data / SUITE,
        gen_kwargs={"num_beams": grid.num_beams},
        device=grid.device,
    )


def ask_ifeval(checkpoint: str, place: Place, grid: Grid, file: Path) -> None:
    """Ask IFEval's prompts, and write what came and which instructions each answer follows."""
    if file.exists():
        return
    rows = [row for _, row in jsonl.read_objects(place.data / "ifeval.jsonl")]
    settings = {"num_beams": 1, "max_gen_toks": grid.ifeval_tokens}
    questions = [Question(row["prompt"]) for row in rows]
    texts = answers(Path(checkpoint), _ADAPTER, questions, settings, grid.device)
    judged = [
        {
            "key": row["key"],
            "answer": text,
            "follows": [
                verify(one["type"], one["arguments"], row["prompt"], text)
                for one in row["instructions"]
            ],
        }
        for row, text in zip(rows, texts, strict=True)
    ]
    write_whole(file, json.dumps(judged, indent=1) + "\n")


def remove_weights(checkpoint: Path) -> None:
    """Remove a checkpoint's weights and its adapter's."""
    for file in checkpoint.rglob("*.safetensors"):
        file.unlink()


def held_out_loss(place: Place, point: Point) -> float:
    """Return the held-out loss that a training ended with."""
    (row,) = records.kept(place, point, TRAINED)["rates"]
    return float(row["held_out_loss"])


@contextmanager
def costing(folder: Path, part: str) -> Iterator[None]:
    """Add the processor's seconds to `cost.json` in a folder: of this process, all its threads."""
    started = time.process_time()
    yield
    seconds = time.process_time() - started
    costs = costs_of(folder)
    # What was there already took no time.
    costs[part] = round(max(seconds, costs.get(part, 0.0)), 1)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "cost.json", json.dumps(costs) + "\n")


def costs_of(folder: Path) -> dict[str, float]:
    """Return the processor's seconds of what was done in a folder, by part."""
    file = folder / "cost.json"
    costs: dict[str, float] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return costs
