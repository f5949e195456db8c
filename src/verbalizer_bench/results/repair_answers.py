"""Answer "how much of what tuning cost came back?" in a sentence."""

import dataclasses
from collections.abc import Sequence

from verbalizer_bench.results.answers import signed_points
from verbalizer_bench.results.contrast import ALLOWABLE, Contrast
from verbalizer_bench.results.ratio import Ratio
from verbalizer_bench.results.repair import Recovery, Repair
from verbalizer_bench.results.statistics import Interval

HEADER = ("Repaired", "Label type", "Base", "Tuned", "Repaired", "Cost", "Came back", "%", "n")
NOTE = (
    "Cost: the base's F1 minus the tuned run's; came back: the repaired run's minus the tuned "
    "run's, in points of 100; %: the share of the cost that came back, above 100 or below 0 where "
    "it is so, and none (-) where the cost cannot be told from 0 or its share could be anything. "
    "Intervals: 95 %, of the same draws of documents for all three runs; a share's has those "
    "shares s for which came back - s x cost cannot be told from 0 (Fieller's rule); they are for "
    "each run and label type by itself, so that the best of several remedies looks better than it "
    "is. They say nothing of training seeds, and a tuned checkpoint that is bad by chance costs "
    "more and comes back more."
)


def repair_answer(repair: Repair) -> str:
    """Answer from All and the label types, and say what else differs between the runs."""
    by_name = {group.name: group for group in repair.groups}
    whole = by_name.get("All") or (repair.groups[0] if len(repair.groups) == 1 else None)
    parts = [f"{name} {_told(group)}" for name, group in by_name.items() if name != "All"]
    if "All" in by_name:
        parts.insert(0, f"over all {_told(by_name['All'])}")
    verdict = _verdict(whole) if whole else "By label type"
    lost = f"with {repair.repaired}, of the F1 that {repair.tuned} lost against {repair.base}"
    question = f"How much of what {_cause(repair.tuning)} cost came back?"
    return " ".join([question, f"{verdict}: {lost}: {'; '.join(parts)}.", *_remarks(repair)])


def repair_rows(repairs: Sequence[Repair]) -> list[list[str]]:
    """Return the cells below HEADER."""
    return [
        [
            *(repair.repaired, group.name),
            *(f"{100 * value:.1f}" for value in (group.base, group.tuned, group.repaired)),
            *(_points(change) for change in (group.cost, group.came_back)),
            "-" if group.share is None else _percent(group.share),
            str(group.documents),
        ]
        for repair in repairs
        for group in repair.groups
    ]


def _verdict(whole: Recovery) -> str:
    if whole.share is None:
        return {
            -1: "No share, for it cost nothing",
            0: "No share, for nothing that it cost can be told",
            1: "No share, for the cost is too uncertain",
        }[whole.told]
    low, high = whole.share.low, whole.share.high
    if high < 0:
        return "None, more was lost"
    if low <= 0:
        return "It cannot be told" if high >= 1 else "None that can be told"
    if low > 1:
        return "More than all"
    return "A part, perhaps all" if high >= 1 else "A part"


def _told(group: Recovery) -> str:
    lost = f"{_points(group.came_back)} of {_points(group.cost)} points"
    if group.share is not None:
        return f"{_percent(group.share, ' %')}, {lost}"
    why = {
        -1: "it cost nothing",
        0: "nothing that it cost can be told",
        1: "the cost is too uncertain",
    }[group.told]
    return f"no share, {why}, {lost}"


def _cause(tuning: Contrast) -> str:
    *others, last = tuning.changed or ("tuning",)
    return f"{', '.join(others)} and {last} together" if others else last


def _remarks(repair: Repair) -> list[str]:
    """Say what the figures do not tell apart, a sentence each."""
    tuned, repaired = repair.tuned, repair.repaired
    remarks = []
    if not repair.tuning.tuning:
        remarks.append(f"The weights of {repair.base} and {tuned} are the same.")
    elif repair.tuning.image:
        before, after = repair.tuning.image
        remarks.append(
            f"{repair.base} was shown {before} and {tuned} {after}: how much of the cost is the "
            "image's, and how much of what came back, these runs do not tell; all three without an "
            "image would."
        )
    if not repair.remedy.tuning:
        remarks.append(f"The weights of {tuned} and {repaired} are the same.")
    for key in ALLOWABLE:
        if pair := getattr(repair.remedy, key):
            remarks.append(
                f"What came back is not the remedy's alone: {pair[0]} for {tuned}, {pair[1]} for "
                f"{repaired}."
            )
    return remarks


def _points(change: Interval) -> str:
    if change.low is None or change.high is None:
        return signed_points(change.mean)
    ends = f"{signed_points(change.low)}, {signed_points(change.high)}"
    return f"{signed_points(change.mean)} [{ends}]"


def _percent(share: Ratio, unit: str = "") -> str:
    # What rounds to 0 has no sign.
    value, low, high = (f"{round(100 * v, 1) + 0.0:.1f}" for v in dataclasses.astuple(share))
    return f"{value}{unit} [{low}, {high}]"
