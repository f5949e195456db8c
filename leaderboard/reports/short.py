"""A run in short: one table, how to read it, two examples of what went wrong."""

import shlex
import textwrap
from collections.abc import Iterator, Sequence

from verbalizer_bench.leaderboard.reports.examples import examples_of, worst_outcome
from verbalizer_bench.results.references import Reference, references
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.schema import Sample
from verbalizer_bench.results.summary import RunSummary
from verbalizer_bench.results.tables import markdown_table
from verbalizer_bench.tasks.metrics import OUTCOMES, words
from verbalizer_bench.tasks.spec import LABEL_TYPES

_COLUMNS = (*LABEL_TYPES, "All")
READ = "How to read F1: what answers that need no model get on the same documents."
# So much is shown of a prompt's end, and of a response's beginning, in characters.
_PROMPT, _RESPONSE = 160, 120
_EXAMPLES = 2


def table(summary: RunSummary) -> str:
    """Return F1 and outcomes by label type, in %."""
    rows = [
        [name, str(scores.f1), *(f"{100 * scores.outcomes[one]:.1f}" for one in OUTCOMES)]
        for name, scores in summary.label_types.items()
    ]
    return markdown_table(["", "F1 in %", *OUTCOMES], rows)


def reference_table(run: Run) -> str:
    """Return what answers that need no model get, as Markdown; "" where it is not known."""
    found = references(run)
    if not found:
        return ""
    columns = [name for name in _COLUMNS if name in found[0].f1]
    rows = [[one.answer, *_cells(one, columns)] for one in found]
    return f"{READ}\n\n{markdown_table(['Every response is', *columns], rows)}"


def reference_lines(run: Run) -> str:
    """Return the same for a terminal."""
    found = references(run)
    if not found:
        return ""
    columns = [name for name in _COLUMNS if name in found[0].f1]
    widths = [max(5, len(name)) for name in columns]
    lines = [
        "  " + " ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) + text
        for cells, text in (
            (columns, "  every response is"),
            *((_cells(one, columns), f"  {one.answer}") for one in found),
        )
    ]
    return "\n".join([READ, *lines])


def _cells(reference: Reference, columns: Sequence[str]) -> list[str]:
    return [f"{100 * reference.f1[name]:.1f}" for name in columns]


def worst_examples(run: Run) -> str:
    """Return two responses with the outcome that most have instead of following."""
    worst = worst_outcome(run)
    if worst is None:
        return "Every response is the expected word alone."
    outcome, share = worst
    found = examples_of(run, outcome, _EXAMPLES)
    first = f"The most frequent failure is `{outcome}`, {100 * share:.1f} % of all responses:"
    return "\n\n".join([first, *("\n".join(_example(run, *one)) for one in found)])


def _example(run: Run, task: str, sample: Sample) -> Iterator[str]:
    prompt, response = sample.prompt, sample.response
    end = prompt if len(prompt) <= _PROMPT else f"…{prompt[-_PROMPT:]}"
    said = response if len(response) <= _RESPONSE else f"{response[:_RESPONSE]}…"
    yield f"    {task}, document {sample.doc_id}"
    for name, text in (("prompt", end), ("expected", sample.target), ("got", said)):
        yield from _field(name, _visible(text))
    yield from _field("why", _why(sample))
    command = ["verbalizer-bench", "explain", str(run.folder), "--task", task]
    yield "      " + _visible(shlex.join([*command, "--doc", str(sample.doc_id)]))


def _field(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        *(96,),
        initial_indent=f"      {name:<10}",
        subsequent_indent=" " * 16,
        break_on_hyphens=False,
    ) or [f"      {name:<10}(empty)"]


def _visible(text: str) -> str:
    """Return a text on one line, without what a terminal would obey."""
    shown = text.replace("\n", "↵").replace("\t", " ")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown)


def _why(sample: Sample) -> str:
    """Say in what a response is not the expected word, and what it gets."""
    count = len(words(sample.response)) - len(words(sample.target))
    reasons = {
        "verbose": f"the expected word is there, and {count} more",
        "flipped": "it has the other label word",
        "both": "it has both label words",
        "neither": "it has neither label word" if sample.response.strip() else "it is empty",
    }
    return f"{reasons[sample.outcome]}: F1 {100 * sample.f1:.1f}"
