"""Markdown of reports and cards."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; columns after the first are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    cells = [head, rule, *([str(value) for value in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
