"""Level 5: is what a submission says of its run what the run recorded?

Every check looks at one claim from two sides. What only one side says is the submitter's word.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from verbalizer_bench.leaderboard.submission.contents import Contents
from verbalizer_bench.leaderboard.submission.models import Record
from verbalizer_bench.results.protocol import derive_protocol
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.schema import short

_KINDS = {"verbalizer-llm": "llm", "verbalizer-lvlm": "lvlm"}
_HASH = re.compile(r"[0-9a-f]{64}")
# A hub id: one slash, and no way to a folder.
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
# What an adapter records twice: for itself, and in the fingerprint that a resume is held to.
_TWICE = ("adapter", "eos_token_ids", "generation_config", "chat_template_sha256", "versions")
_DTYPES = ("float32", "float16", "bfloat16", "float64")


def check_claims(contents: Contents, run: Run) -> Iterator[str]:
    """Level 5: what is claimed of the run is what was run."""
    yield from _protocol(contents, run)
    yield from _model(contents)
    yield from _weights(contents)
    yield from _record(contents)
    yield from _fingerprinted(contents)
    yield from _dtype(contents)
    yield from _device(contents)
    yield from _versions(contents)
    yield from _seeds(contents)
    yield from _engine(contents)
    yield from _template(contents)
    yield from _counts(contents)


def notes(contents: Contents) -> tuple[str, ...]:
    """Return what is the submitter's word, since the run does not say."""
    said, model = [], contents.submission.model
    if model.revision and recorded_commit(contents) is None:
        said.append("model.revision is the submitter's word: the run does not record it")
    if model.weights_sha256 and not _HASH.fullmatch(str(_fingerprint(contents).get("weights"))):
        said.append("model.weights_sha256 is the submitter's word: the run does not record it")
    loaded = _loaded(contents)
    if loaded != model.id and not _on_hub(contents, loaded):
        said.append("model.id is the submitter's word: the run loaded a folder, or does not say")
    return tuple(said)


def recorded_commit(contents: Contents) -> str | None:
    """Return the hub commit that the run was told to load, if it was."""
    revision = arguments(contents).get("revision")
    is_commit = isinstance(revision, str) and re.fullmatch(r"[0-9a-f]{40}", revision)
    return str(revision) if is_commit else None


def stored_weights(contents: Contents) -> str | None:
    """Return the hash of the stored weights that the run recorded; None for another kind."""
    seen = _fingerprint(contents)
    weights = seen.get("weights") if seen.get("weights_kind") == "stored" else None
    return str(weights) if _HASH.fullmatch(str(weights)) else None


def arguments(contents: Contents) -> Mapping[str, Any]:
    """Return the run's model_args, parsed where they are a text."""
    given = contents.run.model_args
    if isinstance(given, str):
        pairs = (part.split("=", 1) for part in given.split(",") if "=" in part)
        return {key.strip(): value.strip() for key, value in pairs}
    return given or {}


def _fingerprint(contents: Contents) -> Mapping[str, Any]:
    record = contents.results.config.verbalizer_bench
    return record.fingerprint if record else {}


def _loaded(contents: Contents) -> Any:
    loaded = arguments(contents)
    return loaded.get("peft") or loaded.get("pretrained")


def _on_hub(contents: Contents, name: Any) -> bool:
    """Say whether a run's model is the hub's; a folder of two names was recorded as one."""
    local = _fingerprint(contents).get("weights_from") == "folder"
    return isinstance(name, str) and bool(_HUB_ID.fullmatch(name)) and not local


def _protocol(contents: Contents, run: Run) -> Iterator[str]:
    stated, protocol = contents.submission, derive_protocol(run)
    record = contents.results.config.verbalizer_bench
    if stated.protocol != protocol.name:
        why = f": {'; '.join(protocol.differences)}" if protocol.differences else ""
        yield (
            f"submission.yaml: protocol: {stated.protocol}, but the run is {protocol.name}"
            f"{short(why, 300)[1:-1]}"
        )
    mode = record.image.mode if record and record.image else "n/a"
    if record and stated.image_mode != mode:
        yield f"submission.yaml: image_mode: {short(stated.image_mode)}, but the run had {mode!r}"
    if (made := contents.results.date) and datetime.fromtimestamp(made, UTC).date() != stated.date:
        yield "submission.yaml: date is not the run's"


