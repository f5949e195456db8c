"""A killed run goes on where it was: nothing is lost, nothing is generated twice."""

from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from tests.conftest import comparable
from tests.helpers.journals import (
    check_refuses_other_weights,
    check_went_on,
    kill_at,
    kill_command,
    open_journal,
    rows,
    writing,
)
from verbalizer_bench.cli import main
from verbalizer_bench.models.adapters.journal import (
    Response,
    journal_files,
    recorded_command,
)
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.tasks.spec import TASKS_FOLDER


@pytest.fixture(scope="module")
def model(toys: tuple[Path, Path]) -> VerbalizerLLM:
    return VerbalizerLLM(str(toys[0]), device="cpu", dtype="float32", batch_size=3)


@pytest.fixture(scope="module")
def requests() -> list[Any]:
    manager = TaskManager(
        include_path=str(TASKS_FOLDER), include_defaults=False, metadata={"data": "sample"}
    )
    found: list[Any] = []
    for task in manager.load(["verbalizer_rte_neutral_foo_bar", "verbalizer_sst2_natural_1_0"])[
        "tasks"
    ].values():
        task.build_all_requests(limit=12)
        found += task.instances
    for request in found:
        request.arguments[1].update(num_beams=2, max_gen_toks=4)
    return found


def test_kills_at_every_kind_of_moment(
    model: VerbalizerLLM, requests: list[Any], tmp_path: Path
) -> None:
    """The first, a middle and the last response; before, inside and behind its line."""
    uninterrupted = model.generate_until(requests, disable_tqdm=True)
    last = len(requests)
    for row, part in (
        *((1, 0), (1, 0.5), (1, 1), (2, 0.9), (3, 1), (4, 0), (last // 2, 0.5), (last // 2, 1)),
        *((last - 1, 0.1), (last, 0), (last, 0.5), (last, 1)),
    ):
        folder = tmp_path / f"{row} {part}"

        def generate() -> list[str]:
            return model.generate_until(requests, disable_tqdm=True)

        before = kill_at(row, part, model, folder, generate)
        with writing(model, open_journal(folder)):
            assert generate() == uninterrupted
        check_went_on(folder, before, last)


def test_a_run_that_is_killed_and_resumed(
    toys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The whole command; `--resume OUT` needs no other argument."""
    arguments = [
        *("--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]},dtype=float32"),
        *("--tasks", "verbalizer_rte", "--data", "sample", "--device", "cpu", "--limit", "3"),
        *("--batch_size", "2", "--gen_kwargs", "num_beams=2,max_gen_toks=4"),
    ]
    killed = tmp_path / "killed"
    before = kill_command(20, 0.9, arguments, killed, monkeypatch)
    assert main(["run", *arguments, "--output_path", str(tmp_path / "whole")]) == 0
    assert "are kept" not in caplog.text
    assert main(["run", "--resume", str(killed)]) == 0
    said = f"--resume {killed}: 19 of 36 responses are kept, 17 are left to do"
    assert caplog.text.count("are kept") == caplog.text.count(said) == 1
    check_went_on(killed, before, 12 * 3)
    assert comparable(killed) == comparable(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": {"data": "hub"}}, "another protocol: data is 'sample' there and 'hub' here"),
        ({"resume": False}, "an unfinished run left 1 responses in it; go on with"),
    ],
)
def test_journals_that_are_refused(
    changes: dict, message: str, model: VerbalizerLLM, requests: list[Any], tmp_path: Path
) -> None:
    with writing(model, open_journal(tmp_path)):
        model.generate_until(requests[:1], disable_tqdm=True)
    with pytest.raises(ValueError, match=message):
        open_journal(tmp_path, **changes)


def test_the_journal_of_another_model_is_refused(
    model: VerbalizerLLM, requests: list[Any], tmp_path: Path
) -> None:
    with writing(model, open_journal(tmp_path)):
        model.generate_until(requests[:1], disable_tqdm=True)
    check_refuses_other_weights(
        model, tmp_path, lambda: model.generate_until(requests[:1], disable_tqdm=True)
    )


def with_rows(folder: Path, request: Any, count: int = 1, **changes: Any) -> None:
    """Leave a journal with so many responses."""
    book = open_journal(folder, **changes)
    book.check_model({"weights": changes.get("rank", 0)})
    for number in range(count):
        book.add(f"{changes.get('rank', 0)} {number}", request, Response("foo", "generate"))
    book.close()


@pytest.mark.parametrize("command", ["3", "[3]", '"run"'])
def test_a_journal_whose_command_is_none_is_named(command: str, tmp_path: Path) -> None:
    text = f'{{"journal": 1, "command": {command}, "protocol": {{}}}}\n'
    (tmp_path / "journal-0.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"journal-0\.jsonl, line 1: not what a run writes"):
        recorded_command(tmp_path)


def test_a_finished_journal_makes_room(tmp_path: Path, requests: list[Any]) -> None:
    with_rows(tmp_path, requests[0])
    book = open_journal(tmp_path)
    book.finish()
    book.close()
    open_journal(tmp_path, resume=False).close()
    assert not rows(tmp_path)


def test_what_comes_after_a_finished_run_is_kept(tmp_path: Path, requests: list[Any]) -> None:
    with_rows(tmp_path, requests[0])
    book = open_journal(tmp_path)
    book.finish()
    book.add("more", requests[0], Response("foo", "generate"))
    book.close()
    with pytest.raises(ValueError, match="an unfinished run left 1 responses"):
        open_journal(tmp_path, resume=False)
    assert len(rows(tmp_path)) == 2


@pytest.mark.parametrize("rank", [0, 1])
def test_no_rank_removes_what_is_unfinished(rank: int, tmp_path: Path, requests: list[Any]) -> None:
    with_rows(tmp_path, requests[0], rank=rank, world_size=2)
    with pytest.raises(ValueError, match=f"journal-{rank}.jsonl: an unfinished run left 1"):
        open_journal(tmp_path, resume=False, rank=rank, world_size=2)
    with pytest.raises(ValueError, match=f"journal-{rank}.jsonl: an unfinished run left 1"):
        open_journal(tmp_path, resume=False)
    assert len(rows(tmp_path)) == 1


def test_two_runs_do_not_write_to_one_journal(tmp_path: Path) -> None:
    book = open_journal(tmp_path)
    with pytest.raises(ValueError, match="another process writes to it; give each run an"):
        open_journal(tmp_path)
    book.close()


def test_journals_of_two_models_are_refused(tmp_path: Path, requests: list[Any]) -> None:
    for rank in (0, 1):
        folder = tmp_path / str(rank)
        with_rows(folder, requests[0], rank=rank, world_size=2)
        (folder / f"journal-{rank}.jsonl").rename(tmp_path / f"journal-{rank}.jsonl")
    with pytest.raises(ValueError, match=r"journal-0\.jsonl: the journal is of another model"):
        open_journal(tmp_path).check_model({"weights": 1})


def test_an_attempt_without_a_response_binds_nobody(tmp_path: Path) -> None:
    book = open_journal(tmp_path, protocol={"data": "hub"})
    book.check_model({"weights": 0})
    book.close()
    book = open_journal(tmp_path, command=["--y"])
    book.check_model({"weights": 1})
    book.close()
    assert recorded_command(tmp_path) == ["--y"]


def test_lines_that_are_no_journal(tmp_path: Path) -> None:
    file = tmp_path / "journal-0.jsonl"
    file.write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match="line 1: journal=None: 1 is expected; move the file"):
        open_journal(tmp_path)
    file.write_text('{"journal": 1}\n[]\n')
    with pytest.raises(ValueError, match=r"journal-0\.jsonl, line 2: keys and values are needed"):
        open_journal(tmp_path)
    file.write_text('{"journal": 2}\n')
    with pytest.raises(ValueError, match=r"journal=2: a newer version wrote it; update, or move"):
        open_journal(tmp_path)
    file.write_text("{\n")
    with pytest.raises(ValueError, match=r"journal-0\.jsonl, line 1: not JSON"):
        open_journal(tmp_path)


def test_keys_differ_by_what_a_response_depends_on(requests: list[Any], tmp_path: Path) -> None:
    book = open_journal(tmp_path)
    keys = book.keys([requests[0], requests[0], *requests])
    assert len(set(keys)) == len(keys)
    book.versions = {requests[0].task_name: 2.0}
    assert book.keys(requests[:1]) != keys[:1]
    book.close()


def test_a_run_goes_on_with_fewer_ranks(
    requests: list[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for rank in (0, 1):
        book = open_journal(tmp_path, rank=rank, world_size=2)
        book.add(f"key of {rank}", requests[rank], Response("foo", "generate"))
        with caplog.at_level("INFO"):
            book.say_kept(rank, 3, "responses")
        book.close()
        assert f"{rank} of rank {rank}'s 3 responses are kept, {3 - rank} are left" in caplog.text
    book = open_journal(tmp_path)
    book.close()
    assert set(book.known) == {"key of 0", "key of 1"}


def test_a_new_run_removes_the_journals_of_ranks_that_it_has_not(
    requests: list[Any], tmp_path: Path
) -> None:
    for rank in (0, 1):
        book = open_journal(tmp_path, rank=rank, world_size=2)
        book.finish()
        book.close()
    open_journal(tmp_path, resume=False).close()
    assert [file.name for file in journal_files(tmp_path)] == ["journal-0.jsonl"]
