"""Answer "did tuning hurt?" in sentences that name what else differs, such as the image."""

from collections.abc import Sequence

from verbalizer_bench.results.contrast import ALLOWABLE, NO_IMAGE
from verbalizer_bench.results.differences import Difference, Pair
from verbalizer_bench.results.resampling import ALPHA


def answers(pairs: Sequence[Pair]) -> list[str]:
    """Answer for every pair; image and tuning are taken apart where runs are there that can.

    What is to be known of a base is said with its first pair alone.
    """
    told, said = [], set[str]()
    for pair in pairs:
        parts, remarks = _parts(pair, pairs), [*_few(pair), *_floor(pair), *pair.caveats]
        news = [remark for remark in remarks if remark not in said]
        said.update(remarks)
        told.append(" ".join(filter(None, [_verdict(pair), *news, parts])))
    return told


def _verdict(pair: Pair) -> str:
    """Answer from All and the label types."""
    types = {difference.name: difference for difference in pair.family("label type")}
    told = {name: direction(difference) for name, difference in types.items()}
    lower, higher = -1 in told.values(), 1 in told.values()
    whole = told.get("All", 0)
    helped = "they helped" if len(pair.contrast.changed) > 1 else "it helped"
    verdict = {-1: "Yes", 1: f"No, {helped}", 0: "It cannot be told"}[whole]
    if all(
        difference.difference == 0 and difference.error in (0, None)
        for difference in types.values()
    ):
        verdict = "It cannot be told" if _floor(pair) else "No difference was found"
    elif whole == -1 and higher:
        verdict = "Yes on the whole, though not everywhere"
    elif whole == 1 and lower:
        verdict = "Not on the whole, but in part"
    elif whole == 0 and lower:
        verdict = "In part"
    elif whole == 0 and higher:
        verdict = "Not that could be told"
    return f"{_question(pair)} {verdict}: {finding(pair)}"


def _floor(pair: Pair) -> list[str]:
    """Say where a base cannot lose anything, or a run says the same whatever it is asked."""
    said = []
    if all(difference.base == 0 for difference in pair.family("label type")):
        said.append(f"{pair.base} scores F1 0 in all: a base at 0 cannot lose anything.")
    if pair.same[0]:
        said.append(
            f"{pair.base}: {pair.same[0]}, whatever it is asked: it follows no instruction that "
            "it could lose."
        )
    if pair.same[1]:
        said.append(f"{pair.model}: {pair.same[1]}, whatever it is asked.")
    return said


def _few(pair: Pair) -> list[str]:
    """Say why there is no interval."""
    if all(one.low is not None for one in pair.family("label type")):
        return []
    return ["A data set has one document, which gives no interval: ask more (--limit)."]


def finding(pair: Pair) -> str:
    """Say in a sentence how a model differs from the base, over all and by label type."""
    types = {difference.name: difference for difference in pair.family("label type")}
    parts = [f"{name} {_told(difference)}" for name, difference in types.items() if name != "All"]
    if whole := types.get("All"):
        parts.insert(0, f"F1 over all {_told(whole)}")
        if direction(whole) == 0 and whole.detectable:
            parts[0] += f" (differences below {100 * whole.detectable:.1f} are likely to be missed)"
    return f"{named(pair, 1)} against {named(pair, 0)}: {'; '.join(parts)}."


def named(pair: Pair, side: int) -> str:
    """Return the name of a pair's base (0) or model (1), with what it alone was asked with."""
    name = (pair.base, pair.model)[side]
    shown = [values[side] for key in ALLOWABLE if (values := getattr(pair.contrast, key))]
    return f"{name} ({', '.join(shown)})" if shown else name


def row_name(pair: Pair, pairs: Sequence[Pair]) -> str:
    """Return a pair's name in a table whose base is the first pair's."""
    return pair.model if pair.base == pairs[0].base else f"{pair.model} - {pair.base}"


def direction(difference: Difference) -> int:
    """Return -1 or 1 where both the interval and Holm's p-value exclude 0, else 0."""
    if difference.low is None or difference.high is None or difference.p_holm >= ALPHA:
        return 0
    return -1 if difference.high < 0 else int(difference.low > 0)


def interval(difference: Difference) -> str:
    """Return a difference with its interval, in points of 100."""
    if difference.low is None or difference.high is None:
        return signed_points(difference.difference)
    low, high = signed_points(difference.low), signed_points(difference.high)
    return f"{signed_points(difference.difference)} [{low}, {high}]"


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


def _told(difference: Difference) -> str:
    words = {-1: "is lower", 1: "is higher", 0: "cannot be told apart"}[direction(difference)]
    return f"{words}, {interval(difference)}"


def _parts(pair: Pair, pairs: Sequence[Pair]) -> str:
    """Say how much of a difference is the image's and how much tuning's, if it has both."""
    if not {"tuning", "image"} <= set(pair.contrast.changed):
        return ""
    shown = [place for place in (0, 1) if (pair.contrast.image or ())[place] != NO_IMAGE]
    if shown != [1]:
        return "How much of it is the image, these runs do not tell."
    for alone in pairs:
        if alone.model != pair.model or alone.contrast.changed != ("image",):
            continue
        for rest in pairs:
            if (rest.base, rest.model) == (pair.base, alone.base):
                changed = " and ".join(rest.contrast.changed)
                return (
                    f"In parts: the image alone ({named(alone, 1)} against {named(alone, 0)}, the "
                    f"same weights) {_whole(alone)}; {changed} alone ({alone.base} against "
                    f"{pair.base}) "
                    f"{_whole(rest)}."
                )
    return (
        f"How much of it is the image, these runs do not tell: a run of {pair.model} with "
        "image=none beside them would."
    )


def _whole(pair: Pair) -> str:
    types = pair.family("label type")
    whole = [difference for difference in types if difference.name == "All"] or types
    return ", ".join(f"{difference.name} {_told(difference)}" for difference in whole)
