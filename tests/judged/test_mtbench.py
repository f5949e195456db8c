import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from tests.helpers.endpoint_server import Server, prompt
from tests.helpers.judging import Judge, write_answers, write_mtbench
from verbalizer_bench.cli.app import main
from verbalizer_bench.io.jsonl import read_objects
from verbalizer_bench.judged import answering
from verbalizer_bench.judged.mtbench import rating, read_mtbench
from verbalizer_bench.judged.questions import Answer
from verbalizer_bench.judged.record import judge_folder
from verbalizer_bench.results import means
from verbalizer_bench.results.means import mean_of

Serve = Callable[..., Server]
FAST = ["backoff=0.001", "retries=0", "concurrency=4"]


def judged(
    folder: Path, server: Server, *words: str, judge: str = "gpt-4", output: str = "out"
) -> int:
    """Judge the made benchmark below a folder."""
    command = ["judge", "mtbench", "--data", str(folder / "bench"), "--judge", judge]
    command += ["-o", str(folder / output), *words]
    return main([*command, f"base_url={server.url}", *FAST])


def result(folder: Path, judge: str = "gpt-4", output: str = "out") -> dict[str, Any]:
    file = judge_folder(folder / output, judge) / "result.json"
    made: dict[str, Any] = json.loads(file.read_text())
    return made


def made(folder: Path, count: int) -> list[str]:
    write_mtbench(folder / "bench", count)
    return ["--answers", str(write_answers(folder / "made.jsonl", count))]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Rating: [[7]]", 7),
        ("[[8.5]] and not [[2]]", 8.5),
        ("Rating: [7]", 7),
        ("[1] is a source. Rating: [[9]]", 9),
        ("Rating: [[10]]", 10),
        ("Rating: [[0]]", None),
        ("Rating: [[11]]", None),
        ("Rating: 7", None),
        ("[[rating]]", None),
        ("", None),
    ],
)
def test_rating(text: str, value: float | None) -> None:
    assert rating(text) == value


def test_real_files() -> None:
    """Temperatures and prompts of the benchmark itself are FastChat's."""
    folder = SHARED / "data" / "mtbench"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    bench = read_mtbench(folder)
    by_category: dict[str, set[float]] = {}
    for question in bench.questions:
        by_category.setdefault(question.category, set()).add(question.temperature)
    assert by_category == {
        **{"writing": {0.7}, "roleplay": {0.7}, "stem": {0.1}, "humanities": {0.1}},
        **{"reasoning": {0}, "math": {0}, "coding": {0}, "extraction": {0}},
    }
    answers = {
        question.id: Answer(("one {x}", "two"), (None, None)) for question in bench.questions
    }
    wanted = {one.id: one.messages for one in bench.wanted(answers)}
    assert len(wanted) == 160
    first, second = (wanted[f"101-{turn}"] for turn in (1, 2))
    assert first[0]["content"] == "You are a helpful assistant."
    assert "The Start of Reference Answer" in first[1]["content"]
    assert first[1]["content"].endswith("Answer]\none {x}\n[The End of Assistant's Answer]")
    assert "focus on the assistant's answer to the second question" in second[0]["content"]
    assert second[1]["content"].count("### Reference answer:") == 2
    assert "### Assistant A:\ntwo\n\n<|The End" in second[1]["content"]
    assert not any("Reference" in message["content"] for message in wanted["131-1"])


