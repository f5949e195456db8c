"""Regenerate a few documents of a submission: the check that finds invented responses.

verbalizer-bench submit spot-check submissions/org__model/20260101-0123abcd -k 20 --data rows

For maintainers: it runs the model. Responses can differ without anybody's fault (another device or
precision rounds otherwise), so it prints how many agree and judges nothing.
"""

import contextlib
import dataclasses
import json
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verbalizer_bench.leaderboard.submission.checks import check_complete, suite
from verbalizer_bench.leaderboard.submission.contents import Contents, read_submission
from verbalizer_bench.leaderboard.submission.models import Row
from verbalizer_bench.leaderboard.submission.reading import Malformed, sha256, short
from verbalizer_bench.tasks.generate import read_dataset, suite_files
from verbalizer_bench.tasks.metrics import token_f1

# All that is taken of a submission's arguments: transformers runs code that others name.
_GENERATION = ("num_beams", "max_gen_toks", "do_sample", "until")
_ADAPTERS = {"llm": "verbalizer-llm", "lvlm": "verbalizer-lvlm"}


@dataclasses.dataclass(frozen=True)
class SpotCheck:
    """How many regenerated responses are those of the submission.

    Attributes:
        folder: The submission.
        documents: How many documents were asked about, each with its twelve verbalizers.
        responses: How many responses.
        equal: How many are the submission's, character for character.
        equal_f1: How many have the submission's F1.
        same_weights: Whether the model's weights are the submission's; None if one is unknown.
        images: The image mode of the submission and of the new run.
        differing: Task, document, the submission's and the new response of the first that differ.
    """

    folder: Path
    documents: int
    responses: int
    equal: int
    equal_f1: int
    same_weights: bool | None
    images: tuple[str, str]
    differing: tuple[tuple[str, int, str, str], ...]

    def __str__(self) -> str:
        weights = {
            True: "the submission's",
            False: "OTHERS than the submission's",
            None: "not known to be the same",
        }[self.same_weights]
        lines = [
            f"{self.folder}: {self.equal} of {self.responses} responses agree "
            f"({1000 * self.equal // self.responses / 10} %), {self.equal_f1} in F1; "
            f"{self.documents} documents, 12 verbalizers each",
            f"weights: {weights}",
        ]
        stated, shown = self.images
        if stated != shown:
            lines.append(f"image: {short(shown)}, OTHER than the submission's ({short(stated)})")
        for task, doc_id, old, new in self.differing:
            lines.append(
                f"  {task}, document {doc_id}: {short(old, 60)} there, {short(new, 60)} now"
            )
        return "\n".join(lines)


def spot_check(
    folder: Path,
    documents: int = 20,
    *,
    model_args: str | None = None,
    data: str | None = None,
    device: str | None = None,
    batch_size: str = "8",
    seed: int = 0,
) -> SpotCheck:
    """Ask the model again about a few documents of each data set, drawn by the seed.

    Args:
        folder: The submission's own folder.
        documents: How many, over all data sets.
        model_args: lm-eval's; default: the hub commit that the submission names. Of the
            submission's own arguments dtype, image and `_GENERATION` are taken: others could run
            code.
        data: Where the rows are, as for `run`.
        device: lm-eval's.
        batch_size: lm-eval's.
        seed: Of the choice of documents.

    Raises:
        ValueError: The submission is malformed, or was run in a way that cannot be repeated.
    """
    try:
        found = read_submission(folder)
    except Malformed as error:
        raise ValueError(f"{folder}: {error}") from error
    if problem := next(check_complete(found), None):
        raise ValueError(f"{folder}: {problem}")
    there = _count(found)
    if not 1 <= documents <= there:
        raise ValueError(f"submit spot-check: -k {documents}: give 1 to {there} documents")
    chosen = _choose(found, documents, random.Random(seed))
    with tempfile.TemporaryDirectory(prefix="spot-check-") as place:
        arguments = _arguments(found, model_args)
        arguments += ["--tasks", ",".join(chosen), "--samples", json.dumps(chosen)]
        arguments += ["--output_path", place, "--batch_size", batch_size]
        arguments += ["--data", data] if data else []
        arguments += ["--device", device] if device else []
        results, rows = _run(arguments)
    return _compare(found, chosen, results, rows, documents)


def _count(found: Contents) -> int:
    first = {dataset: task for task, (dataset, _) in reversed(suite().items())}
    return sum(len(found.rows.get(task, ())) for task in first.values())


