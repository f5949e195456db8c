"""Whether names exist: none that lm-eval has is refused, and others are without an index."""

from pathlib import Path
from typing import Any

import pytest
from lm_eval import tasks as lm_eval_tasks
from lm_eval.tasks import TaskManager

from verbalizer_bench.cli import main
from verbalizer_bench.running.task_names import check_task_names
from verbalizer_bench.tasks.spec import TASKS_FOLDER

OURS = [str(TASKS_FOLDER)]


def test_no_name_that_lm_eval_has_is_refused() -> None:
    index = TaskManager()
    # Each is looked for in all files, so that not all are.
    some = [index.all_groups[::8], index.all_tags[::8], index.all_subtasks[::150]]
    assert all(len(names) > 20 for names in some)
    check_task_names([name for names in some for name in names], OURS)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("helaswag", "hellaswag"),
        ("verbalizer_sst3", "verbalizer_sst2"),
        # Part of a name, and a word that task files have beside names.
        ("hellasw", "hellaswag"),
        ("mmvp_leters", "mmvp_letters"),
    ],
)
def test_a_name_that_nothing_has_is_refused_without_an_index(
    name: str,
    near: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(lm_eval_tasks, "TaskManager", None)
    model = ["--model", "verbalizer-llm", "--model_args", "pretrained=gpt2"]
    asked = ["run", *model, "--tasks", f"verbalizer_sst2,{name}", "--output_path", str(tmp_path)]
    for command in (asked, ["validate", "--tasks", name]):
        assert main(command) == 2
        assert f"--tasks {name}: no such task, tag or group; did you mean {near}?" in (
            capsys.readouterr().err
        )


def test_names_of_a_users_folder_are_known_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("task: 'my_one'\ntag:\n  - my_tag\n  - \"second.tag\"\n")
    (tmp_path / "two.yaml").write_text("task: two\ntag: [first-tag, other]\ninclude: _base\n")
    (tmp_path / "_base").write_text("group: my_group\n")
    names = ["my_one", "my_tag", "second.tag", "two", "first-tag", "other", "my_group"]
    check_task_names(names, [*OURS, str(tmp_path)])
    with pytest.raises(
        ValueError, match=r"my_on,frst-tag: no such .* did you mean my_one, first-tag"
    ):
        check_task_names(["my_on", "two", "frst-tag"], [*OURS, str(tmp_path)])


def test_what_cannot_be_told_from_a_text_is_left_to_lm_eval(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("task: x\n")
    check_task_names(["gone_*", "ünknown", str(tmp_path), "gone/task.yaml"], OURS)


def test_ours_are_listed_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Index(TaskManager):
        def __init__(self, **options: Any) -> None:
            """Index one of lm-eval's folders in place of all."""
            mmlu = Path(lm_eval_tasks.__path__[0]) / "mmlu" / "default"
            super().__init__(**(options or {"include_path": mmlu, "include_defaults": False}))

    monkeypatch.setattr(lm_eval_tasks, "TaskManager", Index)
    assert main(["ls"]) == 0
    short = capsys.readouterr().out
    assert "  verbalizer_natural    27 tasks\n" in short and "mmlu" not in short
    assert main(["ls", "groups"]) == 0
    listed = capsys.readouterr().out
    assert listed.index("verbalizer.yaml") < listed.index("lm-eval's:") < listed.index("|mmlu ")


@pytest.mark.parametrize("words", [[], ["tasks"], ["leaderboard"]])
def test_a_group_alone_prints_its_help(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 0 and "\nCommands:\n" in capsys.readouterr().out