def _model(contents: Contents) -> Iterator[str]:
    model, config = contents.submission.model, contents.results.config
    kind = config.verbalizer_bench and _KINDS.get(config.verbalizer_bench.adapter)
    if kind and model.kind != kind:
        yield f"submission.yaml: model.kind: {model.kind}, but the adapter is for an {kind}"
    loaded, given = _loaded(contents), arguments(contents)
    if _on_hub(contents, loaded) and loaded != model.id:
        yield f"submission.yaml: model.id: {model.id}, but the run loaded {short(loaded)}"
    base = given.get("pretrained") if given.get("peft") else None
    if _on_hub(contents, base) and model.base not in (None, base):
        yield f"submission.yaml: model.base: {model.base}, but the adapter was on {short(base)}"
    commit = recorded_commit(contents)
    if commit and model.revision not in (None, commit):
        yield f"submission.yaml: model.revision: {model.revision}, but the run had {commit}"
    if config.model_sha and model.revision not in (None, config.model_sha):
        yield "submission.yaml: model.revision is not the run's model_sha"
    number = config.model_num_parameters or 0
    if number > 0 and model.parameters not in (None, number):
        yield "submission.yaml: model.parameters is not the run's model_num_parameters"


def _weights(contents: Contents) -> Iterator[str]:
    stated, recorded = (
        contents.submission.model.weights_sha256,
        _fingerprint(contents).get("weights"),
    )
    if _HASH.fullmatch(str(recorded)) and stated not in (None, recorded):
        yield (
            f"submission.yaml: model.weights_sha256: {stated}, but run.json's "
            f"fingerprint.weights is {short(recorded)}"
        )


def _record(contents: Contents) -> Iterator[str]:
    config, record = contents.results.config, contents.results.config.verbalizer_bench
    has = record.model_dump(exclude_unset=True) if record else {}
    said = contents.run.model_dump(exclude_unset=True)
    for key in Record.model_fields:
        if has.get(key) != said.get(key):
            yield f"run.json: {key} is not what results.json has"
    if contents.run.model != config.model:
        yield "run.json: model is not what results.json has"
    if config.model_args is not None and contents.run.model_args != config.model_args:
        yield "run.json: model_args is not what results.json has"
    if record and (record.adapter not in _KINDS or record.adapter != config.model):
        yield f"results.json: adapter {short(record.adapter)} of model {short(config.model)}"
    if record and (record.image is None) != (record.adapter != "verbalizer-lvlm"):
        yield "results.json: image: verbalizer-lvlm records one, and no other adapter"


def _fingerprinted(contents: Contents) -> Iterator[str]:
    """Compare what an adapter records of itself with what its fingerprint says of the same."""
    record, seen = contents.results.config.verbalizer_bench, _fingerprint(contents)
    has = record.model_dump(exclude_unset=True) if record else {}
    said = {key: has.get(key) for key in _TWICE}
    image, rendering = has.get("image") or {}, has.get("rendering")
    said["image"] = image.get("sha256", image.get("mode"))
    said["rendering"] = rendering and {k: rendering.get(k) for k in ("date", "arguments")}
    for key, value in said.items():
        if key in seen and seen[key] != value:
            yield (
                f"results.json: {key}: {short(value, 70)}, and {short(seen[key], 70)} in the "
                "fingerprint"
            )


def _dtype(contents: Contents) -> Iterator[str]:
    config, record = contents.results.config, contents.results.config.verbalizer_bench
    asked = str(arguments(contents).get("dtype")).removeprefix("torch.")
    yield from _one(
        "dtype",
        {
            "record": _plain(record and record.dtype),
            "fingerprint": _plain(_fingerprint(contents).get("dtype")),
            "model_dtype": _plain(config.model_dtype),
            "model_args": asked if asked in _DTYPES else None,
        },
    )


