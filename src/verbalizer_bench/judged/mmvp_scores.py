"""What a judge's verdicts on MMVP's responses come to: by pair, and beside the rule's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from verbalizer_bench.results.statistics import Interval, estimate


class Judged(NamedTuple):
    """A response's verdicts.

    Attributes:
        pair: Its pair's number.
        pattern: Its pattern; "" for none.
        right: Whether the judge takes it for right by the release's labels; None: left out.
        corrected: The same by the corrected labels.
        rule: Whether the rule takes it for right, by the release's labels.
        unparsed: Whether the rule finds no choice in it.
        same: Whether both versions of the labels say the same of it.
    """

    pair: int
    pattern: str
    right: bool | None
    corrected: bool | None
    rule: bool
    unparsed: bool
    same: bool


class Shares(NamedTuple):
    """Shares of pairs and of single answers that are right, over pairs without a gap."""

    pair: Interval
    single: Interval
    pairs: int


class Agreement(NamedTuple):
    """How judge and rule agree on responses, by the release's labels.

    Attributes:
        responses: How many have a verdict.
        alike: On how many both say the same.
        judge_only: How many the judge alone takes for right.
        rule_only: How many the rule alone does.
        unparsed: In how many the rule finds no choice.
        unparsed_right: How many of these the judge takes for right.
    """

    responses: int
    alike: int
    judge_only: int
    rule_only: int
    unparsed: int
    unparsed_right: int


class MmvpScores(NamedTuple):
    """The scores of verdicts.

    Attributes:
        original: By the release's labels.
        corrected: By the corrected ones; None where they are the same.
        rule: What the rule makes of the same pairs, by the release's labels.
        patterns: Of pairs by pattern, by the release's labels.
        agreement: With the rule.
        gaps: The pairs that are left out, since a verdict is missing.
    """

    original: Shares
    corrected: Shares | None
    rule: Shares
    patterns: Mapping[str, Shares]
    agreement: Agreement
    gaps: tuple[int, ...]

    def record(self) -> dict[str, Any]:
        """Return what a result has of them, in %."""
        corrected = self.corrected
        return {
            "labels": "as released",
            "score": _record(self.original.pair, self.original.pairs),
            "single": _record(self.original.single, self.original.pairs),
            "score_corrected": _record(corrected.pair, corrected.pairs) if corrected else None,
            "single_corrected": _record(corrected.single, corrected.pairs) if corrected else None,
            "patterns": {name: _record(one.pair, one.pairs) for name, one in self.patterns.items()},
            "pairs_left_out": list(self.gaps),
            "rule": {
                "score": _record(self.rule.pair, self.rule.pairs),
                "single": _record(self.rule.single, self.rule.pairs),
            },
            "agreement": self.agreement._asdict(),
        }

    def lines(self) -> list[str]:
        """Return what is printed of them."""
        lines = [_line("by the judge", self.original)]
        if self.corrected:
            lines.append(_line("by the judge, corrected labels", self.corrected))
        lines.append(_line("by the rule", self.rule))
        lines += [f"{name}: {one.pair} of {one.pairs}" for name, one in self.patterns.items()]
        if self.gaps:
            lines.append(
                f"left out, since a verdict is missing: pair {', '.join(map(str, self.gaps))}"
            )
        found = self.agreement
        return [
            *lines,
            f"judge and rule say the same of {found.alike} of {found.responses} responses "
            f"({found.alike / found.responses:.1%}); right by the judge alone {found.judge_only}, "
            f"by the rule alone {found.rule_only}",
            f"of {found.unparsed} responses in which the rule finds no choice the judge takes "
            f"{found.unparsed_right} for right",
        ]


def scores_of(judged: Sequence[Judged]) -> MmvpScores:
    """Return the scores of the verdicts that are there.

    Args:
        judged: The two responses of each pair.

    Raises:
        ValueError: No pair has both verdicts.
    """
    pairs: dict[int, list[Judged]] = {}
    for one in judged:
        pairs.setdefault(one.pair, []).append(one)
    gaps = [
        number
        for number, two in pairs.items()
        if any(None in (one.right, one.corrected) for one in two)
    ]
    whole = [two for number, two in pairs.items() if number not in gaps]
    if not whole:
        raise ValueError("mmvp: no pair has both verdicts, and so no score; give another judge")
    patterns: dict[str, list[list[Judged]]] = {}
    for two in whole:
        patterns.setdefault(two[0].pattern, []).append(two)
    patterns.pop("", None)
    one_version = all(one.same for one in judged)
    return MmvpScores(
        _shares(whole, lambda one: bool(one.right)),
        None if one_version else _shares(whole, lambda one: bool(one.corrected)),
        _shares(whole, lambda one: one.rule),
        {name: _shares(patterns[name], lambda one: bool(one.right)) for name in sorted(patterns)},
        _agreement([one for one in judged if one.right is not None]),
        tuple(gaps),
    )


def _shares(pairs: Sequence[Sequence[Judged]], is_right: Callable[[Judged], bool]) -> Shares:
    rights = [[is_right(one) for one in two] for two in pairs]
    table = np.array([[all(two), sum(two) / len(two)] for two in rights], dtype=float)
    pair, single = estimate({"mmvp": table}, np.eye(2))
    return Shares(pair, single, len(pairs))


def _agreement(judged: Sequence[Judged]) -> Agreement:
    unparsed = [one for one in judged if one.unparsed]
    return Agreement(
        len(judged),
        sum(one.right == one.rule for one in judged),
        sum(bool(one.right) and not one.rule for one in judged),
        sum(one.rule and not one.right for one in judged),
        len(unparsed),
        sum(bool(one.right) for one in unparsed),
    )


def _record(share: Interval, pairs: int) -> dict[str, Any]:
    ends = None
    if share.low is not None and share.high is not None:
        ends = [round(100 * share.low, 4), round(100 * share.high, 4)]
    return {"mean": round(100 * share.mean, 4), "interval": ends, "pairs": pairs}


def _line(label: str, shares: Shares) -> str:
    return f"{label}: pair {shares.pair}, single {shares.single}, in %, of {shares.pairs} pairs"
