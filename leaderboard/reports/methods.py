"""Checkpoints by benchmark: what judged benchmarks and verbalizer runs say, in one table.

    verbalizer-bench judge table out

A row is a checkpoint, by the hash of its weights. A column is a benchmark asked in one way and
judged by one judge: another judge, other prompts, references or questions are another column.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.io.json_reading import read_json
from verbalizer_bench.judged.judge import RESULT
from verbalizer_bench.results.run import Run, find_runs, model_args
from verbalizer_bench.results.summary import summary_of
from verbalizer_bench.results.tables import markdown_table

_TITLES = {
    "mtbench": "MT-Bench",
    "alpacaeval": "AlpacaEval 1",
    "mmvet": "MM-Vet",
    "llava-bench": "LLaVA-Bench",
    "pope": "POPE",
}
# Those whose questions have no image of their own.
_TEXTS = ("mtbench", "alpacaeval")


class Cell(NamedTuple):
    """A score of a checkpoint.

    Attributes:
        checkpoint: What it is known by: its weights' hash.
        name: What its row is called.
        title: The benchmark.
        way: How it was asked and judged; scores of other ways stand in other columns.
        text: The score.
        remark: What a reader must know of it; "" for nothing.
        source: The file or folder that it is from.
    """

    checkpoint: str
    name: str
    title: str
    way: str
    text: str
    remark: str
    source: str


def methods_table(folders: Sequence[Path]) -> str:
    """Return a Markdown table of all results at or below some folders, and what they are of.

    Raises:
        FileNotFoundError: There is none.
        ValueError: A file is none of ours, or a checkpoint has two results in one column.
    """
    cells = [cell for folder in folders for cell in _cells(folder)]
    if not cells:
        raise FileNotFoundError(
            f"{', '.join(map(str, folders))}: no {RESULT} and no run; give the folders that "
            "`judge` and `run` wrote"
        )
    columns = list(dict.fromkeys((cell.title, cell.way) for cell in cells))
    found: dict[tuple[str, tuple[str, str]], Cell] = {}
    for cell in cells:
        other = found.setdefault((cell.checkpoint, (cell.title, cell.way)), cell)
        if other is not cell:
            raise ValueError(
                f"{other.source} and {cell.source}: two results of {cell.name} in one column "
                f"({cell.title}); give one of them"
            )
    rows = _rows(cells, columns, found)
    headers = _headers(columns)
    notes = [f"{name}: {way}" for name, (_, way) in zip(headers, columns, strict=True)]
    titles = dict(zip(columns, headers, strict=True))
    remarks = [
        f"{cell.name}, {titles[cell.title, cell.way]}: {cell.remark}"
        for cell in cells
        if cell.remark
    ]
    table = markdown_table(["Checkpoint", *headers], rows)
    return "\n".join([table, "", *notes, *remarks])


def _rows(
    cells: Sequence[Cell],
    columns: Sequence[tuple[str, str]],
    found: Mapping[tuple[str, tuple[str, str]], Cell],
) -> list[list[str]]:
    names = {cell.checkpoint: cell.name for cell in reversed(cells)}
    rows = []
    for checkpoint in dict.fromkeys(cell.checkpoint for cell in cells):
        name = names[checkpoint]
        # Checkpoints of one name are told apart by their weights.
        if list(names.values()).count(name) > 1:
            name += f" ({checkpoint[:8]})"
        scores = [found.get((checkpoint, column)) for column in columns]
        rows.append([name, *(cell.text if cell else "-" for cell in scores)])
    return rows


def _headers(columns: Sequence[tuple[str, str]]) -> list[str]:
    """Return the columns' names, numbered where a benchmark has several."""
    titles = [title for title, _ in columns]
    return [
        f"{title} #{titles[: place + 1].count(title)}" if titles.count(title) > 1 else title
        for place, title in enumerate(titles)
    ]


def _cells(folder: Path) -> Iterator[Cell]:
    for file in sorted(folder.rglob(RESULT)):
        record = read_json(file)
        if isinstance(record, dict) and record.get("benchmark") in _TITLES:
            try:
                yield from _judged(file, record)
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{file}: not what `judge` writes ({type(error).__name__}: {error}); have it "
                    "judged again"
                ) from error
    if any(folder.rglob("results_*.json")):
        for run in find_runs([folder]):
            yield from _scored(run)


def _judged(file: Path, record: Mapping[str, Any]) -> Iterator[Cell]:
    asked = (record["answered"] or {}).get("asked", {})
    given = asked.get("model_args", {})
    named = given.get("peft") or given.get("pretrained") or asked.get("answers") or file.parent.name
    checkpoint = str(asked.get("weights") or asked.get("sha256") or named)
    about = (checkpoint, Path(named).stem if "answers" in asked else Path(named).name)
    title, remark = _TITLES[record["benchmark"]], _left_out(record)
    for rule, one in (record.get("rules") or {}).items():
        way = f"mean F1 of three splits by the rule {rule}, {_answers(asked)}"
        yield Cell(*about, f"{title} ({rule})", way, _mean(one["f1"], 3), remark, str(file))
    if "rules" not in record:
        text = _mean(record["score"], 2 if record["benchmark"] == "mtbench" else 1)
        if record["benchmark"] == "alpacaeval":
            text += f", {record['answers']['mean_characters']:,.0f} characters"
        way = f"judged by {_judge(record)}, {_answers(asked)}"
        yield Cell(*about, title, way, text, remark, str(file))


def _mean(score: Mapping[str, Any], digits: int) -> str:
    text = f"{score['mean']:.{digits}f}"
    if score["interval"] is None:
        return text
    low, high = score["interval"]
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def _judge(record: Mapping[str, Any]) -> str:
    judge = record["judge"]
    served = ", ".join(sorted(judge["served"]))
    text = f"{judge['model']} (served as {served}), prompts {judge['prompts_sha256'][:8]}"
    if references := record.get("references_sha256"):
        text += f", references {references[:8]}"
    return f"{text}, {json.dumps(judge['parameters'], sort_keys=True)}"


def _answers(asked: Mapping[str, Any]) -> str:
    limit = f", answers of up to {asked['max_tokens']} tokens" if "max_tokens" in asked else ""
    image = asked.get("model_args", {}).get("image", "white")
    texts = asked.get("benchmark") in _TEXTS and asked.get("model") == "verbalizer-lvlm"
    shown = f", shown the image {image}" if texts and image != "none" else ""
    return f"questions {str(asked.get('questions'))[:8]}{limit}{shown}"


def _left_out(record: Mapping[str, Any]) -> str:
    verdicts = record.get("verdicts") or {"left_out": 0}
    dated = f"judged on {record['judge']['date']}" if record["judge"] else ""
    if verdicts["left_out"]:
        dated += f", {verdicts['left_out']} of {verdicts['wanted']} verdicts left out"
    return dated


def _scored(run: Run) -> Iterator[Cell]:
    summary, record = summary_of(run), run.record
    given = model_args(run.results)
    checkpoint = str(record.fingerprint.get("weights") or run.folder)
    name = Path(given.get("peft") or given.get("pretrained") or run.name).name
    mode = record.image.mode if record.image else "no"
    way = f"F1 in %, protocol {summary.protocol}{', partial' if summary.partial else ''}"
    for label_type, scores in summary.label_types.items():
        about = (f"F1 {label_type.lower()}", f"{way}, {mode} image")
        yield Cell(checkpoint, name, *about, str(scores.f1), "", str(run.folder))