def _plain(dtype: Any) -> str | None:
    return None if dtype is None else str(dtype).removeprefix("torch.")


def _device(contents: Contents) -> Iterator[str]:
    config, record = contents.results.config, contents.results.config.verbalizer_bench
    if record and record.device == "cpu":
        # lm-eval asks for `cuda` unless told otherwise, keeps the word, and runs on the CPU.
        return
    kinds = {"record": record and record.device, "config": config.device}
    yield from _one("device", {k: str(v).split(":")[0] if v else None for k, v in kinds.items()})


def _versions(contents: Contents) -> Iterator[str]:
    results, record = contents.results, contents.results.config.verbalizer_bench
    stated = (record and record.versions) or {}
    for name, recorded in (
        ("lm_eval", results.lm_eval_version),
        ("transformers", results.transformers_version),
    ):
        yield from _one(f"version of {name}", {"record": stated.get(name), "results": recorded})


def _seeds(contents: Contents) -> Iterator[str]:
    config = contents.results.config.model_dump()
    for key, value in (contents.run.seeds or {}).items():
        if key in config and config[key] != value:
            yield f"run.json: seeds: {short(key)} is {short(value)}, there {short(config[key])}"
    size = contents.results.config.batch_size
    if size is not None and contents.run.batch_size not in (None, size):
        yield "run.json: batch_size is not what results.json has"


def _engine(contents: Contents) -> Iterator[str]:
    record, total = contents.results.config.verbalizer_bench, sum(map(len, contents.rows.values()))
    if record is None:
        return
    made = sum(record.engine.values())
    if made != total:
        yield (
            f"results.json: engine: {made} responses, and there are {total}: others came from a "
            "cache, or are not the run's; run without --use_cache"
        )
    if record.endings and sum(record.endings.values()) != made:
        yield f"results.json: endings: {sum(record.endings.values())}, the engine made {made}"
    by_rank = record.responses_by_rank
    if by_rank is not None and record.world_size not in (None, len(by_rank)):
        yield f"results.json: world_size: {record.world_size}, and {len(by_rank)} ranks answered"
    if by_rank is not None and sum(by_rank) != made:
        yield f"results.json: responses_by_rank: {sum(by_rank)} in all, the engine made {made}"


def _template(contents: Contents) -> Iterator[str]:
    results, record = contents.results, contents.results.config.verbalizer_bench
    text = results.chat_template
    if record and text and not record.chat_template_sha256:
        yield "results.json: chat_template is set, and chat_template_sha256 is not"
    digest = hashlib.sha256(text.encode()).hexdigest() if text else None
    seen = None if record is None else record.chat_template_sha256
    yield from _one(
        "chat template's hash",
        {"text": digest, "results": results.chat_template_sha, "record": seen},
    )
    shots = any(settings.num_fewshot for settings in results.configs.values())
    if record is None or shots or results.system_instruction:
        return
    # Without a template the prompt that was asked is the raw one.
    plain = {
        row.prompt_hash == row.raw_prompt_hash for rows in contents.rows.values() for row in rows
    }
    if record.chat_template_sha256 and True in plain:
        yield "results.json: chat_template_sha256 is set, but prompts were asked without a template"
    if not record.chat_template_sha256 and False in plain:
        yield "results.json: chat_template_sha256 is not set, but prompts are not the raw ones"


def _counts(contents: Contents) -> Iterator[str]:
    results, record = contents.results, contents.results.config.verbalizer_bench
    if record and record.bos_counts and record.bos_counts[0] > record.bos_counts[1]:
        yield "results.json: bos_counts: the least is above the most"
    for task, settings in results.configs.items():
        if results.n_shot.get(task, 0) != (settings.num_fewshot or 0):
            yield f"results.json: {task}: num_fewshot and n-shot differ"
            break


def _one(what: str, said: Mapping[str, str | None]) -> Iterable[str]:
    """Yield a line where two places name different values; None says nothing."""
    known = {place: value for place, value in said.items() if value is not None}
    if len(set(known.values())) > 1:
        text = ", ".join(f"{short(value, 70)} in {place}" for place, value in known.items())
        yield f"results.json: {what}: {text}"
