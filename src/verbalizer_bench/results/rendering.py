"""How prompts were rendered: what two runs must have in common, besides which template they have.

Two models have their own templates, of course. But a template that writes the date asks another
question on another day, and one template can be given other arguments.
"""

from typing import Any

from verbalizer_bench.results.run import Run
from verbalizer_bench.results.schema import RunRecord, TemplateRendering

_UNKNOWN_DATE = "the day of the run"


def rendering_difference(base: Run, run: Run) -> tuple[str, str, str] | None:
    """Say in what two runs' prompts were rendered otherwise; None where in nothing that counts.

    Returns:
        What it is, the base's value, and the run's.
    """
    names = ("system_instruction", "fewshot_as_multiturn")
    for name in names if _shots(base) or _shots(run) else names[:1]:
        given: list[Any] = [getattr(one.results, name) or None for one in (base, run)]
        if given[0] != given[1]:
            return _told(f"--{name}", given)
    dates = [_date(one) for one in (base, run)]
    if None not in dates and dates[0] != dates[1]:
        return _told("the date that the chat template writes", dates)
    records = [one.record.rendering for one in (base, run)]
    hashes = {one.record.chat_template_sha256 for one in (base, run)}
    given = [record and (record.arguments or {}) for record in records]
    if None not in given and len(hashes) == 1 and given[0] != given[1]:
        return _told("the arguments of the chat template", given)
    return None


def rendering_text(record: RunRecord) -> str:
    """Return how the chat template was applied, for a report."""
    if not record.chat_template_sha256:
        return "chat template: not applied"
    rendering = record.rendering or TemplateRendering()
    parts = [f"sha256 {record.chat_template_sha256[:12]}"]
    if rendering.contents:
        parts.append(f"contents as {' and '.join(rendering.contents)}")
    if rendering.date:
        parts.append(f"it writes the date, fixed at {rendering.date}")
    if rendering.arguments:
        parts.append(f"arguments {str(rendering.arguments)[:200]}")
    return f"chat template: applied ({'; '.join(parts)})"


def _date(run: Run) -> str | None:
    """Return the date in a run's prompts; None without one."""
    if run.record.rendering:
        return run.record.rendering.date
    applied = "strftime_now" in str(run.results.chat_template or "")
    return f"{_UNKNOWN_DATE}, {run.results.date}" if applied else None


def _shots(run: Run) -> bool:
    return any(run.results.n_shot.values())


def _told(what: str, given: list[Any]) -> tuple[str, str, str]:
    one, other = (str(value)[:80] for value in given)
    return what, one, other
