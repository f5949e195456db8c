"""Refusals: of a record among others, which is set aside, or of whatever is asked.

A server that refuses every request (a parameter that it does not know, a key without the right, an
account without money) refuses no record: the build stops, and a later run asks again. It is told by
the order of the records, not of the answers, so that a rerun, which has some stored, comes to the
same.
"""

from collections import defaultdict
from collections.abc import Sequence

from verbalizer_bench.builders.crew import Stopped
from verbalizer_bench.builders.rows import Row

# So many of the first, and nobody answered: it is not the records.
_FIRST = 5
# So many in a row, later.
_IN_A_ROW = 20
_LOST = ("rejected", "failed")


class Refusals:
    """Which units of a stage were answered, and which refused, by role."""

    def __init__(self, stage: str, failures: str) -> None:
        """Begin a stage; with `failures=set_aside` its last records may all be lost."""
        self._stage, self._strict = stage, failures == "stop"
        self._done: set[int] = set()
        self._reached = 0
        self._found: dict[str, dict[int, str]] = defaultdict(dict)

    def add(self, place: int, before: Sequence[Row], after: Sequence[Row]) -> None:
        """Note a unit that was worked on.

        Args:
            place: Among the units.
            before: Its rows.
            after: What was made of them.

        Raises:
            Stopped: It is the request that is refused.
        """
        known = {row.id: row for row in before}
        for row in after:
            old = known[row.id]
            for attempt in row.attempts[len(old.attempts) :]:
                self._found[attempt.role].setdefault(place, "")
            aside = row.set_aside
            if aside and not old.set_aside and aside.reason in _LOST:
                # A call that failed says first what it was for.
                self._found[aside.detail.partition(":")[0]][place] = aside.detail
        self._done.add(place)
        while self._reached in self._done:
            self._reached += 1
        for role, found in self._found.items():
            if found.get(place):
                self._check(role, found, place)

    def _check(self, role: str, found: dict[int, str], place: int) -> None:
        lost = [detail for _, detail in sorted(found.items()) if detail]
        first = [at for at in found if at < self._reached]
        if len(first) >= _FIRST and len(lost) == len(found):
            raise Stopped(_words(f"the first {len(lost)} requests", role, lost[0], True))
        run = self._run(found, place)
        if len(run) >= _IN_A_ROW:
            raise Stopped(_words(f"{len(run)} requests in a row", role, run[0], False))

    def _run(self, found: dict[int, str], place: int) -> list[str]:
        """Return the refusals around a unit, up to the next one that was answered or is open."""
        start = stop = place
        while self._lost(found, start - 1):
            start -= 1
        while self._lost(found, stop + 1):
            stop += 1
        return [found[at] for at in range(start, stop + 1) if at in found]

    def _lost(self, found: dict[int, str], place: int) -> bool:
        return place in self._done and bool(found.get(place, "nobody was asked"))

    def end(self) -> None:
        """Raise Stopped if nobody was answered, or the last ones were all refused."""
        for role, found in self._found.items():
            lost = [detail for detail in found.values() if detail]
            if lost and len(lost) == len(found):
                raise Stopped(_words(f"all {len(lost)} requests", role, lost[0], True))
            last = self._run(found, max(found)) if found[max(found)] else []
            if self._strict and len(last) >= _FIRST:
                raise Stopped(_words(f"the last {len(last)} requests", role, last[0], False))


def _words(which: str, role: str, detail: str, none: bool) -> str:
    answered = " and none was answered" if none else ""
    return f"{which} for {role} were refused or failed{answered}, the first: {detail}"
