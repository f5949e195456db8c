"""How prompts were rendered: what two runs must have in common, besides which template they have.

Two models have their own templates, of course. But a template that writes the date asks another
question on another day, and one template can be given other arguments.
"""

from collections.abc import Mapping
from typing import Any

from verbalizer_bench.results.run import Run

_UNKNOWN_DATE = "the day of the run"


def rendering_refusal(base: Run, run: Run) -> str | None:
    """Say in what two runs' prompts were rendered otherwise; None where in nothing that counts."""
    names = ("system_instruction", "fewshot_as_multiturn")
    for name in names if _shots(base) or _shots(run) else names[:1]:
        given = [one.results.get(name) or None for one in (base, run)]
        if given[0] != given[1]:
            return _told(f"--{name}", given, base, run)
    dates = [_date(one) for one in (base, run)]
    if None not in dates and dates[0] != dates[1]:
        return _told("the date that the chat template writes", dates, base, run)
    records = [one.record.get("rendering") or {} for one in (base, run)]
    hashes = {one.record.get("chat_template_sha256") for one in (base, run)}
    given = [record.get("arguments") or {} for record in records]
    if all(records) and len(hashes) == 1 and given[0] != given[1]:
        return _told("the arguments of the chat template", given, base, run)
    return None


def rendering_text(record: Mapping[str, Any]) -> str:
    """Return how the chat template was applied, for a report."""
    template = record.get("chat_template_sha256")
    if not template:
        return "chat template: not applied"
    found = record.get("rendering") or {}
    parts = [f"sha256 {str(template)[:12]}"]
    if contents := found.get("contents"):
        parts.append(f"contents as {' and '.join(contents)}")
    if date := found.get("date"):
        parts.append(f"it writes the date, fixed at {date}")
    if arguments := found.get("arguments"):
        parts.append(f"arguments {str(arguments)[:200]}")
    return f"chat template: applied ({'; '.join(parts)})"


def _date(run: Run) -> str | None:
    """Return the date in a run's prompts; None without one."""
    record = run.record.get("rendering")
    if isinstance(record, Mapping):
        return record.get("date")
    applied = "strftime_now" in str(run.results.get("chat_template") or "")
    return f"{_UNKNOWN_DATE}, {run.results.get('date')}" if applied else None


def _shots(run: Run) -> bool:
    return any((run.results.get("n-shot") or {}).values())


def _told(what: str, given: list[Any], base: Run, run: Run) -> str:
    one, other = (str(value)[:80] for value in given)
    return (
        f"the runs were rendered otherwise: {what} is {one} in {base.folder}, {other} in "
        f"{run.folder}; run both alike"
    )
