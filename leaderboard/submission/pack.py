"""Pack a run as a submission: slim rows without data set text, lm-eval's results, hashes.

verbalizer-bench submit pack out/llama --submitter NAME --licence LICENCE -o submissions

The same run and the same words give the same bytes.
"""

import gzip
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from verbalizer_bench.io import jsonl
from verbalizer_bench.leaderboard.submission.contents import folder_name
from verbalizer_bench.leaderboard.submission.models import (
    SCHEMA_VERSION,
    Submission,
    SubmittedRun,
    SubmittedSample,
)
from verbalizer_bench.leaderboard.submission.reading import SUMS, Malformed, parse, sha256
from verbalizer_bench.results.protocol import derive_protocol, is_partial
from verbalizer_bench.results.run import Run, TaskScores, called, load_run
from verbalizer_bench.tasks.suite import suite, suite_datasets

_HEX = {length: re.compile(rf"[0-9a-f]{{{length}}}") for length in (40, 64)}
# Hub, OpenAI-like and GitHub tokens: a submission is public.
_SECRET = re.compile(r"\b(hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,})")


def pack(
    run: Path,
    output: Path,
    *,
    submitter: str,
    licence: str,
    links: Sequence[str] = (),
    notes: str = "",
    model_id: str | None = None,
    revision: str | None = None,
    weights_sha256: str | None = None,
    kind: str | None = None,
    base: str | None = None,
    base_weights: str | None = None,
    recipe: str | None = None,
) -> Path:
    """Write a run as `<output>/<org>__<model>/<YYYYMMDD>-<8 hex>/`.

    Args:
        run: A run folder, or an `--output_path` with one run.
        output: The folder of submissions.
        submitter: Who submits.
        licence: Of the submission's responses.
        links: Web addresses: paper, code, checkpoint.
        notes: What a reader should know.
        model_id: `org/model`; default: what the run calls the model.
        revision: The hub commit, 40 hex; default: what lm-eval recorded.
        weights_sha256: Hash of the weights; default: the fingerprint of the run.
        kind: `llm` or `lvlm`; default: by the adapter.
        base: What the model was tuned from.
        base_weights: The hash of its stored weights, or its checkpoint's folder; default: what the
            training of the run's checkpoint recorded.
        recipe: How it was tuned.

    Returns:
        The submission's folder.

    Raises:
        ValueError: The run is partial, has no responses or no suite, or a word is malformed.
        FileNotFoundError: There is no run, or samples are missing.
    """
    loaded = load_run(run)
    _check_whole(loaded)
    model = _model(loaded, model_id, kind) | {"base": base, "recipe": recipe}
    model |= _weights(loaded, revision, weights_sha256)
    model["base_weights_sha256"] = _base_weights(loaded, base_weights)
    said = {"submitter": submitter, "links": list(links), "licence": licence, "notes": notes}
    known = {key: value for key, value in model.items() if value is not None}
    submission = _submission({**_circumstances(loaded), **said, "model": known})
    content = _content(loaded, submission)
    return _write(output / folder_name(submission, content["results.json"]), content)


def _model(run: Run, name: str | None, kind: str | None) -> dict[str, Any]:
    """Return what the run says of the model, and the name and kind that were given."""
    return {
        "id": called(run.results) if name is None else name,
        "kind": kind or _kind(run),
        "parameters": _parameters(run),
    }


def _circumstances(run: Run) -> dict[str, Any]:
    """Return what the run says of how and when it was made."""
    return {
        "schema_version": SCHEMA_VERSION,
        "protocol": derive_protocol(run).name,
        "date": datetime.fromtimestamp(run.results.date or 0, UTC).date().isoformat(),
        "image_mode": run.record.image.mode if run.record.image else "n/a",
    }


def _content(run: Run, submission: Submission) -> dict[str, bytes]:
    """Return a submission's files by name, all but their hashes."""
    stated = submission.model_dump(mode="json", exclude_none=True)
    content = {
        "results.json": run.file.read_bytes(),
        "run.json": _run_record(run),
        "submission.yaml": yaml.safe_dump(stated, sort_keys=False, allow_unicode=True).encode(),
    }
    _check_secrets(content)
    for task in run.tasks:
        # No name, no time: the same rows give the same bytes.
        rows = gzip.compress(_slim_rows(run, task), 9, mtime=0)
        content[f"samples/{task.task}.jsonl.gz"] = rows
    return content


def sums(content: Mapping[str, bytes]) -> bytes:
    """Return SHA256SUMS of a submission's files, as `sha256sum --check` reads it."""
    return "".join(f"{sha256(content[name])}  {name}\n" for name in sorted(content)).encode()


def _check_whole(run: Run) -> None:
    if run.record.served:
        raise ValueError(
            f"{run.folder}: a run of a served model: nobody can say which weights answered, nor "
            "ask them again in a spot-check; submit a run of verbalizer-llm or verbalizer-lvlm"
        )
    names, wanted = {task.task for task in run.tasks}, suite()
    if others := sorted(names - set(wanted)):
        raise ValueError(f"{run.folder}: {others[0]} is not the suite's; run the suite alone")
    if missing := sorted(set(wanted) - names):
        raise ValueError(
            f"{run.folder}: {len(missing)} of {len(wanted)} tasks were not run, {missing[0]} for "
            "one; a submission is of the whole suite: --tasks verbalizer"
        )
    limit = run.results.config.limit
    for task in run.tasks:
        counts = run.results.n_samples[task.task]
        asked, there = counts.effective, counts.original
        if limit is not None or asked != there or len(task.doc_ids) != there:
            raise ValueError(
                f"{run.folder}: {task.task}: {len(task.doc_ids)} of {there} documents were run"
                f"{'' if limit is None else f' (--limit {limit:g})'}; run it without a limit"
            )
    if is_partial(run):
        raise ValueError(f"{run.folder}: a shard; `verbalizer-bench merge` puts shards together")


