"""The results of `benchmarks.precision` as Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.precision_arms import ENGINE, GENERATE
from verbalizer_bench.results.statistics import Interval
from verbalizer_bench.results.tables import markdown_table

_RULE = (
    "Each is held against `generate` in float32, one prompt at a time: equal means the same "
    "tokens. `generate` in low precision takes one prompt at a time too; the engine takes a "
    "group's prompts together. The rule: the engine is worse if the one-sided p of McNemar's exact "
    "test, over the prompts on which one of the two is equal and the other not, is below 0.05. "
    "F1 is the suite's All, its difference the engine's minus `generate`'s of the same precision, "
    "in points, with a 95 % bootstrap interval over documents (each document is asked once)."
)


def render(result: Mapping[str, Any]) -> str:
    """Return everything that a reader needs to judge the numbers."""
    where = result["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    heading = (
        "# Low precision: the engine and `generate`\n\n"
        f"{where['cpu']}, {where['cpu_capability']}, one thread; {versions}; "
        f"commit {where['git_commit']}, engine {result['engine_sha256'][:12]}; {where['gpu']}.\n\n"
    )
    header = ["Model, search", "Precision", "Prompts", "Engine equal", "`generate` equal"]
    header += ["Only engine", "Only `generate`", "p, engine worse", "p, two-sided"]
    header += ["F1 in float32", "F1 difference", "Verdict"]
    lines = [line for part in result["measured"] for line in _lines(part)]
    return heading + _RULE + "\n\n" + markdown_table(header, lines) + "\n" + _notes(result)


def _name(part: Mapping[str, Any]) -> str:
    search = f"{part['beams']} beams" if part["beams"] > 1 else "greedy"
    return f"{part['model']}, {search}"


def _lines(part: Mapping[str, Any]) -> Iterator[list[str]]:
    for dtype, row in part["precisions"].items():
        yield [
            *(_name(part), dtype, str(row["prompts"]), str(row["engine"]), str(row["generate"])),
            *(str(row["only_engine"]), str(row["only_generate"])),
            *(f"{row['p_worse']:.2f}", f"{row['p_differs']:.2f}"),
            f"{100 * part['f1'][GENERATE]['float32']:.1f}",
            str(Interval(**row["f1_difference"])),
            "worse" if row["worse"] else "no worse",
        ]


def _notes(result: Mapping[str, Any]) -> str:
    notes = [""]
    for part in result["measured"]:
        costs = part["cpu_seconds_a_response"]
        spent = ", ".join(
            f"{dtype} {costs[GENERATE][dtype]:.2f} and {costs[ENGINE][dtype]:.2f}"
            for dtype in costs[GENERATE]
        )
        notes.append(
            f"- {_name(part)}: the engine in float32 is equal on {part['float32_equal']} of "
            f"{part['prompts']} prompts ({part['distinct_responses']} distinct responses). CPU "
            f"seconds a response, `generate` and engine, once each, on a machine with other jobs: "
            f"{spent}."
        )
    absent = [
        f"{_name(part)} in {dtype}"
        for part in result["measured"]
        for dtype in ("bfloat16", "float16")
        if dtype not in part["precisions"]
    ]
    notes.append(f"- Not measured: {', '.join(['a GPU', *absent])}.")
    return "\n".join(notes) + "\n"
