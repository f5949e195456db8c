"""What is kept of a judged benchmark: `result.json` in the judge's folder."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_json
from verbalizer_bench.judged.answering import NO_ROOM, RECORD
from verbalizer_bench.judged.judge import RESULT, Verdict, Wanted, ask_verdicts, check_complete
from verbalizer_bench.judged.questions import Answer, sha256_of
from verbalizer_bench.version import __version__


def judge_folder(output: Path, judge: str) -> Path:
    """Return where a judge's verdicts on a folder's answers are."""
    return output / ("judge-" + re.sub(r"[^\w.-]+", "_", judge))


def have_judged(
    benchmark: str, endpoint: Endpoint, wanted: Sequence[Wanted], output: Path
) -> list[Verdict]:
    """Return a judge's verdicts on a folder's answers.

    Raises:
        ValueError: The judge cannot be asked, or too many verdicts are missing.
    """
    verdicts = ask_verdicts(endpoint, wanted, judge_folder(output, endpoint.model))
    check_complete(benchmark, verdicts)
    return verdicts


def write_judged(
    benchmark: str,
    endpoint: Endpoint,
    output: Path,
    scores: Mapping[str, Any],
    asked: tuple[Sequence[Verdict], Mapping[str, Answer], Any],
) -> Path:
    """Write the result of a judged benchmark; return its file.

    Args:
        benchmark: Its name.
        endpoint: The judge.
        output: The folder of the answers.
        scores: What the benchmark makes of the verdicts.
        asked: The verdicts, the answers that were judged, and the judge's prompts.
    """
    verdicts, answers, prompts = asked
    result = {
        **scores,
        "judge": judge_record(endpoint, sha256_of(prompts), verdicts),
        "verdicts": verdict_counts(verdicts),
        "answers": answer_counts(answers),
    }
    return write_result(output, judge_folder(output, endpoint.model), benchmark, result)


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
    """Return how many verdicts there are, were asked for again, and were left out, and why."""
    missing = [verdict for verdict in verdicts if verdict.value is None]
    return {
        "wanted": len(verdicts),
        "asked_again": sum(verdict.attempts > 1 for verdict in verdicts),
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


def write_result(output: Path, folder: Path, benchmark: str, result: Mapping[str, Any]) -> Path:
    """Write a result with what made the answers; return its file."""
    answered = output / RECORD
    record = {
        "benchmark": benchmark,
        "verbalizer-bench": __version__,
        "answered": read_json(answered) if answered.is_file() else None,
        **result,
    }
    file = folder / RESULT
    write_whole(file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return file
