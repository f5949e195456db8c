"""A survey of records in numbers, as JSON has them."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from verbalizer_bench.io.conversation_files import AnyParse, named
from verbalizer_bench.io.conversations import BadRecordError
from verbalizer_bench.io.unread_keys import unread_lines
from verbalizer_bench.io.wording import counted
from verbalizer_bench.trainers.data.survey import WORST, Extreme, Survey

_HALF_OCTAVE = np.sqrt(2)
_REPEATS = 5
# What becomes of an answer that the cut to `max_length` ends.
CUT_ANSWERS = "an answer that is cut never ends"
_ID = 60


def summary(
    survey: Survey,
    files: Sequence[Path],
    parse: AnyParse,
    max_length: int,
    images: np.ndarray,
) -> dict[str, Any]:
    """Return what a survey found.

    Args:
        survey: The survey.
        files: What was read.
        parse: Made their records.
        max_length: Where records are cut.
        images: Width, height and whether EXIF turns it, of each distinct image.
    """
    cut = survey.full > survey.lengths
    return {
        "files": [str(file) for file in files],
        "records": survey.total,
        "usable": len(survey.records),
        "bad": dict(survey.bad.most_common()),
        "unread": list(unread_lines(files, survey.unread, survey.counts)),
        "kinds": {
            "text": int((survey.images == 0).sum()),
            "one image": int((survey.images == 1).sum()),
            "several images": int((survey.images > 1).sum()),
        },
        "answers": {str(n): count for n, count in sorted(Counter(survey.answers.tolist()).items())},
        "lengths": lengths(survey.full) | {"histogram": histogram(survey.full)},
        "tokens": {"seen": int(survey.tokens.sum()), "trained": int(survey.trained.sum())},
        "cut": {
            "max_length": max_length,
            "records": int(cut.sum()),
            "tokens": int((survey.full - survey.lengths).sum()),
        },
        **_duplicates(survey, files, parse),
        "repeated ids": int(
            (np.unique(survey.ids[survey.ids > 0], return_counts=True)[1] > 1).sum()
        ),
        "images": image_sizes(images) | {"shown": int(survey.images.sum())},
        "worst": {
            "bad": [bad_record(error) for error in survey.worst],
            "most cut": [_cut_record(extreme) for extreme in survey.most_cut],
            "longest": [_long_record(extreme, max_length) for extreme in survey.longest],
        },
    }


def _duplicates(survey: Survey, files: Sequence[Path], parse: AnyParse) -> dict[str, Any]:
    """Return how many records repeat an earlier one, and the first few, each with that one."""
    _, firsts, numbers = np.unique(survey.digests, return_index=True, return_inverse=True)
    repeated = np.flatnonzero(firsts[numbers] != np.arange(len(numbers)))
    pairs = np.stack([repeated, firsts[numbers[repeated]]], axis=1)[:_REPEATS]
    numbers = survey.records[pairs].tolist()
    known = named(files, parse, itertools.chain.from_iterable(numbers))
    shown = [[known[one], known[other]] for one, other in numbers]
    return {"duplicates": len(repeated), "repeated": shown}


def lengths(values: np.ndarray) -> dict[str, int]:
    """Return the shortest, median, 95th percentile and longest of some lengths."""
    if not len(values):
        return dict.fromkeys(("shortest", "median", "percentile_95", "longest"), 0)
    points = np.percentile(values, [0, 50, 95, 100], method="nearest").astype(int).tolist()
    return dict(zip(("shortest", "median", "percentile_95", "longest"), points, strict=True))


def histogram(values: np.ndarray) -> list[dict[str, int]]:
    """Return how many lengths are in each half octave: from 16, below 23, and so on."""
    if not len(values):
        return []
    first = np.floor(np.log(max(int(values.min()), 1)) / np.log(_HALF_OCTAVE))
    last = np.ceil(np.log(int(values.max()) + 1) / np.log(_HALF_OCTAVE))
    edges = np.unique(np.round(_HALF_OCTAVE ** np.arange(first, last + 1)).astype(np.int64))
    edges = np.append(edges, edges[-1] + 1) if edges[-1] <= values.max() else edges
    counts = np.histogram(values, edges)[0]
    # numpy counts the last edge too: it is above all values here.
    parts = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    return [{"from": start, "below": stop, "records": count} for start, stop, count in parts]


def image_sizes(images: np.ndarray) -> dict[str, Any]:
    """Return how many distinct images there are, how wide and high, and how many EXIF turns."""
    if not len(images):
        return {"distinct": 0}
    sizes = Counter(map(tuple, images[:, :2].tolist()))
    most = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:WORST]
    return {
        "distinct": len(images),
        "width": lengths(images[:, 0]),
        "height": lengths(images[:, 1]),
        "most common": [{"width": w, "height": h, "images": n} for (w, h), n in most],
        "exif turned": int(images[:, 2].sum()),
    }


def cut_line(records: int, tokens: int, max_length: int) -> str:
    """Return what the cut takes of how many records, and what becomes of it."""
    return (
        f"{counted(records, 'record loses', 'records lose')} {counted(tokens, 'token')} at "
        f"max_length={max_length:,}: {CUT_ANSWERS}"
    )


def seen_twice(records: int, place: str) -> str:
    """Return that records are seen twice to fill a step."""
    return f"{counted(records, 'record is', 'records are')} seen twice to fill {place}"


def bad_record(error: BadRecordError) -> dict[str, Any]:
    """Return a bad record with its place and why."""
    return {
        "place": error.place,
        "id": _short(error.id),
        "why": f"{error.reason}: {error.detail}",
    }


def _cut_record(extreme: Extreme) -> dict[str, Any]:
    return _record(extreme, f"loses its last {counted(extreme.value, 'token')}")


def _long_record(extreme: Extreme, max_length: int) -> dict[str, Any]:
    return _record(extreme, f"{counted(extreme.value, 'token')}, of {max_length:,} at most")


def _record(extreme: Extreme, why: str) -> dict[str, Any]:
    return {"place": extreme.place, "id": _short(extreme.id), "why": why}


def _short(name: str) -> str:
    return name if len(name) <= _ID else f"{name[: _ID - 1]}…"
