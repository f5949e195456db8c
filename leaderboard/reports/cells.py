"""Scores of judged benchmarks, lmms-eval and verbalizer runs, for the table by benchmark."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from verbalizer_bench.evaluation.lmms_results import LmmsScore
from verbalizer_bench.io.json_reading import read_json
from verbalizer_bench.judged.judge import ATTEMPTS, NO_SCORE, RESULT
from verbalizer_bench.judged.record import TITLES
from verbalizer_bench.leaderboard.reports.methods import VERBALIZER, Cell
from verbalizer_bench.results.run import Run, folder_name, model_args
from verbalizer_bench.results.summary import summary_of

# Those whose questions have no image of their own.
_TEXTS = ("mtbench", "alpacaeval")


def judged_cells(folder: Path) -> Iterator[Cell]:
    """Yield the scores that `judge` wrote at or below a folder, and those that it refused.

    Raises:
        ValueError: A file is not what `judge` writes.
    """
    for file in sorted([*folder.rglob(RESULT), *folder.rglob(NO_SCORE)]):
        record = read_json(file)
        if not isinstance(record, dict) or record.get("benchmark") not in TITLES:
            continue
        try:
            yield from _judged(file, record)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{file}: not what `judge` writes ({type(error).__name__}: {error}); have it "
                "judged again"
            ) from error


def run_cells(run: Run) -> Iterator[Cell]:
    """Yield a verbalizer run's F1 by label type."""
    summary, record = summary_of(run), run.record
    given = model_args(run.results)
    loaded, name = loaded_as(given) if given else (run.name, run.name)
    about = (str(record.fingerprint.get("weights") or run.folder), loaded, name)
    mode = record.image.mode if record.image else "no"
    partial = ", partial" if summary.partial else ""
    way = f"F1 in %, protocol {summary.protocol}{partial}, {mode} image"
    for label_type, scores in summary.label_types.items():
        title = f"{VERBALIZER} {label_type.lower()}"
        made = run.results.date
        yield Cell(*about, title, way, str(scores.f1), "", str(run.folder), made)


def lmms_cell(score: LmmsScore) -> Cell:
    """Return a score that lmms-eval wrote; of its checkpoint it knows no hash."""
    digits = score.benchmark.digits
    text = "no score" if score.value is None else f"{score.value:.{digits}f}"
    if score.mean:
        text = shown(score.mean.record(digits + 1), digits)
    text += ", partial" if score.partial else ""
    note = f" ({score.benchmark.note})" if score.benchmark.note else ""
    loaded, name = loaded_as(score.given)
    about = ("", loaded or str(score.file), name, score.title, score.way + note)
    # Its own date is of a time zone that it does not name.
    made = score.file.stat().st_mtime
    return Cell(*about, text, score.remark, str(score.file), made)


def loaded_as(given: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a model's arguments load (folder or hub id, adapter, revision), and its name."""
    parts = [str(given[key]) for key in ("pretrained", "peft", "revision") if given.get(key)]
    places = [str(Path(part).resolve()) if Path(part).exists() else part for part in parts]
    if not places:
        # A served model, say.
        places = [f"{key}={value}" for key, value in sorted(given.items())]
    named = given.get("peft") or given.get("pretrained") or given.get("model") or "unnamed"
    return " + ".join(places), folder_name(Path(str(named)))


def shown(mean: Mapping[str, Any], digits: int) -> str:
    """Return a score that a result has, with its interval."""
    text = f"{mean['mean']:.{digits}f}"
    if mean["interval"] is None:
        return text
    low, high = mean["interval"]
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def _judged(file: Path, record: Mapping[str, Any]) -> Iterator[Cell]:
    asked = (record["answered"] or {}).get("asked", {})
    if "model_args" in asked:
        loaded, name = loaded_as(asked["model_args"])
    else:
        loaded = str(asked.get("answers") or file.parent.name)
        name = Path(loaded).stem
    about = (str(asked.get("weights") or asked.get("sha256") or loaded), loaded, name)
    time = (record["answered"] or {}).get("time")
    made = datetime.fromisoformat(time).timestamp() if time else None
    title, remark = TITLES[record["benchmark"]], _remark(record)
    partial = ", partial" if record["questions"]["part"] else ""
    for rule, one in (record.get("rules") or {}).items():
        way = f"mean F1 of three splits by the rule {rule}, {_answers(asked)}"
        yield Cell(
            *about, f"{title} ({rule})", way, shown(one["f1"], 3) + partial, remark, str(file), made
        )
    if "rules" not in record:
        text = _score(record)
        way = f"judged by {_judge(record)}, {_answers(asked)}"
        if record["benchmark"] == "mmvp":
            title, way = f"{title} pair, judged", f"% of pairs, {way}, {asked['how']}"
            remark = "; ".join(filter(None, (remark, _mmvp_remark(file, record))))
        yield Cell(*about, title, way, text + partial, remark, str(file), made)


def _score(record: Mapping[str, Any]) -> str:
    if record["score"] is None:
        return "no score"
    text = shown(record["score"], 2 if record["benchmark"] == "mtbench" else 1)
    if record["benchmark"] == "alpacaeval":
        text += f", {record['answers']['mean_characters']:,.0f} characters"
    return text


def _judge(record: Mapping[str, Any]) -> str:
    judge = record["judge"]
    served = ", ".join(sorted(judge["served"])) or "nothing"
    text = f"{judge['model']} (served as {served}), prompts {judge['prompts_sha256'][:8]}"
    if references := record.get("references_sha256"):
        text += f", references {references[:8]}"
    return f"{text}, {json.dumps(judge['parameters'], sort_keys=True)}"


def _answers(asked: Mapping[str, Any]) -> str:
    limit = f", answers of up to {asked['max_tokens']} tokens" if "max_tokens" in asked else ""
    image = asked.get("model_args", {}).get("image", "white")
    texts = asked.get("benchmark") in _TEXTS and asked.get("model") == "verbalizer-lvlm"
    seen = f", shown the image {image}" if texts and image != "none" else ""
    return f"questions {str(asked.get('questions'))[:8]}{limit}{seen}"


def _mmvp_remark(file: Path, record: Mapping[str, Any]) -> str:
    """Return how far the judge agrees with the rule, and that the run is another by now."""
    remarks = []
    if found := record.get("agreement"):
        remarks.append(
            f"judge and rule agree on {found['alike']} of {found['responses']} responses"
        )
    if gaps := record.get("pairs_left_out"):
        remarks.append(f"pair {', '.join(map(str, gaps))} left out")
    judged = record["answered"]["asked"]["results"]
    results = sorted(path.name for path in file.parents[2].glob("results_*.json"))
    if results and results[-1] != judged:
        remarks.append(f"of {judged}, and the folder has a newer run: judge it again")
    return "; ".join(remarks)


def _remark(record: Mapping[str, Any]) -> str:
    verdicts = record.get("verdicts") or {"left_out": 0}
    dated = f"judged on {record['judge']['date']}" if record["judge"] else ""
    if verdicts["left_out"]:
        dated += f", {verdicts['left_out']} of {verdicts['wanted']} verdicts left out"
    if often := verdicts.get(f"asked_more_than_{ATTEMPTS}_times"):
        dated += f", {often} asked for more than {ATTEMPTS} times"
    why = f"no score: {record['problem']}" if "problem" in record else ""
    return "; ".join(filter(None, (record["questions"]["part"], why, dated)))
