"""Refusals: of a record among others, which is set aside, or of whatever is asked.

A server that refuses every request (a parameter that it does not know, a key without the right, an
account without money) refuses no record: the build stops, and a later run asks again. So it does
where no answer can be used, whatever is asked (a model that always thinks, or is always cut off).
It is told by the order of the records, not of the answers, so that a rerun, which has some stored,
comes to the same.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from verbalizer_bench.builders.pipeline.sample import Sample
from verbalizer_bench.builders.pipeline.worker_pool import BuildStopped

# So many of the first, and nobody answered: it is not the records.
_FIRST = 5
# So many in a row, later.
_IN_A_ROW = 20
_LOST = ("rejected", "failed")
# So many of the first were answered in a way that has nothing to do with what was asked.
_FIRST_ANSWERS = 20
_USELESS = ("empty", "cut_off", "thoughts", "control_tokens", "damaged", "unparsable")
OTHERWISE = (
    "what is stored is not asked for again: to ask anew, change the endpoint's parameters, or give "
    "another output"
)


class FailureMonitor:
    """Which units of a stage were answered, and which refused, by role."""

    def __init__(self, stage: str, failures: str) -> None:
        """Begin a stage; with `failures=set_aside` requests like answered ones may be lost."""
        self._stage, self._strict = stage, failures == "stop"
        self._done: set[int] = set()
        self._reached = 0
        # By role and place: why it was refused, "" if it was answered.
        self._found: dict[str, dict[int, str]] = defaultdict(dict)
        # By role and place: why no answer could be used.
        self._useless: dict[str, dict[int, str]] = defaultdict(dict)
        # By role: places that earlier stages had answers for.
        self._before: dict[str, set[int]] = defaultdict(set)

    def add(self, place: int, before: Sequence[Sample], after: Sequence[Sample]) -> None:
        """Note a unit that was worked on.

        Args:
            place: Among the units.
            before: Its rows.
            after: What was made of them.

        Raises:
            Stopped: It is the request that is refused.
        """
        known = {sample.id: sample for sample in before}
        for sample in after:
            old = known[sample.id]
            for attempt in old.attempts:
                self._before[attempt.role].add(place)
            new, aside = sample.attempts[len(old.attempts) :], sample.rejection
            for attempt in new:
                self._found[attempt.role].setdefault(place, "")
            if aside and not old.rejection and aside.reason in _LOST:
                # A call that failed says first what it was for.
                self._found[aside.detail.partition(":")[0]][place] = aside.detail
            elif aside and not old.rejection and aside.reason in _USELESS and new:
                self._useless[new[-1].role][place] = f"{aside.reason}: {aside.detail}"
        self._done.add(place)
        while self._reached in self._done:
            self._reached += 1
        for role, found in self._found.items():
            if found.get(place):
                self._check(role, place)
        for role, useless in self._useless.items():
            if len(useless) >= _FIRST_ANSWERS:
                self._check_answers(role, useless)

    def _check_answers(self, role: str, useless: Mapping[int, str]) -> None:
        """Raise Stopped if no answer could be used, and none of an earlier stage was."""
        found = self._found[role]
        first = sum(place < self._reached for place in found)
        if first >= _FIRST_ANSWERS and len(useless) == len(found) and not self._before[role]:
            raise BuildStopped(
                f"none of the first {len(found)} answers for {role} can be used, the first: "
                f"{useless[min(useless)]}",
                f"mend it, at the server or in the recipe; {OTHERWISE}",
            )

    def _check(self, role: str, place: int) -> None:
        first = [at for at in self._found[role] if at < self._reached]
        if len(first) >= _FIRST:
            self._check_all(role, f"the first {len(self._found[role])} requests", _FIRST)
        run = self._run(role, place)
        if len(run) >= _IN_A_ROW:
            raise BuildStopped(_words(f"{len(run)} requests in a row", role, run[0]))

    def _check_all(self, role: str, which: str, least: int) -> None:
        """Raise Stopped if nobody was answered.

        Requests after others that were answered, which name what was wrong with those, are longer:
        they may be refused for that.
        """
        lost = [detail for _, detail in sorted(self._found[role].items())]
        if not all(lost) or not lost:
            return
        if not self._before[role]:
            raise BuildStopped(_words(which, role, lost[0], " and none was answered"))
        if self._strict and len(lost) >= max(least, _FIRST):
            raise BuildStopped(_words(which, role, lost[0], _WAY_OUT))

    def _run(self, role: str, place: int) -> list[str]:
        """Return the refusals around a unit, up to the next one that was answered or is open."""
        found = self._found[role]
        start = stop = place
        while self._lost(role, start - 1):
            start -= 1
        while self._lost(role, stop + 1):
            stop += 1
        return [found[at] for at in range(start, stop + 1) if at in found]

    def _lost(self, role: str, place: int) -> bool:
        """Say whether a unit was refused, or nobody was ever asked about it."""
        found = self._found[role]
        asked = place in found or place in self._before[role]
        return place in self._done and (bool(found.get(place)) or not asked)

    def end(self) -> None:
        """Raise Stopped if nobody was answered, or the last ones were all refused."""
        for role, found in self._found.items():
            self._check_all(role, f"all {len(found)} requests", 1)
            last = self._run(role, max(found)) if found[max(found)] else []
            if self._strict and len(last) >= _FIRST:
                raise BuildStopped(
                    _words(f"the last {len(last)} requests", role, last[0], _WAY_OUT)
                )


_WAY_OUT = " (if it is for what is in them, give failures=set_aside)"


def _words(which: str, role: str, detail: str, note: str = "") -> str:
    return f"{which} for {role} were refused or failed{note}, the first: {detail}"
