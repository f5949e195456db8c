"""How a run ends: its table, how to read it, and what went wrong most."""

from pathlib import Path
from shlex import quote

import pytest

from tests.helpers.echo import write_run
from verbalizer_bench.leaderboard.reports.report import report
from verbalizer_bench.leaderboard.reports.short import worst_examples
from verbalizer_bench.results.run import Run, read_run

TASKS = ["verbalizer_sst2", "verbalizer_fp"]


def made(folder: Path, answer: str, tasks: list[str] = TASKS) -> Run:
    return read_run(write_run(folder, answer, tasks, limit=4))


def test_a_run_in_short(tmp_path: Path) -> None:
    found = report(made(tmp_path, "foo"))
    text = found.short()
    assert text.startswith("foo, protocol toy, partial (95 % intervals over documents)\n\n|")
    assert "\n| neutral   | " in text and "F1 by response" not in text
    assert "\n  natural neutral unnatural   All  every response is\n" in text
    assert "\n    100.0     0.0       0.0  33.3  what the words mean by themselves" in text
    assert " prompts were run (--limit 4): not the benchmark" in text
    assert "The most frequent failure is `neither`, " in text
    long = [line for line in text.splitlines() if len(line) > 100]
    assert all(line.startswith(("- ", "      verbalizer-bench explain ")) for line in long)
    found.write(tmp_path / "report")
    page = (tmp_path / "report" / "report.md").read_text()
    assert str(found) in page and "The most frequent failure is `neither`" in page
    assert "| what the words mean by themselves, whatever is asked for |" in page
    html = (tmp_path / "report" / "report.html").read_text()
    assert html.count("what the words mean by themselves, whatever is asked for") == 1


def test_two_runs_are_reported_whole(tmp_path: Path) -> None:
    found = report(made(tmp_path, "foo"), made(tmp_path, "bar"))
    assert found.short() == str(found)
    found.write(tmp_path / "report")
    page = (tmp_path / "report" / "report.md").read_text()
    assert "\nfoo: The most frequent" in page and "\nbar: The most frequent" in page


@pytest.mark.parametrize(
    ("answer", "outcome", "got", "why"),
    [
        ("bar", "flipped", "bar", "it has the other label word: F1 0.0"),
        ("", "neither", "(empty)", "it is empty: F1 0.0"),
        ("so bar it is", "verbose", "so bar it is", "expected word is there, and 3 more: F1 40.0"),
        ("foo \x1b or\nbar", "both", r"foo \x1b or↵bar", "it has both label words: F1 "),
    ],
)
def test_the_worst_is_shown_with_what_was_expected(
    answer: str, outcome: str, got: str, why: str, tmp_path: Path
) -> None:
    name = "verbalizer_sst2_neutral_foo_bar"
    text = worst_examples(run := made(tmp_path, answer, [name]))
    assert text.startswith(f"The most frequent failure is `{outcome}`, ")
    assert text.count(f"    {name}, document ") in (1, 2)
    assert f"      got       {got}\n" in text and why in text
    assert "      prompt    …" in text and "      expected  " in text and "\x1b" not in text
    place = quote(str(run.folder)).replace("\x1b", r"\x1b").replace("\n", "↵")
    assert f"      verbalizer-bench explain {place} --task {name} --doc " in text


def test_where_all_follow_there_is_nothing_to_show(tmp_path: Path) -> None:
    run = made(tmp_path, "foo", ["verbalizer_sst2_neutral_foo_bar"])
    (task,) = run.tasks
    for scores in task.scores.values():
        scores[:] = 0
    task.scores["follows"][:] = 1
    assert worst_examples(run) == "Every response is the expected word alone."