def _kind(run: Run) -> str:
    return "lvlm" if run.record.adapter == "verbalizer-lvlm" else "llm"


def _parameters(run: Run) -> int | None:
    """Return the number of parameters; lm-eval writes -1 where it does not know."""
    number = run.results.config.model_num_parameters
    return number if isinstance(number, int) and number > 0 else None


def _weights(run: Run, revision: str | None, digest: str | None) -> dict[str, str | None]:
    """Return what names the weights: as given, else as the run recorded it."""
    commit, recorded = run.results.config.model_sha, run.record.fingerprint.get("weights")
    if revision is None and _HEX[40].fullmatch(str(commit)):
        revision = commit
    if digest is None and _HEX[64].fullmatch(str(recorded)):
        digest = recorded
    if revision is None and digest is None:
        raise ValueError(
            f"{run.folder}: it does not say which weights these are; give the hub commit as "
            "revision, or weights_sha256"
        )
    return {"revision": revision, "weights_sha256": digest}


def _base_weights(run: Run, given: str | None) -> str | None:
    """Return the hash of the base's weights: as given, or as it was recorded."""
    if given is not None and not _HEX[64].fullmatch(given):
        from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256

        digest = checkpoint_sha256(Path(given)) if Path(given).is_dir() else "no such folder"
        if not _HEX[64].fullmatch(digest):
            raise ValueError(
                f"submit pack: --base-weights {given}: {digest.removeprefix('unknown: ')}; give "
                "the 64 digits of the base's own run, or its checkpoint's folder"
            )
        return digest
    return given or _recorded_base(run)


def _recorded_base(run: Run) -> str | None:
    """Return the base of an adapter, or what the training of the run's checkpoint recorded."""
    arguments, recorded = run.results.config.model_args, run.record.fingerprint.get("weights")
    if not isinstance(arguments, dict):
        return None
    # A folder that was written again since is another checkpoint.
    if arguments.get("peft"):
        from verbalizer_bench.models.checkpoints.weight_hash import weights_sha256

        known = weights_sha256(**arguments) == recorded
        base = weights_sha256(**{**arguments, "peft": None}) if known else ""
        return base if _HEX[64].fullmatch(base) else None
    file = Path(str(arguments.get("pretrained"))) / "training.json"
    if not file.is_file():
        return None
    record = json.loads(file.read_text(encoding="utf-8"))
    known = record.get("weights_kind") and record.get("weights") == recorded
    base = str(record.get("base_weights"))
    return base if known and _HEX[64].fullmatch(base) else None


def _submission(stated: dict[str, Any]) -> Submission:
    try:
        return parse(Submission, "submission.yaml", stated)
    except Malformed as error:
        raise ValueError(f"submit pack: {error.text}") from error


def _run_record(run: Run) -> bytes:
    """Return run.json without the command line, which has the submitter's own paths."""
    config, record = run.results.config, run.run_json()
    if record.get("results") != run.file.name:
        stated = run.record.model_dump(exclude_unset=True)
        record = {"results": run.file.name, "model": config.model, **stated}
        record["model_args"] = config.model_args
    record.pop("command", None)
    record |= {"seeds": config.seeds, "batch_size": config.batch_size}
    try:
        parse(SubmittedRun, "run.json", record)
    except Malformed as error:
        raise ValueError(f"{run.folder / 'run.json'}: {error.text}") from error
    return (json.dumps(record, indent=2) + "\n").encode()


def _check_secrets(content: Mapping[str, bytes]) -> None:
    for name, text in content.items():
        if match := _SECRET.search(text.decode("utf-8")):
            raise ValueError(
                f"submit pack: {name} holds what looks like an access token, "
                f"{match[0][:6]}…; submissions are public: run without it in the arguments"
            )


def _slim_rows(run: Run, task: TaskScores) -> bytes:
    spec, path = suite_datasets()[task.dataset][0], run.samples_file(task.task)
    rows = []
    for sample in sorted(run.samples(task.task), key=lambda sample: sample.doc_id):
        slim = {
            "doc_id": sample.doc_id,
            "doc_hash": sample.doc_hash,
            "raw_prompt_hash": sha256(spec.render(sample.doc, task.verbalizer).encode()),
            "prompt_hash": sample.prompt_hash,
            "target": sample.target,
            "response": sample.response,
            "f1": sample.f1,
        }
        try:
            parse(SubmittedSample, path.name, slim)
        except Malformed as error:
            raise ValueError(f"{path}: document {sample.doc_id}: {error.text}") from error
        rows.append(slim)
    return jsonl.dumps(rows).encode()


def _write(folder: Path, content: Mapping[str, bytes]) -> Path:
    """Write all files or none."""
    if folder.exists():
        raise ValueError(f"{folder}: already there; remove it to pack the run again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".pack-"))
    try:
        (draft / "samples").mkdir()
        for name, text in {**content, SUMS: sums(content)}.items():
            (draft / name).write_bytes(text)
        draft.chmod(0o755)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft)
        raise
    return folder
