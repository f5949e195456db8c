"""Failure monitor: tells requests that are refused one by one from a server that refuses them all.

A server that refuses every request (an unknown parameter, a key without the right, an account
without money) refuses no sample: the build stops, and a later run asks again. It also stops where
no answer can be used, whatever is asked (a model that always thinks, or is always cut off). The
samples' order decides, not that of the responses, so that a rerun, which has some of them stored,
comes to the same conclusion.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from verbalizer_bench.builders.pipeline.sample import TrainingSample
from verbalizer_bench.builders.pipeline.worker_pool import BuildStopped

# So many at the beginning without an answer: the samples are not at fault.
_FIRST = 5
# So many in a row, later on.
_IN_A_ROW = 20
_LOST = ("rejected", "failed")
# So many answers at the beginning that are useless whatever was asked.
_FIRST_ANSWERS = 20
_USELESS = ("empty", "cut_off", "thoughts", "control_tokens", "damaged", "unparsable")
OTHERWISE = (
    "what is stored is not asked for again: to ask anew, change the endpoint's parameters, or give "
    "another output"
)


class FailureMonitor:
    """Note which units of a stage were answered, and which refused, by role."""

    def __init__(self, failures: str) -> None:
        """Begin a stage; `failures=set_aside` lets samples go once others are answered."""
        self._strict = failures == "stop"
        self._done: set[int] = set()
        self._reached = 0
        # By role and place: why it was refused, "" if it was answered.
        self._outcomes: dict[str, dict[int, str]] = defaultdict(dict)
        # By role and place: why no answer could be used.
        self._useless: dict[str, dict[int, str]] = defaultdict(dict)
        # By role: places with answers from earlier stages.
        self._before: dict[str, set[int]] = defaultdict(set)

    def add(
        self, place: int, before: Sequence[TrainingSample], after: Sequence[TrainingSample]
    ) -> None:
        """Note a unit that was worked on.

        Args:
            place: Among the units.
            before: Its samples.
            after: What was made of them.

        Raises:
            BuildStopped: The server refuses whatever it is asked.
        """
        known = {sample.id: sample for sample in before}
        for sample in after:
            old = known[sample.id]
            for attempt in old.attempts:
                self._before[attempt.role].add(place)
            new = sample.attempts[len(old.attempts) :]
            for attempt in new:
                self._outcomes[attempt.role].setdefault(place, "")
            rejection = None if old.rejection else sample.rejection
            if rejection and rejection.reason in _LOST:
                # The message of a failed call begins with its role.
                self._outcomes[rejection.detail.partition(":")[0]][place] = rejection.detail
            elif rejection and rejection.reason in _USELESS and new:
                self._useless[new[-1].role][place] = f"{rejection.reason}: {rejection.detail}"
        self._done.add(place)
        while self._reached in self._done:
            self._reached += 1
        for role, outcomes in self._outcomes.items():
            if outcomes.get(place):
                self._check(role, place)
        for role, useless in self._useless.items():
            if len(useless) >= _FIRST_ANSWERS:
                self._check_answers(role, useless)

    def _check_answers(self, role: str, useless: Mapping[int, str]) -> None:
        """Raise BuildStopped if no answer could be used, in this stage or an earlier one."""
        outcomes = self._outcomes[role]
        first = sum(place < self._reached for place in outcomes)
        if first >= _FIRST_ANSWERS and len(useless) == len(outcomes) and not self._before[role]:
            raise BuildStopped(
                f"none of the first {len(outcomes)} answers for {role} can be used, the first: "
                f"{useless[min(useless)]}",
                f"mend it, at the server or in the recipe; {OTHERWISE}",
            )

    def _check(self, role: str, place: int) -> None:
        first = [at for at in self._outcomes[role] if at < self._reached]
        if len(first) >= _FIRST:
            self._check_all(role, f"the first {len(self._outcomes[role])} requests", _FIRST)
        run = self._run(role, place)
        if len(run) >= _IN_A_ROW:
            raise BuildStopped(_words(f"{len(run)} requests in a row", role, run[0]))

    def _check_all(self, role: str, which: str, least: int) -> None:
        """Raise BuildStopped if no request was answered.

        Requests that follow answered ones, and name what was wrong with those, are longer, and may
        be refused for that.
        """
        lost = [detail for _, detail in sorted(self._outcomes[role].items())]
        if not all(lost) or not lost:
            return
        if not self._before[role]:
            raise BuildStopped(_words(which, role, lost[0], " and none was answered"))
        if self._strict and len(lost) >= max(least, _FIRST):
            raise BuildStopped(_words(which, role, lost[0], _WAY_OUT))

    def _run(self, role: str, place: int) -> list[str]:
        """Return the refusals around a unit, up to the next that was answered or is open."""
        outcomes = self._outcomes[role]
        start = stop = place
        while self._lost(role, start - 1):
            start -= 1
        while self._lost(role, stop + 1):
            stop += 1
        return [outcomes[at] for at in range(start, stop + 1) if at in outcomes]

    def _lost(self, role: str, place: int) -> bool:
        """Return whether a unit was refused, or never asked about."""
        outcomes = self._outcomes[role]
        asked = place in outcomes or place in self._before[role]
        return place in self._done and (bool(outcomes.get(place)) or not asked)

    def end(self) -> None:
        """Raise BuildStopped if no request was answered, or the last ones were all refused."""
        for role, outcomes in self._outcomes.items():
            self._check_all(role, f"all {len(outcomes)} requests", 1)
            last = self._run(role, max(outcomes)) if outcomes[max(outcomes)] else []
            if self._strict and len(last) >= _FIRST:
                raise BuildStopped(
                    _words(f"the last {len(last)} requests", role, last[0], _WAY_OUT)
                )


_WAY_OUT = " (if it is for what is in them, give failures=set_aside)"


def _words(which: str, role: str, detail: str, note: str = "") -> str:
    return f"{which} for {role} were refused or failed{note}, the first: {detail}"
