"""Judge answers, and keep what comes of it: `result.json` in the judge's folder.

Where too many verdicts are missing, or the judge could not be asked for the rest, `no_score.json`
stands there instead, for `report`.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_json
from verbalizer_bench.judged.answering import NO_ROOM, RECORD
from verbalizer_bench.judged.judge import (
    ATTEMPTS,
    NO_SCORE,
    RESULT,
    Judge,
    JudgeStopped,
    TooFewVerdicts,
    Verdict,
    Wanted,
    ask_verdicts,
    check_complete,
)
from verbalizer_bench.judged.questions import Answer, Question, sha256_of
from verbalizer_bench.version import __version__

TITLES = {
    "mmvet": "MM-Vet",
    "llava-bench": "LLaVA-Bench",
    "pope": "POPE",
    "mtbench": "MT-Bench",
    "alpacaeval": "AlpacaEval 1",
    "mmvp": "MMVP",
}
# How many questions each has; LLaVA-Bench is In-the-Wild.
WHOLE = {
    **{"mmvet": 218, "llava-bench": 60, "pope": 9000, "mtbench": 80, "alpacaeval": 805},
    "mmvp": 300,
}


class Found(Protocol):
    """What a benchmark makes of verdicts."""

    def record(self) -> dict[str, Any]:
        """Return what a result has of it."""

    def lines(self) -> list[str]:
        """Return what is printed of it."""


class Asked(Protocol):
    """A benchmark's name and questions; read-only, for named tuples have them."""

    @property
    def name(self) -> str:
        """The benchmark's name in results."""

    @property
    def questions(self) -> Sequence[Question]:
        """What is asked."""


class JudgedBenchmark(Asked, Protocol):
    """A benchmark's files, as each benchmark with a judge reads them."""

    @property
    def references(self) -> Mapping[str, Any]:
        """What answers are held against, by question; for a hash."""

    @property
    def prompts(self) -> Any:
        """All else that the judge is told; for a hash."""

    def wanted(self, answers: Mapping[str, Answer]) -> list[Wanted]:
        """Return what the judge is asked."""

    def scores(self, answers: Mapping[str, Answer], verdicts: Sequence[Verdict]) -> Found:
        """Return the scores of the verdicts that are there."""


def part_of(benchmark: str, asked: int) -> str | None:
    """Return that fewer questions were asked than a benchmark has; None if all were."""
    whole = WHOLE[benchmark]
    return f"{asked:,} of {whole:,} questions: not the benchmark" if asked < whole else None


def judge_folder(output: Path, judge: str) -> Path:
    """Return where a judge's verdicts on a folder's answers are; of no two judges the same."""
    name = re.sub(r"[^\w.-]+", "_", judge)
    if name != judge:
        name += f"-{hashlib.sha256(judge.encode()).hexdigest()[:8]}"
    return output / f"judge-{name}"


def judge_answers(
    bench: JudgedBenchmark, answers: Mapping[str, Answer], judge: Judge, output: Path
) -> tuple[Found, Path]:
    """Have all answers judged, and write the result.

    Args:
        bench: The benchmark's files.
        answers: To all of its questions.
        judge: Who judges.
        output: The folder of the answers; the judge gets a folder in it.

    Returns:
        The scores, and the file that has them.

    Raises:
        ValueError: The judge cannot be asked, or too many verdicts are missing.
    """
    folder = judge_folder(output, judge.endpoint.model)
    verdicts: list[Verdict] = []
    try:
        verdicts = ask_verdicts(judge, bench.wanted(answers), folder)
        check_complete(bench.name, verdicts)
    except (JudgeStopped, TooFewVerdicts) as error:
        none = {"score": None, "problem": str(error), **_about(bench, answers, judge, verdicts)}
        write_result(output, folder, bench, none, NO_SCORE)
        raise
    found = bench.scores(answers, verdicts)
    about = _about(bench, answers, judge, verdicts)
    return found, write_result(output, folder, bench, {**found.record(), **about})


def _about(
    bench: JudgedBenchmark,
    answers: Mapping[str, Answer],
    judge: Judge,
    verdicts: Sequence[Verdict],
) -> dict[str, Any]:
    return {
        "judge": judge_record(judge.endpoint, sha256_of(bench.prompts), verdicts),
        "verdicts": verdict_counts(verdicts),
        "answers": answer_counts(answers),
        "references_sha256": sha256_of(bench.references),
    }


def judge_record(
    endpoint: Endpoint, prompts_sha256: str, verdicts: Sequence[Verdict]
) -> dict[str, Any]:
    """Return who judged and how: what another judge's result may not be compared with."""
    read = sum(verdict.input_tokens for verdict in verdicts)
    written = sum(verdict.output_tokens for verdict in verdicts)
    priced = endpoint.input_price is not None and endpoint.output_price is not None
    return {
        "model": endpoint.model,
        "served": dict(Counter(verdict.model for verdict in verdicts if verdict.model)),
        "address": endpoint.address,
        "parameters": endpoint.parameters,
        "prompts_sha256": prompts_sha256,
        "input_tokens": read,
        "output_tokens": written,
        "money": round(endpoint.money(read, written), 6) if priced else None,
        "date": datetime.now(UTC).date().isoformat(),
    }


def verdict_counts(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return how many verdicts there are, were asked for again, and were left out, and why.

    More often than `ATTEMPTS` is by more than one command, of which the first left it out.
    """
    missing = [verdict for verdict in verdicts if verdict.value is None]
    return {
        "wanted": len(verdicts),
        "attempts": sum(verdict.attempts for verdict in verdicts),
        "asked_again": sum(verdict.attempts > 1 for verdict in verdicts),
        f"asked_more_than_{ATTEMPTS}_times": sum(v.attempts > ATTEMPTS for v in verdicts),
        "left_out": len(missing),
        "problems": {verdict.id: verdict.problem for verdict in missing},
    }


def answer_counts(answers: Mapping[str, Answer]) -> dict[str, Any]:
    """Return how long answers are, and how many were cut off or are empty."""
    texts = [text for answer in answers.values() for text in answer.turns]
    endings = Counter(ending for answer in answers.values() for ending in answer.endings)
    return {
        "count": len(texts),
        "mean_characters": round(sum(map(len, texts)) / len(texts), 1),
        "empty": sum(not text for text in texts),
        "cut_off": endings["limit"],
        "no_room": endings[NO_ROOM],
    }


def write_result(
    output: Path, folder: Path, bench: Asked, result: Mapping[str, Any], name: str = RESULT
) -> Path:
    """Write a result with what made the answers; return its file."""
    answered, asked = output / RECORD, len(bench.questions)
    record = {
        "benchmark": bench.name,
        "questions": {
            "asked": asked,
            "of": WHOLE[bench.name],
            "part": part_of(bench.name, asked),
        },
        "verbalizer-bench": __version__,
        "answered": read_json(answered) if answered.is_file() else None,
        **result,
    }
    file = folder / name
    write_whole(file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return file
