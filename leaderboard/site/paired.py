"""Tuned minus base: paired intervals of the submissions whose base is there too.

A base is known by the hash of its weights, not by its name, and has to be a checked submission. The
hash is its submitter's word until a spot-check confirms it: who passed goes first, and who failed
is none.

The same bootstrap over documents as `compare`. Its draws depend on seed, data set and number of
documents only, so that all pairs with the same documents are columns of one call.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import date

import numpy as np

from verbalizer_bench.leaderboard.site.entries import Entry
from verbalizer_bench.results.few import Stratum, interval_of_few
from verbalizer_bench.results.resampling import bootstrap, interval
from verbalizer_bench.results.statistics import RESAMPLES, SEED
from verbalizer_bench.tasks.spec import LABEL_TYPES

GROUPS = (*LABEL_TYPES, "All", "slope")
# From the label types' differences to those of GROUPS.
_TO_GROUPS = np.array([[1, 0, 0, 1 / 3, -1], [0, 1, 0, 1 / 3, 0], [0, 0, 1, 1 / 3, 1]])
# Draws of a block, and what numpy copies of them, stay below some 400 MB.
_DRAWS = 5_000_000


@dataclasses.dataclass(frozen=True)
class Change:
    """A difference in F1, in [-1, 1] ([-2, 2] for the slope), with its 95 % interval.

    The interval is that of `statistics.Interval`; `low` and `high` are None where a data set has
    one document.
    """

    difference: float
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class AgainstBase:
    """A submission against the one that it was tuned from.

    Attributes:
        base: The other's path; None where there is none to pair with.
        reason: Why there is none.
        changes: Submission minus base, by GROUPS; empty without a base.
        differs: In what the two differ: `tuning`, and `image` where one was shown one.
    """

    base: str | None
    reason: str = ""
    changes: dict[str, Change] = dataclasses.field(default_factory=dict)
    differs: tuple[str, ...] = ()


def pair_with_bases(
    entries: Sequence[Entry], resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, AgainstBase]:
    """Compare the submissions of one protocol with their bases.

    Returns:
        By path, for each submission that names a base or its weights.
    """
    pairs: dict[str, AgainstBase] = {}
    groups: dict[tuple[tuple[str, int], ...], list[tuple[Entry, Entry]]] = {}
    by_weights: dict[str | None, list[Entry]] = {}
    for entry in entries:
        failed = entry.signed is not None and entry.signed[0] == "failed"
        if entry.verified.badge == "re-scored" and not failed:
            by_weights.setdefault(entry.verified.weights, []).append(entry)
    for entry in entries:
        model = entry.verified.submission.model
        if model.base is None and model.base_weights_sha256 is None:
            continue
        if model.base_weights_sha256 is None:
            pairs[entry.path] = AgainstBase(None, "it names its base, and not that base's weights")
            continue
        base, reason = _base(entry, by_weights.get(model.base_weights_sha256, []))
        if base is None:
            pairs[entry.path] = AgainstBase(None, reason)
        else:
            sizes = tuple((dataset, len(asked.shares)) for dataset, asked in entry.asked.items())
            groups.setdefault(sizes, []).append((entry, base))
    for group in groups.values():
        for block in _blocks(group, resamples):
            pairs |= _compared(block, resamples, seed)
    return pairs


def _base(entry: Entry, candidates: Sequence[Entry]) -> tuple[Entry | None, str]:
    """Return the best checked, then newest, submission of the base that was asked the same way."""
    reason = "no checked submission of its weights under this protocol"
    for one in sorted(candidates, key=_trust, reverse=True):
        if one.path == entry.path:
            continue
        if difference := _differs(entry, one):
            reason = difference if reason.startswith("no ") else reason
            continue
        return one, ""
    return None, reason


def _trust(entry: Entry) -> tuple[bool, bool, date, str]:
    status, record = entry.signed or (None, None)
    confirmed = status == "passed" and record is not None and bool(record.same_weights)
    return confirmed, entry.identified, entry.verified.submission.date, entry.path


def _differs(entry: Entry, base: Entry) -> str | None:
    one, other = entry.verified, base.verified
    if set(one.differences) != set(other.differences):
        return "its settings differ from those of the base"
    if one.chat_template != other.chat_template:
        return "one of them was run with a chat template and the other without"
    if entry.asked.keys() != base.asked.keys():
        return "its data sets differ from those of the base"
    for name, asked in entry.asked.items():
        same = base.asked[name]
        if (asked.prompts, asked.verbalizers, asked.shares.shape) != (
            *(same.prompts, same.verbalizers, same.shares.shape),
        ):
            return f"its prompts of {name} differ from those of the base"
    return None


def _image(entry: Entry) -> str | None:
    """Return what a model was shown; None for no image."""
    stated = entry.verified.submission
    unseen = stated.model.kind == "llm" or stated.image_mode in ("n/a", "none")
    return None if unseen else stated.image_mode


def _blocks(
    pairs: Sequence[tuple[Entry, Entry]], resamples: int
) -> Iterator[Sequence[tuple[Entry, Entry]]]:
    step = max(1, _DRAWS // (resamples * len(LABEL_TYPES)))
    for start in range(0, len(pairs), step):
        yield pairs[start : start + step]


def _compared(
    pairs: Sequence[tuple[Entry, Entry]], resamples: int, seed: int
) -> dict[str, AgainstBase]:
    shape = (len(pairs), len(LABEL_TYPES))
    observed, drawn = np.zeros(shape), np.zeros((resamples, *shape))
    for dataset in pairs[0][0].asked:
        values = np.hstack([a.asked[dataset].shares - b.asked[dataset].shares for a, b in pairs])
        observed += values.mean(axis=0).reshape(shape)
        drawn += bootstrap({dataset: values}, resamples, seed).reshape(-1, *shape)
    change = observed @ _TO_GROUPS
    low, high = interval(drawn @ _TO_GROUPS)
    low, high = np.minimum(low, change), np.maximum(high, change)
    for i, (entry, base) in enumerate(pairs):
        for k, strata in enumerate(_strata(entry, base)):
            low[i, k], high[i, k] = interval_of_few(low[i, k], high[i, k], strata, resamples, seed)
    known = min(len(answers.shares) for answers in pairs[0][0].asked.values()) > 1
    return {
        entry.path: AgainstBase(
            base.path,
            differs=("tuning",) if _image(entry) == _image(base) else ("tuning", "image"),
            changes={
                name: Change(
                    float(change[i, k]),
                    float(low[i, k]) if known else None,
                    float(high[i, k]) if known else None,
                )
                for k, name in enumerate(GROUPS)
            },
        )
        for i, (entry, base) in enumerate(pairs)
    }


def _strata(entry: Entry, base: Entry) -> Iterator[tuple[Stratum, ...]]:
    """Yield what each document adds to the difference of each of GROUPS."""
    tasks = np.maximum(np.sum([answers.verbalizers for answers in entry.asked.values()], axis=0), 1)
    parts = []
    for dataset, answers in entry.asked.items():
        values = (answers.shares - base.asked[dataset].shares) @ _TO_GROUPS
        # Of a difference in [-1, 1] in every verbalizer.
        most = np.array(answers.verbalizers) / tasks @ np.abs(_TO_GROUPS)
        parts.append((dataset, values, most))
    for k in range(len(GROUPS)):
        yield tuple(
            Stratum(dataset, values[:, k], -float(most[k]), float(most[k]))
            for dataset, values, most in parts
            if most[k] > 0
        )