def _choose(found: Contents, documents: int, generator: random.Random) -> dict[str, list[int]]:
    """Return document numbers by task, the data sets in turn until there are enough."""
    tasks: dict[str, list[str]] = {}
    for task, (dataset, _) in suite().items():
        tasks.setdefault(dataset, []).append(task)
    left = {}
    for dataset, own in tasks.items():
        ids = [row.doc_id for row in found.rows.get(own[0], ())]
        left[dataset] = generator.sample(ids, len(ids))
    chosen: dict[str, list[int]] = {}
    while documents:
        for dataset, ids in left.items():
            if ids and documents:
                chosen.setdefault(dataset, []).append(ids.pop())
                documents -= 1
    return {task: sorted(ids) for dataset, ids in chosen.items() for task in tasks[dataset]}


def _arguments(found: Contents, model_args: str | None) -> list[str]:
    config, model = found.results.config, found.submission.model
    if any(settings.num_fewshot for settings in found.results.configs.values()):
        raise ValueError(f"{found.folder}: a few-shot run; spot-check repeats zero-shot runs only")
    if config.verbalizer_bench is None:
        raise ValueError(
            f"{found.folder}: run by {short(config.model)}; spot-check repeats runs of "
            "verbalizer-llm and verbalizer-lvlm only"
        )
    if model_args is None:
        if model.revision is None:
            raise ValueError(
                f"{found.folder}: names no hub commit; give --model_args pretrained=DIR"
            )
        if Path(model.id).exists():
            raise ValueError(
                f"{found.folder}: a folder {model.id} is here, and would be loaded in place of the "
                "hub's; go to another folder, or give --model_args"
            )
        model_args = f"pretrained={model.id},revision={model.revision}"
        stated = found.run.dtype, (found.run.image or {}).get("mode")
        for key, value in zip(("dtype", "image"), stated, strict=True):
            word = str(value).removeprefix("torch.")
            model_args += f",{key}={word}" if value and word.isalnum() else ""
    generation = next(iter(found.results.configs.values())).generation_kwargs
    asked = generation.model_dump(exclude_unset=True)
    if others := sorted(set(asked) - set(_GENERATION)):
        raise ValueError(
            f"{found.folder}: generated with {short(others[0])}, which spot-check does not repeat"
        )
    arguments = ["--model", _ADAPTERS[model.kind], "--model_args", model_args]
    arguments += ["--gen_kwargs", json.dumps(asked)]
    return arguments + ["--apply_chat_template"] * bool(found.run.chat_template_sha256)


def _run(arguments: Sequence[str]) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    from verbalizer_bench.harness import harness
    from verbalizer_bench.leaderboard.runs import newest_results, read_results, samples_file

    # lm-eval logs a line a task.
    os.environ.setdefault("LMEVAL_LOG_LEVEL", "WARNING")
    with contextlib.redirect_stdout(None):
        (folder,) = harness("run", arguments)
    results = newest_results(folder)
    table = read_results(results)
    rows = {}
    for task in table["configs"]:
        lines = samples_file(results, task).read_text(encoding="utf-8").split("\n")
        rows[task] = [json.loads(line) for line in lines if line]
    return table, rows


def _compare(
    found: Contents,
    chosen: dict[str, list[int]],
    results: dict[str, Any],
    rows: dict[str, list[dict[str, Any]]],
    documents: int,
) -> SpotCheck:
    equal, equal_f1, total, differing = 0, 0, 0, []
    for task in chosen:
        stated = {row.doc_id: row for row in found.rows[task]}
        for row in rows[task]:
            old, new = stated[row["doc_id"]], row["filtered_resps"][0]
            _check_prompt(found.folder, task, old, row)
            total += 1
            equal += old.response == new
            equal_f1 += abs(old.f1 - token_f1(old.target, new)) < 1e-9
            if old.response != new:
                differing.append((task, old.doc_id, old.response, new))
    record, own = found.results.config.verbalizer_bench, results["config"]["verbalizer_bench"]
    weights = record and record.fingerprint.get("weights"), own["fingerprint"].get("weights")
    same = weights[0] == weights[1] if all(weights) else None
    shown = str((own["image"] or {}).get("mode", "n/a"))
    images = found.submission.image_mode, shown
    first = tuple(differing[:10])
    return SpotCheck(found.folder, documents, total, equal, equal_f1, same, images, first)


def _check_prompt(folder: Path, task: str, stated: Row, row: dict[str, Any]) -> None:
    dataset, verbalizer = suite()[task]
    spec = read_dataset(suite_files()[dataset])[0]
    raw = sha256(spec.render(row["doc"], verbalizer).encode())
    if (raw, row["target"]) != (stated.raw_prompt_hash, stated.target):
        raise ValueError(
            f"{folder}: {task}, document {stated.doc_id}: another prompt than these rows give; "
            "give --data with the submission's rows"
        )
