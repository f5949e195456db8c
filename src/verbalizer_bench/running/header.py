"""What a run says first: which model is asked what, with rows from where, and where it is kept."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verbalizer_bench.running.options import SERVED
from verbalizer_bench.tasks.identity import verify_task
from verbalizer_bench.version import __version__

_PLACES = {
    "hub": "the hub",
    "sample": "made samples, which test the software: a score on them says nothing of a model",
}


def header(
    args: argparse.Namespace, tasks: Mapping[str, Any], others: Sequence[str], log: Path
) -> list[str]:
    """Return the lines that are known before the model is loaded.

    Args:
        args: lm-eval's, checked.
        tasks: Ours, loaded, by name.
        others: Names of lm-eval's.
        log: Where all log lines go.
    """
    named = args.tasks if isinstance(args.tasks, str) else ",".join(args.tasks)
    parts = [f"{len(tasks)} of verbalizer-bench's"] if tasks else []
    parts += [f"{len(others)} of lm-eval's"] if others else []
    lines = [f"verbalizer-bench {__version__}; all log lines: {log}"]
    lines.append(f"tasks: {_short(named)} ({' and '.join(parts)})")
    if tasks:
        lines.append(f"rows: {_rows(args.metadata['data'], tasks)}")
        lines.append(f"prompts: {_prompts(args, tasks)}")
    what = args.model_args or {}
    name = what.get("model" if args.model == SERVED else "pretrained", "")
    lines.append(f"model: {name or '(no name)'}, asked by {args.model}")
    return lines


def loaded_line(model: Any) -> str | None:
    """Return what is known of a model once it is loaded; None of one that has no weights here."""
    module = getattr(model, "model", None)
    if module is None or not hasattr(module, "parameters"):
        return None
    count = sum(parameter.numel() for parameter in module.parameters())
    dtype = str(getattr(module, "dtype", "?")).removeprefix("torch.")
    image = getattr(model, "image_mode", None)
    shown = f"; image with each text: {image}" if image else ""
    family = type(module).__name__
    return f"loaded: {family}, {_count(count)} parameters, {dtype} on {model.device}{shown}"


def _count(number: int) -> str:
    """Return a count of parameters: `260 thousand`, `134.5 million`, `7.24 billion`."""
    for size, word in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if number >= size:
            return f"{number / size:.4g} {word}"
    return str(number)


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}…"


def _rows(data: str, tasks: Mapping[str, Any]) -> str:
    verdicts: dict[str, dict[str, None]] = {}
    for name, task in tasks.items():
        about = task.config.metadata
        verdict = about["source"]
        if "verbalizer" in about:
            identity, unordered = about["identity"], about["identity_unordered"]
            checked = verify_task(about["dataset"], name, verdict, identity, unordered)
            verdict = checked.text(verdict)
        verdicts.setdefault(verdict, {})[about.get("dataset") or about["benchmark"]] = None
    told = [f"{', '.join(names)}: {verdict}" for verdict, names in verdicts.items()]
    of_files = {task.config.metadata["source"] for task in tasks.values()} == {"files"}
    place = "files of their own" if of_files else _PLACES.get(data, data)
    return f"{place} ({'; '.join(told)})"


def _prompts(args: argparse.Namespace, tasks: Mapping[str, Any]) -> str:
    """Return how many prompts there are, and how they are asked."""
    from lm_eval.evaluator_utils import get_sample_size

    asked = whole = 0
    for name, task in tasks.items():
        whole += len(task.eval_docs)
        limit = get_sample_size(task, args.limit)
        chosen = (args.samples or {}).get(name)
        if not args.samples or chosen:
            asked += sum(1 for _ in task.doc_iterator(limit=limit, samples=chosen))
    text = f"{asked:,}" if asked == whole else f"{asked:,} of {whole:,}"
    if args.limit is not None:
        text += f" (--limit {args.limit:g}: not the benchmark)"
    elif shard := args.metadata.get("shard"):
        text += f" (--shard {shard})"
    shots = dict.fromkeys(task.config.num_fewshot or 0 for task in tasks.values())
    how = [f"{count} examples before each" if count else "zero-shot" for count in shots]
    how.append(
        "chat template" if getattr(args, "apply_chat_template", False) else "no chat template"
    )
    if args.model != SERVED:
        how += dict.fromkeys(_decoding(args, task) for task in tasks.values())
    return f"{text}; {'; '.join(how)}"


def _decoding(args: argparse.Namespace, task: Any) -> str:
    given = args.gen_kwargs if isinstance(args.gen_kwargs, dict) else {}
    settings = (task.config.generation_kwargs or {}) | given
    beams, tokens = settings.get("num_beams", 1), settings.get("max_gen_toks")
    how = "sampling" if settings.get("do_sample") else "greedy"
    how = f"{beams} beams" if beams > 1 else how
    return how if tokens is None else f"{how}, up to {tokens} new tokens"
