"""What the preference data of a cell are: how many pairs, why not more, and how long they are."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from verbalizer_bench.builders.pipeline.sample import TrainingSample, read_samples
from verbalizer_bench.experiments.miniature.repair.preferences import SPLITS, folder_of
from verbalizer_bench.io.preferences import PreferencePair, RatedCompletions, read

_FILES = {
    "preference/pairs": "preference/pairs.jsonl",
    "format/pairs": "format/pairs_fovit.jsonl",
}


def preference_rows(world: Path, seed: int) -> Iterator[dict[str, str]]:
    """Yield a row for each split's sampled pairs, and for its format pairs."""
    for split in SPLITS:
        folder = folder_of(world, split)
        for name, file in _FILES.items():
            kind = name.partition("/")[0]
            pairs = [pair for _, pair in read(PreferencePair, folder / file)]
            counts = _sampled(folder) if kind == "preference" else _items(folder)
            yield {"seed": str(seed), "split": split, "kind": kind, **counts, **_lengths(pairs)}


def _sampled(folder: Path) -> dict[str, str]:
    """Return what became of prompts and of the answers that were sampled."""
    samples = _read(folder / "preference" / "preference")
    rated = [one for _, one in read(RatedCompletions, folder / "preference/completions.jsonl")]
    marks = [c.scores.quality for one in rated for c in one.completions if c.scores]
    best = [max(c.scores.quality for c in one.completions if c.scores) for one in rated]
    why = Counter(
        (candidate.problem or "used").partition(":")[0]
        for sample in samples
        for candidate in sample.candidates
    )
    return _row(samples, why, f"{fmean(marks):.2f}", f"{fmean(best):.2f}")


def _items(folder: Path) -> dict[str, str]:
    return _row(_read(folder / "format" / "format_pairs"), Counter(), "", "")


def _read(work: Path) -> list[TrainingSample]:
    """Return all samples of a build, those that were set aside too."""
    files = (work / name for name in ("accepted.jsonl", "set_aside.jsonl"))
    return [sample for file in files if file.is_file() for sample in read_samples(file)]


def _row(samples: list[TrainingSample], why: Counter[str], mark: str, best: str) -> dict[str, str]:
    others = sum(why.values()) - why["used"] - why["same"]
    known = bool(why)
    return {
        "prompts": str(len(samples)),
        "answers_used": str(why["used"]) if known else "",
        "answers_same": str(why["same"]) if known else "",
        "answers_unusable": str(others) if known else "",
        "mean_mark": mark,
        "best_mark": best,
    }


def _lengths(pairs: list[PreferencePair]) -> dict[str, str]:
    texts = [(len(pair.chosen[0].content), len(pair.rejected[0].content)) for pair in pairs]
    chosen, rejected = (fmean(lengths) for lengths in zip(*texts, strict=True))
    longer = fmean(one > other for one, other in texts)
    return {
        "pairs": str(len(pairs)),
        "chosen_characters": f"{chosen:.1f}",
        "rejected_characters": f"{rejected:.1f}",
        "chosen_longer": f"{100 * longer:.1f}",
    }
