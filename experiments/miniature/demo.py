"""The demo: the paper in miniature, trained, scored, compared and published without a network.

verbalizer-bench demo
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from verbalizer_bench.experiments.machine import machine

if TYPE_CHECKING:
    from verbalizer_bench.results.picture_scores import PictureScores
    from verbalizer_bench.results.run import Run

TOY_WARNING = (
    "These are toys of half a million weights on made texts: the numbers say that the software "
    "works, and nothing about the paper."
)
# What README's table and figure were made on.
TABLE_MADE_ON = "AMD EPYC (AVX512), torch 2.13.0+cpu"
# What a run is compared with: the base, then FO against NoFO.
_COMPARED = (("LLM-NoFOIT", "LLM-FOIT"), ("LVLM-NoFOVIT", "LVLM-FOVIT"))


class Size(NamedTuple):
    """How large the demo is.

    Attributes:
        items: Instruction records an arm is tuned on.
        captions: Captions that tower and connector are trained on; None for one a scene.
        texts: Texts of each of the nine stand-ins.
    """

    items: int = 2528
    captions: int | None = None
    texts: int = 24


FULL = Size()


def demo(folder: Path, size: Size = FULL) -> None:
    """Train five arms from the shipped base, score the six, compare and publish them.

    The LVLMs among them are asked MMVP's sample besides, with its own images. The last lines are
    the paths of the report and of the leaderboard, what README's table was made on, and the warning
    that toy numbers mean nothing.

    Args:
        folder: Where world, checkpoints, runs, report and leaderboard go; its earlier demo is
            replaced.
        size: Smaller ones are for tests.

    Raises:
        ValueError: The folder holds something else than an earlier demo.
    """
    import torch

    from verbalizer_bench.experiments.miniature import arms
    from verbalizer_bench.experiments.miniature.world.build import write_world

    _make_room(folder)
    # The models are so small that threads would only wait for each other.
    torch.set_num_threads(1)
    items = {"train": size.items, "choose": 1, "test": 1}
    world = write_world(
        folder / "world", items=items, stages=(), texts=size.texts, captions=size.captions
    )
    trained = folder / "checkpoints"
    tower = arms.train_recipe("tower", world, trained / "tower")
    connector = arms.train_connector(world, arms.BASE, tower, trained / "connector")
    checkpoints = {"base": arms.BASE}
    for name in arms.ARMS:
        checkpoints[name] = arms.train_arm(name, world, arms.BASE, connector, trained / name)
    runs: dict[str, Run] = {}
    for name, checkpoint in checkpoints.items():
        print(f"\nScoring {name}", flush=True)
        adapter = arms.ARMS[name].adapter if name in arms.ARMS else "verbalizer-llm"
        runs[name] = arms.score(
            checkpoint, adapter, world / "sets", folder / "runs" / name, folder / "lm-eval.log"
        )
    pictures = [
        _ask_mmvp(name, checkpoint, folder)
        for name, checkpoint in checkpoints.items()
        if name in arms.ARMS and arms.ARMS[name].adapter == "verbalizer-lvlm"
    ]
    report = _report(runs, pictures, folder)
    page = _publish(runs, folder / "leaderboard")
    print(f"Report: {report}")
    print(f"Leaderboard: {page}")
    print(where(machine()))
    print(TOY_WARNING)


def where(here: str) -> str:
    """Say whether these numbers should be README's.

    Args:
        here: What `machine` returns.
    """
    if here == TABLE_MADE_ON:
        return f"README's table was made on the same kind of machine: {here}."
    return (
        f"This machine: {here}. README's table was made on {TABLE_MADE_ON}: another kind of "
        "processor rounds otherwise, and the toys that are trained on it are others."
    )


def _ask_mmvp(name: str, checkpoint: Path, folder: Path) -> "PictureScores":
    """Ask an LVLM the questions of MMVP's sample, each with its own image."""
    from verbalizer_bench.experiments.miniature import arms
    from verbalizer_bench.results.picture_scores import read_picture_scores

    print(f"Asking {name} MMVP's sample", flush=True)
    run = arms.ask_mmvp(checkpoint, folder / "mmvp" / name, folder / "lm-eval.log")
    (scores,) = read_picture_scores(run.folder)
    return scores


def _pairs_right(pictures: Sequence["PictureScores"]) -> str:
    """Say how many pairs of MMVP's sample each LVLM has right, and what to make of it."""
    pairs = len(pictures[0].units)
    right = (f"{one.run.name} {round(one.means['pair'].mean * pairs)}" for one in pictures)
    return (
        f"MMVP's sample, {pairs} pairs of drawings, both answers right: {', '.join(right)}. "
        f"Guessing gets {pairs // 4}; the toys learned from no such drawing or question."
    )


def _report(runs: Mapping[str, "Run"], pictures: Sequence["PictureScores"], folder: Path) -> Path:
    """Print the summary and the comparisons; return the report's page."""
    from verbalizer_bench.leaderboard.reports.comparison import compare
    from verbalizer_bench.leaderboard.reports.report import report
    from verbalizer_bench.results.answers import finding
    from verbalizer_bench.results.differences import differences

    scores = report(*runs.values(), pictures=pictures)
    comparison = compare(*runs.values())
    page, *_ = scores.write(folder / "report")
    comparison.write(folder / "compare")
    print("", scores, "", *comparison.answers, sep="\n")
    for base, model in _COMPARED:
        (pair,) = differences([runs[base], runs[model]])
        print(f"With format instructions and without: {finding(pair)}")
    print(_pairs_right(pictures))
    return page


def _publish(runs: Mapping[str, "Run"], folder: Path) -> Path:
    """Pack and validate the runs, all but the first tuned from it; return the site's page."""
    from verbalizer_bench.experiments.miniature.arms import BASE
    from verbalizer_bench.leaderboard.site.build import build_site
    from verbalizer_bench.leaderboard.submission.pack import pack
    from verbalizer_bench.leaderboard.submission.validate import validate

    for name, run in runs.items():
        packed = pack(
            run.folder,
            folder / "submissions",
            submitter="make demo",
            licence="CC0-1.0",
            notes="An example: a toy, trained and scored by `make demo`.",
            model_id=f"miniature/{name}",
            base=None if name == "base" else "miniature/base",
            base_weights=None if name == "base" else str(BASE),
        )
        if (validation := validate(packed)).failed:
            raise ValueError(f"demo: {validation}")
    return build_site(folder / "submissions", folder / "site").files[0]


def _make_room(folder: Path) -> None:
    mark = folder / "made-by-verbalizer-bench-demo"
    if folder.exists() and any(folder.iterdir()):
        if not mark.exists():
            raise ValueError(f"demo: {folder} holds other files; give another folder with --output")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
