"""What all points of the study have alike: documents, records, prompts; each is written once."""

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import yaml

from verbalizer_bench import api
from verbalizer_bench.builders.filters import verifiers
from verbalizer_bench.experiments.smollm2.arms import RECIPES
from verbalizer_bench.experiments.smollm2.grid import Grid, Place
from verbalizer_bench.experiments.smollm2.items import drawn, read_items
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_json
from verbalizer_bench.tasks.data import source_name, test_documents
from verbalizer_bench.tasks.spec import DatasetSpec
from verbalizer_bench.tasks.suite import suite_datasets

SUITE, CURVE = "suite", "suite-curve"
_LONGEST_REPLAY = 600


class Sources(NamedTuple):
    """Where texts are from.

    Attributes:
        data: The nine data sets' rows, as of `--data`.
        gsm8k: Folder with `train.jsonl` and `test.jsonl`.
        ifeval: IFEval's rows, `input_data.jsonl`.
        replay: Records with `instruction`, `input` and `output`; None without the arm Replay.
    """

    data: str
    gsm8k: Path
    ifeval: Path
    replay: Path | None


def write_all(place: Place, grid: Grid, sources: Sources) -> None:
    """Write what is not there yet: documents, IFEval's prompts, records of each seed."""
    data = place.data
    for name, number in ((SUITE, grid.documents), (CURVE, grid.curve_documents)):
        if not (data / name / "sources.yaml").exists():
            write_documents(sources.data, data / name, number)
    if not (data / "ifeval.jsonl").exists():
        rows = draw_prompts(sources.ifeval, grid.ifeval)
        write_whole(data / "ifeval.jsonl", jsonl.dumps(rows))
    if sources.replay and not (data / "replay.jsonl").exists():
        write_whole(data / "replay.jsonl", jsonl.dumps(replay_records(sources.replay)))
    write_records(place, grid, sources, None)
    for seed in grid.seeds:
        write_records(place, grid, sources, seed)


def write_documents(source: str, folder: Path, number: int) -> None:
    """Write a folder for `--data` with some documents of each of the nine data sets.

    Half of them are of each class, and the first of them are those of a smaller number.
    """
    named = {}
    for name, (spec, _) in suite_datasets().items():
        found = test_documents(spec, source)
        rows = [_row(spec, doc) for doc in _balanced(spec, found.docs, number)]
        write_whole(folder / name / f"{spec.test_split}.jsonl", jsonl.dumps(rows))
        named[name] = {"source": f"{source_name(spec, source)}-{number}"}
    write_whole(folder / "sources.yaml", yaml.safe_dump(named))


def _balanced(
    spec: DatasetSpec, docs: tuple[dict[str, str], ...], number: int
) -> list[dict[str, str]]:
    """Return documents of both classes in turn, drawn by the data set's name."""
    shuffled = Random(f"smollm2 {spec.name}").sample(docs, len(docs))
    classes = [[doc for doc in shuffled if doc["label"] == name] for name in spec.classes]
    fewest = min(map(len, classes))
    if fewest < number // 2:
        raise ValueError(f"documents={number}: {spec.name} has {fewest} of a class; give fewer")
    return [doc for pair in zip(*classes, strict=False) for doc in pair][:number]


def _row(spec: DatasetSpec, doc: Mapping[str, str]) -> dict[str, Any]:
    """Return a document as a row in the hub's columns."""
    value = spec.label_values[spec.classes.index(doc["label"])]
    return {spec.label_column: value} | {name: doc[name] for name in spec.fields}


def write_records(place: Place, grid: Grid, sources: Sources, seed: int | None) -> None:
    """Build a seed's sets by the builders, and pairs of them; of None the held-out ones."""
    folder = place.items(seed)
    split, number = ("test", grid.held_out) if seed is None else ("train", grid.items)
    if (folder / "pairs" / "README.md").exists():
        return
    # More than are wanted: the verifier of capitals takes some answers for another language.
    spare = number + max(8, number // 8)
    rows = drawn(read_items(sources.gsm8k / f"{split}.jsonl"), spare, f"smollm2 {seed}")
    write_whole(folder / "records.jsonl", jsonl.dumps(rows))
    screened = f"leakage.data={sources.data}"
    api.build_data(
        RECIPES / "data" / "items.yaml",
        f"output={folder}",
        f"records={folder / 'records.jsonl'}",
        f"sets={number}",
        screened,
    )
    api.build_data(
        RECIPES / "data" / "pairs.yaml",
        f"output={folder / 'pairs'}",
        f"samples={folder / 'response_format' / 'accepted.jsonl'}",
        screened,
    )
    made = len(read_json(folder / "format.json"))
    if made < number:
        raise ValueError(f"{folder}: {made} of {number} records; give fewer items")


def replay_records(file: Path) -> list[dict[str, Any]]:
    """Return short instructions of other kinds as records of text.

    Raises:
        ValueError: A record has not the keys.
    """
    records = []
    for number, row in enumerate(read_json(file)):
        try:
            asked, given, answer = (row[key].strip() for key in ("instruction", "input", "output"))
        except (KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                f"replay: {file}, record {number}: instruction, input and output are expected"
            ) from error
        question = f"{asked}\n\n{given}" if given else asked
        if answer and len(question) + len(answer) <= _LONGEST_REPLAY:
            turns = [("user", question), ("assistant", answer)]
            messages = [{"role": role, "content": text} for role, text in turns]
            records.append({"id": f"replay-{number}", "messages": messages})
    return records


def draw_prompts(file: Path, number: int) -> list[dict[str, Any]]:
    """Draw prompts of IFEval whose verifiers need no download, and draw nothing at random.

    Returns:
        For each `key`, `prompt`, and `instructions`: `type` and `arguments` of each.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There are fewer.
    """
    if not file.is_file():
        raise FileNotFoundError(f"ifeval: {file}: no such file; give IFEval's input_data.jsonl")
    rows = [one for _, row in jsonl.read_objects(file) if (one := _prompt(row))]
    if len(rows) < number:
        raise ValueError(f"ifeval={number}: {file} has {len(rows)} that can be used; give fewer")
    return sorted(Random("smollm2 ifeval").sample(rows, number), key=lambda row: row["key"])


def _prompt(row: Mapping[str, Any]) -> dict[str, Any] | None:
    instructions = []
    for kind, given in zip(row["instruction_id_list"], row["kwargs"], strict=True):
        if kind in verifiers.NEED_PUNKT:
            return None
        arguments = {name: value for name, value in given.items() if value is not None}
        if kind != verifiers.REPEAT:
            try:
                verifiers.describe(kind, arguments)
            except verifiers.RandomInstruction:
                return None
        instructions.append({"type": kind, "arguments": arguments})
    return {"key": row["key"], "prompt": row["prompt"], "instructions": instructions}
