"""Runs whose prompts were rendered otherwise are not compared or merged without a word."""

from typing import Any

import pytest

from tests.helpers.runs import changed, run, task
from verbalizer_bench.results.contrast import refusal
from verbalizer_bench.results.rendering import rendering_difference, rendering_text
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.schema import RunRecord

DATED = {"contents": ["strings"], "date": "2024-07-26", "arguments": {}}
PLAIN = {"contents": ["parts"], "date": None, "arguments": {}}


def rendered(rendering: Any, sha256: str = "a" * 64, **results: Any) -> Run:
    """Return a run whose record says so of its chat template."""
    record = {"chat_template_sha256": sha256, "rendering": rendering}
    made = run(task("x", "natural", "p", [0.5]), model="verbalizer-llm", verbalizer_bench=record)
    return changed(made, **results)


def test_other_dates_are_refused_whatever_the_templates() -> None:
    other = rendered({**DATED, "date": "2025-01-01"}, "b" * 64)
    reason = rendering_difference(rendered(DATED), other)
    assert reason == ("the date that the chat template writes", "2024-07-26", "2025-01-01")
    # A template that writes no date is another model's own affair.
    assert rendering_difference(rendered(DATED), rendered(PLAIN, "b" * 64)) is None


def test_a_run_of_an_earlier_version_had_the_date_of_its_day() -> None:
    text = "{{ strftime_now('%d %b %Y') }}{{ messages }}"
    old = rendered(None, chat_template=text, date=1764000000.0)
    reason = rendering_difference(rendered(DATED), old)
    assert reason and reason[2] == "the day of the run, 1764000000.0"
    assert (
        rendering_difference(rendered(PLAIN), rendered(None, chat_template="{{ messages }}"))
        is None
    )


def test_one_template_with_other_arguments_is_refused() -> None:
    thinking = {**PLAIN, "arguments": {"enable_thinking": False}}
    reason = rendering_difference(rendered(PLAIN), rendered(thinking))
    told = ("the arguments of the chat template", "{}", "{'enable_thinking': False}")
    assert reason == told
    assert rendering_difference(rendered(PLAIN), rendered(thinking, "b" * 64)) is None


@pytest.mark.parametrize(
    ("one", "other", "fault"),
    [
        ({"system_instruction": "Be brief."}, {"system_instruction": "Be kind."}, "Be brief."),
        ({"system_instruction": "Be brief."}, {}, "None"),
        (
            {"fewshot_as_multiturn": True, "n-shot": {"x": 2}},
            {"fewshot_as_multiturn": False, "n-shot": {"x": 2}},
            "--fewshot_as_multiturn",
        ),
        ({"fewshot_as_multiturn": True}, {"fewshot_as_multiturn": False}, None),
    ],
)
def test_other_system_texts_and_shots_are_refused(
    one: dict[str, Any], other: dict[str, Any], fault: str | None
) -> None:
    reason = rendering_difference(rendered(PLAIN, **one), rendered(PLAIN, **other))
    assert (reason is None) if fault is None else (reason is not None and fault in reason)


def test_compare_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    from verbalizer_bench.results import contrast

    monkeypatch.setattr(contrast, "_settings", lambda run: ())
    other = rendered({**DATED, "date": "2025-01-01"})
    assert "2025-01-01" in str(refusal(rendered(DATED), other, ["template"]))


def test_a_report_says_how_prompts_were_rendered() -> None:
    assert rendering_text(RunRecord()) == "chat template: not applied"
    record = {"chat_template_sha256": "ab" * 32, "rendering": DATED}
    assert rendering_text(RunRecord.model_validate(record)) == (
        "chat template: applied (sha256 abababababab; contents as strings; "
        "it writes the date, fixed at 2024-07-26)"
    )
    record["rendering"] = {**PLAIN, "arguments": {"enable_thinking": False}}
    assert rendering_text(RunRecord.model_validate(record)).endswith(
        "contents as parts; arguments {'enable_thinking': False})"
    )


def test_a_merged_run_has_the_forms_of_all_shards() -> None:
    from verbalizer_bench.running.merge import _rendering

    shards = [{"rendering": DATED}, {"rendering": {**DATED, "contents": ["parts"]}}]
    assert _rendering(shards) == {**DATED, "contents": ["parts", "strings"]}
    assert _rendering([{"rendering": None}, {}]) is None
