"""What the demo ends with: a report, a comparison, a leaderboard, and one screen that sums them up.

All that they say in full is kept in `demo.txt`.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from verbalizer_bench.experiments.machine import machine
from verbalizer_bench.io.files import write_whole

if TYPE_CHECKING:
    from verbalizer_bench.results.differences import Pair
    from verbalizer_bench.results.picture_scores import PictureScores
    from verbalizer_bench.results.run import Run
    from verbalizer_bench.results.summary import RunSummary

TOY_WARNING = (
    "these are toys of half a million weights on made texts: the numbers say that the software "
    "works, and nothing about the paper."
)
# What the page's table of toys was made on.
TABLE_MADE_ON = "AMD EPYC (AVX512), torch 2.13.0+cpu"
IN_FULL = "demo.txt"
# What a run is compared with: the base, then FO against NoFO.
_COMPARED = (("LLM-NoFOIT", "LLM-FOIT"), ("LVLM-NoFOVIT", "LVLM-FOVIT"))
_NAME, _COLUMN, _INTERVAL = 36, 10, 22


class Results(NamedTuple):
    """What was made of the runs.

    Attributes:
        report: The report's page.
        table: Rows of the screen's table.
        answer: One sentence.
        text: All of it in full.
    """

    report: Path
    table: tuple[str, ...]
    answer: str
    text: str


def real_results(folder: Path, runs: Mapping[str, Path], name: str) -> Results:
    """Report on a real model that was asked in several ways.

    Args:
        folder: Where the report goes.
        runs: By how it was asked.
        name: The model's.
    """
    from verbalizer_bench.leaderboard.reports.report import report
    from verbalizer_bench.results.run import load_run

    loaded = [load_run(run) for run in runs.values()]
    page, *_ = report(*loaded).write(folder)
    reports = [report(run) for run in loaded]
    (first, *_) = (one.summaries[0] for one in reports)
    responses, tasks = sum(len(task.doc_ids) for task in loaded[0].tasks), len(first.tasks)
    part = ", partial" if first.partial else ""
    title = (
        f"A real model: {responses} prompts of {tasks} tasks of SST-2, on made reviews "
        f"(protocol {first.protocol}{part})"
    )
    rows = [
        _row(f"{name}, {how}", one.summaries[0]) for how, one in zip(runs, reports, strict=True)
    ]
    text = "\n\n".join(one.short() for one in reports)
    return Results(page, (title, *rows), "", text)


def toy_results(folder: Path, runs: Mapping[str, Path], pictures: Mapping[str, Path]) -> Results:
    """Report on the toys, and compare them with their base.

    Args:
        folder: Of the demo.
        runs: By model, the base first.
        pictures: The runs on MMVP's sample.
    """
    from verbalizer_bench.leaderboard.reports.comparison import compare
    from verbalizer_bench.leaderboard.reports.report import report
    from verbalizer_bench.results.answers import finding
    from verbalizer_bench.results.differences import differences
    from verbalizer_bench.results.picture_runs import picture_runs
    from verbalizer_bench.results.run import load_run

    loaded = {name: load_run(run) for name, run in runs.items()}
    seen = [one for run in pictures.values() for scores in picture_runs(run) for one in scores]
    scores, comparison = report(*loaded.values(), pictures=seen), compare(*loaded.values())
    page, *_ = scores.write(folder / "report")
    comparison.write(folder / "compare")
    lines = [str(scores), "", *comparison.answers]
    for base, model in _COMPARED:
        (pair,) = differences([loaded[base], loaded[model]])
        lines.append(f"With format instructions and without: {finding(pair)}")
    lines += [_pairs_right(seen), where(machine())]
    tasks, protocol = loaded["base"].tasks, scores.summaries[0].protocol
    responses = sum(len(task.doc_ids) for task in tasks)
    title = (
        f"Six toys of half a million weights: {responses:,} prompts of all {len(tasks)} tasks, on "
        f"made texts (protocol {protocol})"
    )
    rows = [
        _row(_with_image(run), summary)
        for run, summary in zip(loaded.values(), scores.summaries, strict=True)
    ]
    return Results(page, (title, *rows), answer(comparison.pairs), "\n".join(lines))


def screen(results: Sequence[Results], leaderboard: Path, folder: Path, seconds: str) -> str:
    """Return the demo's last screen, and keep all that it sums up in `demo.txt`.

    Args:
        results: The real model's, if it was asked, and the toys'.
        leaderboard: The page.
        folder: Of the demo.
        seconds: How long it took.
    """
    head = f"{'F1 in %':<{_NAME}}" + "".join(
        f"{name:>{_COLUMN}}" for name in ("natural", "neutral", "unnatural")
    )
    write_whole(
        folder / IN_FULL, "\n\n".join([*(one.text for one in results), _sentence(results)]) + "\n"
    )
    parts = [f"{head}{'All [95 %]':>{_INTERVAL}}"]
    parts += ["\n".join(("", *one.table)) for one in results]
    parts += ["", _wrapped(_sentence(results)), ""]
    if len(results) > 1:
        parts.append(f"One answer:  verbalizer-bench explain {folder / 'smollm2' / '10-beams'}")
    parts += [
        f"Report:      {results[-1].report}",
        f"Leaderboard: {leaderboard}",
        f"In full:     {folder / IN_FULL} ({seconds} min)",
    ]
    return "\n".join(parts)


def answer(pairs: "Sequence[Pair]") -> str:
    """Say in one sentence which of the tuned models score lower than their base."""
    from verbalizer_bench.results.answers import direction

    told: dict[int, list[str]] = {-1: [], 0: [], 1: []}
    for pair in pairs:
        (whole,) = (one for one in pair.family("label type") if one.name == "All")
        told[direction(whole)].append(pair.model)
    one = {-1: "scores lower than its base", 0: "cannot be told apart from it", 1: "scores higher"}
    many = {**one, -1: "score lower than their base", 1: "score higher"}
    parts = [
        f"{', '.join(names)} {(many if len(names) > 1 else one)[way]}"
        for way, names in told.items()
        if names
    ]
    return f"Tuned, and the LVLMs shown a white image, {'; '.join(parts)}"


def where(here: str) -> str:
    """Say whether these numbers should be those of docs/demo.md.

    Args:
        here: What `machine` returns.
    """
    if here == TABLE_MADE_ON:
        return f"The documentation's table was made on the same kind of machine: {here}."
    return (
        f"This machine: {here}. The documentation's table was made on {TABLE_MADE_ON}: another "
        "kind of processor rounds otherwise, and the toys that are trained on it are others."
    )


def publish(runs: Mapping[str, Path], base: Path, folder: Path) -> Path:
    """Pack and validate the runs, all but the first tuned from it; return the site's page.

    Args:
        runs: By model.
        base: The base's checkpoint.
        folder: Where submissions and site go.
    """
    from verbalizer_bench.leaderboard.site.build import build_site
    from verbalizer_bench.leaderboard.submission.pack import pack
    from verbalizer_bench.leaderboard.submission.validate import validate

    for name, run in runs.items():
        packed = pack(
            run,
            folder / "submissions",
            submitter="make demo",
            licence="CC0-1.0",
            notes="An example: a toy, trained and scored by `make demo`.",
            model_id=f"miniature/{name}",
            base=None if name == "base" else "miniature/base",
            base_weights=None if name == "base" else str(base),
        )
        if (validation := validate(packed)).failed:
            raise ValueError(f"demo: {validation}")
    return build_site(folder / "submissions", folder / "site").files[0]


def _sentence(results: Sequence[Results]) -> str:
    return f"{results[-1].answer}; {TOY_WARNING}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 98, break_on_hyphens=False)


def _row(name: str, summary: "RunSummary") -> str:
    types = summary.label_types
    means = [f"{100 * scores.f1.mean:.1f}" for key, scores in types.items() if key != "All"]
    row = f"  {name:<{_NAME - 2}}" + "".join(f"{mean:>{_COLUMN}}" for mean in means)
    return f"{row}{types['All'].f1!s:>{_INTERVAL}}"


def _with_image(run: "Run") -> str:
    image = run.record.image
    return f"{run.name}, {image.mode} image" if image else run.name


def _pairs_right(pictures: "Sequence[PictureScores]") -> str:
    """Say how many pairs of MMVP's sample each LVLM has right, and what to make of it."""
    pairs = len(pictures[0].units)
    right = (f"{one.run.name} {round(one.means['pair'].mean * pairs)}" for one in pictures)
    return (
        f"MMVP's sample, {pairs} pairs of drawings, both answers right: {', '.join(right)}. "
        f"Guessing gets {pairs // 4}; the toys learned from no such drawing or question."
    )