def test_scores(serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First turns get n + 1 points, second ones 10: means by hand."""

    def rate(answer: str) -> int:
        number, turn = map(int, answer.removeprefix("answer ").split("-"))
        return number + 1 if turn == 1 else 10

    judge = Judge(rate)
    assert judged(tmp_path, serve(judge), *made(tmp_path, 8)) == 0
    found = result(tmp_path)
    assert found["score"]["mean"] == (36 + 80) / 16
    assert found["turns"]["first"]["mean"] == 4.5 and found["turns"]["second"]["mean"] == 10
    assert found["turns"]["second"]["interval"] is None
    assert found["categories"]["writing"]["mean"] == (1 + 5 + 10 + 10) / 4
    low, high = found["score"]["interval"]
    assert low < found["score"]["mean"] < high
    counts = {"wanted": 16, "attempts": 16, "asked_again": 0, "asked_more_than_3_times": 0}
    assert found["verdicts"] == counts | {"left_out": 0, "problems": {}}
    assert found["answers"]["mean_characters"] == len("answer 0-1")
    about = found["judge"]
    assert about["model"] == "gpt-4" and about["served"] == {"gpt-4-served": 16}
    assert about["parameters"] == {"temperature": 0, "max_tokens": 2048}
    assert len(about["prompts_sha256"]) == 64 and about["date"]
    assert about["input_tokens"] > about["output_tokens"] > 16 and about["money"] is None
    shown = capsys.readouterr().out
    assert "both turns: 7.25 [" in shown and "8 of 80 questions: not the benchmark" in shown


def test_what_the_judge_sees(serve: Serve, tmp_path: Path) -> None:
    server = serve(Judge())
    assert judged(tmp_path, server, *made(tmp_path, 2)) == 0
    seen = {prompt(asked.body) for asked in server.requests}
    assert seen == {
        "Rate [[rating]].\nTopic 0?\n<answer 0-1>",
        "Topic 0? <answer 0-1> More of 0? <answer 0-2>",
        "Reference: ref 1\nRate [[rating]].\nTopic 1?\n<answer 1-1>",
        "Reference: ref 1, ref 2\nTopic 1? <answer 1-1> More of 1? <answer 1-2>",
    }
    system = {asked.body["messages"][0]["content"] for asked in server.requests}
    assert system == {f"system of single-{kind}v1{turn}" for kind in ("", "math-")
                      for turn in ("", "-multi-turn")}  # fmt: skip


def test_half_a_percent_of_failures(serve: Serve, tmp_path: Path) -> None:
    """1 of 200 verdicts is left out and counted; the mean is of the others."""
    judge = Judge(lambda answer: 2 if answer.endswith("-1") else 8, {"answer 50-1"})
    assert judged(tmp_path, serve(judge), *made(tmp_path, 100)) == 0
    found = result(tmp_path)
    assert found["verdicts"]["left_out"] == 1
    assert "out of order" in found["verdicts"]["problems"]["50-1"]
    assert found["score"]["mean"] == pytest.approx((99 * 2 + 100 * 8) / 199, abs=1e-4)
    assert judge.asked.count("answer 50-1") == 3


def test_five_percent_of_failures(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No score; once the server is mended, the same command asks for the four alone."""
    judge = Judge(broken={f"answer {n}-1" for n in range(4)})
    server, words = serve(judge), made(tmp_path, 40)
    assert judged(tmp_path, server, *words) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert "mtbench: 4 of 80 verdicts are missing (5.0%), and with more than 1%" in error
    folder = tmp_path / "out" / "judge-gpt-4"
    assert not (folder / "result.json").exists()
    verdicts = [row for _, row in read_objects(folder / "verdicts.jsonl")]
    assert len(verdicts) == 80 and sum(row["value"] is None for row in verdicts) == 4
    judge.broken, judge.asked = (), []
    assert judged(tmp_path, server, *words) == 0
    assert sorted(judge.asked) == sorted(f"answer {n}-1" for n in range(4))
    assert result(tmp_path)["verdicts"]["left_out"] == 0


def test_what_cannot_be_read_is_asked_again_by_the_next_command(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what was left out is asked, and how often in all is told; what was read stays."""
    bad = {f"answer {n}-1" for n in range(4)}
    judge = Judge(lambda answer: "Good." if answer in bad else 7)
    server, words = serve(judge), made(tmp_path, 40)
    for command in range(2):
        judge.asked = []
        assert judged(tmp_path, server, *words) == 2
        assert "4 of 80 verdicts are missing (5.0%)" in capsys.readouterr().err
        assert len(judge.asked) == (76 if command == 0 else 0) + 4 * 3
    assert judged(tmp_path, server, *words, "--dry-run") == 0
    assert "80 verdicts, 76 of them stored, 4 left" in capsys.readouterr().out
    judge.rate, judge.asked = lambda answer: 3, []
    for _ in range(2):
        assert judged(tmp_path, server, *words) == 0
        assert sorted(judge.asked) == sorted(bad)
        found = result(tmp_path)
        assert found["score"]["mean"] == (4 * 3 + 76 * 7) / 80
        counts = {"wanted": 80, "attempts": 76 + 4 * 7, "asked_again": 4}
        counts |= {"asked_more_than_3_times": 4, "left_out": 0}
        assert found["verdicts"] == counts | {"problems": {}}


def test_failed_calls_of_earlier_commands_are_counted(serve: Serve, tmp_path: Path) -> None:
    judge = Judge(broken={"answer 0-1"})
    server, words = serve(judge), made(tmp_path, 2)
    assert judged(tmp_path, server, *words) == 2
    judge.broken = ()
    assert judged(tmp_path, server, *words) == 0
    assert result(tmp_path)["verdicts"]["attempts"] == 3 + 4
    # Another prompt is another question: what was asked before is none of its attempts.
    file = tmp_path / "bench" / "judge_prompts.jsonl"
    file.write_text(file.read_text().replace("Rate", "Judge"))
    assert judged(tmp_path, server, *words) == 0
    assert result(tmp_path)["verdicts"]["attempts"] == 4


def test_a_verdict_after_a_failed_call_is_kept(serve: Serve, tmp_path: Path) -> None:
    """It is not asked for again by the next command."""
    judge, words = Judge(broken=["answer 0-1"]), made(tmp_path, 2)

    def once(body: dict[str, Any]) -> Any:
        said = judge(body)
        if "answer 0-1" in judge.asked:
            judge.broken = ()
        return said

    server = serve(once)
    assert judged(tmp_path, server, *words) == 0
    asked = len(judge.asked)
    assert judged(tmp_path, server, *words) == 0 and len(judge.asked) == asked == 5


def test_a_text_without_a_rating_is_asked_for_again(serve: Serve, tmp_path: Path) -> None:
    judge = Judge()
    texts: dict[str, list[str]] = {"answer 1-2": ["Good.", "<think>[[3]]</think> Rating: [[5]]"]}
    judge.rate = lambda answer: texts[answer].pop(0) if texts.get(answer) else 7
    assert judged(tmp_path, serve(judge), *made(tmp_path, 2)) == 0
    found = result(tmp_path)
    calls = [row["usage"] for _, row in read_objects(tmp_path / "out/judge-gpt-4/calls.jsonl")
             if "usage" in row]  # fmt: skip
    assert found["judge"]["output_tokens"] == sum(usage["output_tokens"] for usage in calls)
    assert found["verdicts"]["asked_again"] == 1 and found["score"]["mean"] == (7 * 3 + 5) / 4
    assert len(judge.asked) == 5


def test_another_judge_has_a_folder_of_its_own(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(Judge())
    assert judged(tmp_path, server, *made(tmp_path, 2)) == 0
    judge = Judge(lambda answer: 3)
    assert judged(tmp_path, serve(judge), judge="org/other") == 0
    assert result(tmp_path)["score"]["mean"] == 7
    assert result(tmp_path, "org/other")["score"]["mean"] == 3
    (tmp_path / "bench" / "question.jsonl").write_text(
        '{"question_id": 0, "category": "stem", "turns": ["a", "b"]}\n'
    )
    assert judged(tmp_path, server, judge="third") == 2
    assert "its answers are of questions=" in capsys.readouterr().err


def test_a_judge_that_cannot_be_asked(
    serve: Serve,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aiohttp import web

    refusal = {"error": {"message": "no such key"}}
    words = made(tmp_path, 2)
    server = serve(lambda body: web.json_response(refusal, status=401))
    assert judged(tmp_path, server, *words) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert "no such key" in error and "run the same command again" in error
    monkeypatch.delenv("OPENAI_API_KEY")
    assert judged(tmp_path, server, *words) == 2
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err
    assert judged(tmp_path, server, *words, "concurency=3") == 2
    assert "did you mean concurrency?" in capsys.readouterr().err


def asked_of(toy: Path, seed: int = 0) -> list[str]:
    arguments = f"pretrained={toy},dtype=float32,device=cpu"
    return ["--model_args", arguments, "--max-tokens", "8", "--seed", str(seed)]


def answers_of(folder: Path, output: str) -> list[dict[str, Any]]:
    return [row for _, row in read_objects(folder / output / "answers.jsonl")]


def test_a_checkpoint_answers(
    serve: Serve,
    tmp_path: Path,
    toys: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in the second turn, it goes on to the answers of an undisturbed one."""
    write_mtbench(tmp_path / "bench", 4)
    server, toy = serve(Judge()), toys[0]
    assert judged(tmp_path, server, *asked_of(toy)) == 0
    answers = answers_of(tmp_path, "out")
    assert all(len(row["choices"][0]["turns"]) == 2 for row in answers)
    assert {row["question_id"] for row in answers} == {"0", "1", "2", "3"}
    sampled, drawn = answering._sampled, 0

    def killed(*arguments: Any) -> Any:
        nonlocal drawn
        drawn += 1
        if drawn == 4:
            raise KeyboardInterrupt
        return sampled(*arguments)

    monkeypatch.setattr(answering, "_sampled", killed)
    assert judged(tmp_path, server, *asked_of(toy), output="killed") == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert judged(tmp_path, server, *asked_of(toy), output="killed") == 0
    assert answers_of(tmp_path, "killed") == answers
    monkeypatch.setattr(answering, "load", lambda how: pytest.fail("loaded once more"))
    assert judged(tmp_path, server, *asked_of(toy)) == 0
    assert judged(tmp_path, server, *asked_of(toy, seed=1)) == 2
    assert "its answers are of seed=0, and 1 is asked for; give another" in capsys.readouterr().err
    record = result(tmp_path)
    assert record["answered"]["asked"]["model_args"]["pretrained"] == str(toy)
    assert len(record["answered"]["asked"]["weights"]) == 64


def test_other_seeds_sample_otherwise(tmp_path: Path, toys: tuple[Path, Path]) -> None:
    questions = read_mtbench(write_mtbench(tmp_path / "bench", 4)).questions

    def texts(seed: int) -> list[tuple[str, ...]]:
        arguments = {"pretrained": str(toys[1]), "dtype": "float32", "device": "cpu"}
        how = answering.Answering("mtbench", "verbalizer-lvlm", arguments, 8, seed)
        answers = answering.answer_all(how, questions, tmp_path / f"seed-{seed}")
        return [answers[question.id].turns for question in questions]

    one, other = texts(0), texts(1)
    # Writing and STEM are sampled, math and extraction are not.
    assert one[1] == other[1] and one[3] == other[3]
    assert one[0] != other[0]


def test_a_full_context_is_counted(tmp_path: Path, toys: tuple[Path, Path]) -> None:
    """An answer gets the room that is left, and none where there is none."""
    from verbalizer_bench.judged.questions import Question
    from verbalizer_bench.judged.record import answer_counts

    questions = [Question("1", "math", ("word " * 340, "b")), Question("2", "math", ("a", "b"))]
    arguments = {"pretrained": str(toys[0]), "dtype": "float32", "device": "cpu"}
    arguments |= {"max_length": 350}
    how = answering.Answering("mtbench", "verbalizer-llm", arguments, 20)
    counts = answer_counts(answering.answer_all(how, questions, tmp_path))
    assert counts["no_room"] >= 1 and counts["empty"] >= counts["no_room"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("question", '{"question_id": 1, "category": "math"}', "line 1: turns=None: a list is"),
        ("question", "", "holds no question"),
        ("question", '{"question_id": 1, "category": "a", "turns": ["x"]}', "two texts are exp"),
        ("reference_answer/gpt-4", "", "no reference answers to question 1 (math)"),
        ("judge_prompts", "", "no prompt single-math-v1"),
    ],
)
def test_wrong_files(tmp_path: Path, file: str, content: str, message: str) -> None:
    write_mtbench(tmp_path)
    (tmp_path / f"{file}.jsonl").write_text(content)
    with pytest.raises(ValueError) as caught:
        read_mtbench(tmp_path)
    assert message in str(caught.value)


def test_means_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(means, "FEWEST", 1)
    groups: dict[str, Sequence[Sequence[float]]] = {"a": [[1, 3], [5], []], "b": [[7, 8]]}
    mean = mean_of(groups)
    assert mean.value == pytest.approx((1 + 3 + 5 + 7 + 8) / 5) and mean.questions == 3
    # Of "a" one of two is drawn twice, or both: 19/4, 24/5 or 25/4... with "b" always there.
    assert mean.low == pytest.approx((1 + 3 + 1 + 3 + 15) / 6)
    assert mean.high == pytest.approx((5 + 5 + 15) / 4)
