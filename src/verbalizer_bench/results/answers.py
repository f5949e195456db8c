"""Answer "did tuning hurt?" in sentences that name what else differs: image, template, engine."""

from collections.abc import Sequence

from verbalizer_bench.results.contrast import NO_IMAGE
from verbalizer_bench.results.differences import Difference, Pair
from verbalizer_bench.results.resampling import ALPHA


def answers(pairs: Sequence[Pair]) -> list[str]:
    """Answer for every pair; image and tuning are taken apart where runs are there that can."""
    return [
        f"{answer(pair)} {parts}" if (parts := _parts(pair, pairs)) else answer(pair)
        for pair in pairs
    ]


def answer(pair: Pair) -> str:
    """Answer in a sentence whether what differs hurt, from All and the label types."""
    types = {found.name: found for found in pair.family("label type")}
    told = {name: direction(found) for name, found in types.items()}
    lower, higher = -1 in told.values(), 1 in told.values()
    whole = told.get("All", 0)
    helped = "they helped" if len(pair.contrast.changed) > 1 else "it helped"
    verdict = {-1: "Yes", 1: f"No, {helped}", 0: "It cannot be told"}[whole]
    if all(found.difference == 0 and found.error in (0, None) for found in types.values()):
        verdict = "No difference was found"
    elif whole == -1 and higher:
        verdict = "Yes on the whole, though not everywhere"
    elif whole == 1 and lower:
        verdict = "Not on the whole, but in part"
    elif whole == 0 and lower:
        verdict = "In part"
    elif whole == 0 and higher:
        verdict = "Not that could be told"
    return f"{_question(pair)} {verdict}: {finding(pair)}"


def finding(pair: Pair) -> str:
    """Say in a sentence how a model differs from the base, over all and by label type."""
    types = {found.name: found for found in pair.family("label type")}
    parts = [f"{name} {_told(found)}" for name, found in types.items() if name != "All"]
    if whole := types.get("All"):
        parts.insert(0, f"F1 over all {_told(whole)}")
        if direction(whole) == 0 and whole.detectable:
            parts[0] += f" (differences below {100 * whole.detectable:.1f} are likely to be missed)"
    return f"{named(pair, 1)} against {named(pair, 0)}: {'; '.join(parts)}."


def named(pair: Pair, side: int) -> str:
    """Return the name of a pair's base (0) or model (1), with what it alone was asked with."""
    name = (pair.base, pair.model)[side]
    own = [
        found[side]
        for found in (pair.contrast.image, pair.contrast.template, pair.contrast.engine)
        if found
    ]
    return f"{name} ({', '.join(own)})" if own else name


def row_name(pair: Pair, pairs: Sequence[Pair]) -> str:
    """Return a pair's name in a table whose base is the first pair's."""
    return pair.model if pair.base == pairs[0].base else f"{pair.model} - {pair.base}"


def direction(found: Difference) -> int:
    """Return -1 or 1 where both the interval and Holm's p-value exclude 0, else 0."""
    if found.low is None or found.high is None or found.p_holm >= ALPHA:
        return 0
    return -1 if found.high < 0 else int(found.low > 0)


def interval(found: Difference) -> str:
    """Return a difference with its interval, in points of 100."""
    if found.low is None or found.high is None:
        return signed_points(found.difference)
    low, high = signed_points(found.low), signed_points(found.high)
    return f"{signed_points(found.difference)} [{low}, {high}]"


def signed_points(value: float) -> str:
    """Return a difference in [-1, 1] in points of 100, with its sign."""
    # What rounds to 0 has no sign.
    return f"{round(100 * value, 1) + 0.0:+.1f}" if round(100 * value, 1) else "0.0"


def _question(pair: Pair) -> str:
    changed = list(pair.contrast.changed)
    if not changed:
        return "Did anything hurt? The weights are the same, and were asked alike."
    if changed == ["tuning"]:
        return "Did tuning hurt?"
    if len(changed) == 1:
        return f"Did the {changed[0]} hurt? The weights are the same."
    return f"Did {', '.join(changed[:-1])} and {changed[-1]} together hurt?"


def _told(found: Difference) -> str:
    words = {-1: "is lower", 1: "is higher", 0: "cannot be told apart"}[direction(found)]
    return f"{words}, {interval(found)}"


def _parts(pair: Pair, pairs: Sequence[Pair]) -> str:
    """Say how much of a difference is the image's and how much tuning's, if it has both."""
    if not {"tuning", "image"} <= set(pair.contrast.changed):
        return ""
    shown = [place for place in (0, 1) if (pair.contrast.image or ())[place] != NO_IMAGE]
    if shown != [1]:
        return "How much of it is the image, these runs do not tell."
    for own in pairs:
        if own.model != pair.model or own.contrast.changed != ("image",):
            continue
        for rest in pairs:
            if (rest.base, rest.model) == (pair.base, own.base):
                changed = " and ".join(rest.contrast.changed)
                return (
                    f"In parts: the image alone ({named(own, 1)} against {named(own, 0)}, the same "
                    f"weights) {_whole(own)}; {changed} alone ({own.base} against {pair.base}) "
                    f"{_whole(rest)}."
                )
    return (
        f"How much of it is the image, these runs do not tell: a run of {pair.model} with "
        "image=none beside them would."
    )


def _whole(pair: Pair) -> str:
    types = pair.family("label type")
    whole = [found for found in types if found.name == "All"] or types
    return ", ".join(f"{found.name} {_told(found)}" for found in whole)
