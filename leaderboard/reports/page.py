"""The report of runs as one HTML page: scores, comparison, outcomes, examples, provenance.

verbalizer-bench report RUN… writes it as `report.html`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from verbalizer_bench.leaderboard.pages.figures import bars
from verbalizer_bench.leaderboard.pages.html import embedded_json, render, svg_image
from verbalizer_bench.leaderboard.reports.comparison import NOTE
from verbalizer_bench.leaderboard.reports.every_two import FAMILIES, every_two
from verbalizer_bench.leaderboard.reports.examples import choose_examples
from verbalizer_bench.leaderboard.reports.forest import forest
from verbalizer_bench.leaderboard.reports.methods import BenchmarkTable
from verbalizer_bench.leaderboard.reports.opening import Opening
from verbalizer_bench.leaderboard.reports.sentence import sentence
from verbalizer_bench.leaderboard.reports.short import READ
from verbalizer_bench.results.answers import answers
from verbalizer_bench.results.differences import (
    Pair,
    differences,
    verbalizer_name,
    verbalizer_names,
)
from verbalizer_bench.results.pairing import check_prompts, check_scores
from verbalizer_bench.results.references import references
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.statistics import RESAMPLES, SEED
from verbalizer_bench.results.summary import RunSummary
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.version import __version__

COLUMNS = (*LABEL_TYPES, "All")
_TRADE_OFF = "Points of F1 against pairs of MMVP; the numbers are in a table below."
# What run.json has, in the order of the page; what is missing is left out.
_RECORD = {
    "model_args": "Model arguments",
    "adapter": "Adapter",
    "engine": "Engine: responses",
    "dtype": "Precision",
    "device": "Device",
    "world_size": "Processes",
    "started": "Started",
    "wall_seconds": "Seconds",
    "image": "Image",
    "chat_template_sha256": "Chat template",
    "rendering": "Rendered",
    "endings": "What ended responses",
    "thoughts": "Responses with a thought",
    "bos_counts": "BOS tokens at a prompt's start, least and most",
    "first_input_ids": "First input ids",
    "eos_token_ids": "EOS ids",
    "truncated_prompts": "Truncated prompts",
    "escaped_prompts": "Prompts with an escaped image token",
    "unknown_prompts": "Prompts with text that the tokenizer does not know",
    "special_tokens": "Prompts with a special token in their text",
    "versions": "Versions",
}


def report_page(
    first: Opening,
    runs: Sequence[Run],
    summaries: Sequence[RunSummary],
    benchmarks: Mapping[str, BenchmarkTable],
    trade_off: Callable[[Sequence[Path]], None] | None = None,
) -> str:
    """Return the page.

    Args:
        first: What it says first.
        runs: The first is the base that the others are compared with; none where only other
            benchmarks were run.
        summaries: Of each run.
        benchmarks: Tables of other benchmarks by title.
        trade_off: Draws the figure of F1 against MMVP, if there is one.
    """
    named = [(summary.model, summary.label_types) for summary in summaries]
    protocols = sorted({summary.protocol for summary in summaries})
    pairs, refusal = _compare(runs)
    against = {pair.model: pair for pair in pairs if pair.base == runs[0].name}
    # With two there is nothing to choose.
    chosen = embedded_json(every_two(runs)) if len(runs) > 2 and pairs else None
    note = f"protocol {', '.join(protocols)}; 95 % intervals"
    return render(
        "report.html.jinja",
        scripts=("tables.js", "print.js", *(("chosen.js",) if chosen else ())),
        models=[
            {
                **dict(summary),
                "name": run.name,
                "summary": summary.label_types,
                "sentence": sentence(summary.label_types, against.get(run.name)),
                "heat": _heat(run),
                "record": _record(run),
            }
            for run, summary in zip(runs, summaries, strict=True)
        ],
        first=first,
        figure=runs
        and svg_image(
            lambda files: bars(named, note, files),
            "Bars of F1 by label type for each model; the numbers are in the table below.",
        ),
        columns=COLUMNS,
        references=references(runs[0]) if runs else [],
        read=READ,
        benchmarks=benchmarks,
        trade_off=trade_off and svg_image(trade_off, _TRADE_OFF),
        outcomes=OUTCOMES,
        pairs=pairs,
        answers=answers(pairs),
        refusal=refusal,
        forests={f: forest(pairs, f) for f in FAMILIES} if pairs else {},
        chosen=chosen,
        note=f"{NOTE} n: documents. {RESAMPLES} resamples and permutations, seed {SEED}.",
        examples=choose_examples(runs) if runs else {},
        version=__version__,
    )


def _compare(runs: Sequence[Run]) -> tuple[tuple[Pair, ...], str | None]:
    """Return the differences from the first run, or why there are none."""
    if len(runs) < 2:
        return (), None
    try:
        check_scores(runs)
        check_prompts(runs)
    except ValueError as error:
        return (), str(error).removeprefix("compare: ")
    return differences(runs), None


def _heat(run: Run) -> tuple[list[str], list[tuple[str, list[float | None]]]]:
    """Return the verbalizers, and for each data set the mean F1 under each."""
    names = list(dict.fromkeys(verbalizer_name(task) for task in run.tasks))
    known = verbalizer_names()
    names.sort(key=lambda name: known.index(name) if name in known else len(known))
    datasets: dict[str, dict[str, float]] = {}
    for task in run.tasks:
        means = datasets.setdefault(task.dataset, {})
        means[verbalizer_name(task)] = float(task.scores["f1"].mean())
    return names, [(name, [f1.get(column) for column in names]) for name, f1 in datasets.items()]


def _record(run: Run) -> list[tuple[str, str]]:
    """Return how a run was made, as run.json and lm-eval's results say."""
    stated = run.run_json() | run.record.model_dump(exclude_unset=True)
    config = run.results.config
    stated.setdefault("model_args", config.model_args)
    first = run.results.configs[run.tasks[0].task]
    named = {
        "Model class": config.model,
        **{text: stated.get(key) for key, text in _RECORD.items()},
        "Generation": first.generation_kwargs,
        "Batch size": config.batch_size,
        "Limit": config.limit,
        "Seeds": {key.removesuffix("_seed"): seed for key, seed in config.seeds.items()} or None,
        "Folder": run.folder,
    }
    return [(name, _text(value)) for name, value in named.items() if value is not None]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return str(value)
