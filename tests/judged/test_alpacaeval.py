import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.helpers.endpoint_server import Server, prompt
from verbalizer_bench.cli.app import main
from verbalizer_bench.judged.alpacaeval import is_switched, preference, read_alpacaeval
from verbalizer_bench.judged.judge import Verdict, check_complete
from verbalizer_bench.judged.questions import Answer

Serve = Callable[..., Server]
PROMPT = """<|im_start|>system
You rank.
<|im_end|>
<|im_start|>user
{
    "instruction": \"\"\"{instruction}\"\"\",
}
<{output_1}> <{output_2}>
<|im_end|>"""
FIRST = "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]"
SECOND = "[{'model': 'model_1', 'rank': 2}, {'model': 'model_2', 'rank': 1}]"
FAST = ["backoff=0.001", "retries=0", "concurrency=8"]


def write(folder: Path, outputs: list[str], instructions: list[str] | None = None) -> list[str]:
    """Write instructions, outputs of ours and of the reference; return the options."""
    asked = instructions or [f"Do {n}." for n in range(len(outputs))]
    (folder / "asked.json").write_text(json.dumps([{"instruction": text} for text in asked]))
    for name, texts in (("ours", outputs), ("theirs", ["ref"] * len(asked))):
        rows = [
            {"instruction": text, "output": said, "generator": name}
            for text, said in zip(asked, texts, strict=True)
        ]
        (folder / f"{name}.json").write_text(json.dumps(rows))
    (folder / "prompt.txt").write_text(PROMPT)
    files = {"data": "asked.json", "references": "theirs.json", "prompt": "prompt.txt"}
    files |= {"answers": "ours.json", "output": "out"}
    return [word for key, name in files.items() for word in (f"--{key}", str(folder / name))]


def judged(words: list[str], server: Server) -> int:
    command = ["judge", "alpacaeval", "--judge", "gpt-4", *words]
    return main([*command, f"base_url={server.url}", *FAST])


def by_our_text(body: dict[str, Any]) -> Any:
    """Prefer an answer that says `win` to the reference; fail on one that says `fail`."""
    pair = re.findall(r"<(\w+)>", prompt(body))[-2:]
    if "fail" in pair:
        return web.json_response({"error": {"message": "out of order"}}, status=500)
    better = "win" if "win" in pair else "ref"
    return FIRST if pair[0] == better else SECOND


def test_a_published_number(tmp_path: Path) -> None:
    """68.75 = (548 + 4 / 2) / 800: 805 instructions, 4 equal answers, 5 without a verdict."""
    outputs = ["win"] * 548 + ["ref"] * 4 + ["loss"] * 248 + ["fail"] * 5
    words = write(tmp_path, outputs)
    bench = read_alpacaeval(*(Path(words[place]) for place in (1, 3, 5)))
    answers = {str(n): Answer((text,), (None,)) for n, text in enumerate(outputs)}
    said = {"win": 1.0, "loss": 0.0, "fail": None}
    asked = {one.id for one in bench.wanted(answers)}
    assert asked == {str(n) for n, text in enumerate(outputs) if text != "ref"}
    verdicts = [
        Verdict(str(n), said[text], "", "m", 1, None, "")
        for n, text in enumerate(outputs)
        if str(n) in asked
    ]
    check_complete(bench.name, verdicts)
    found = bench.scores(answers, verdicts)
    assert found.rate.value == 68.75
    assert (found.wins, found.ties, found.losses) == (548, 4, 248)
    assert found.rate.high - found.rate.low == pytest.approx(2 * 1.96 * 1.63, rel=0.1)


def test_a_win_rate(serve: Serve, tmp_path: Path) -> None:
    server = serve(by_our_text)
    outputs = ["win"] * 60 + ["ref"] * 4 + ["loss"] * 55 + ["fail"]
    assert judged(write(tmp_path, outputs), server) == 0
    found = json.loads((tmp_path / "out" / "judge-gpt-4" / "result.json").read_text())
    assert found["score"]["mean"] == pytest.approx(100 * 62 / 119, abs=1e-4)
    assert (found["wins"], found["ties"], found["losses"]) == (60, 4, 55)
    assert found["verdicts"]["wanted"] == 116 and found["verdicts"]["left_out"] == 1
    # Equal answers are a tie that nobody is asked about.
    assert not any(prompt(asked.body).count("<ref>") == 2 for asked in server.requests)
    assert found["reference_mean_characters"] == 3
    assert found["judge"]["parameters"]["max_tokens"] == 100


def test_a_limit_is_for_both_sides(serve: Serve, tmp_path: Path) -> None:
    """Lengths too are those of the first three alone."""
    words = write(tmp_path, ["win"] * 3 + ["a longer one"] * 7)
    assert judged([*words, "--limit", "3"], serve(by_our_text)) == 0
    found = json.loads((tmp_path / "out" / "judge-gpt-4" / "result.json").read_text())
    assert found["answers"]["mean_characters"] == found["reference_mean_characters"] == 3
    assert found["questions"]["asked"] == found["verdicts"]["wanted"] == found["wins"] == 3


def test_an_empty_answer_is_judged(serve: Serve, tmp_path: Path) -> None:
    words = write(tmp_path, ["", "win"])
    (tmp_path / "theirs.json").write_text(
        '[{"instruction": "Do 0.", "output": "ref"}, {"instruction": "Do 1.", "output": ""}]'
    )
    assert judged(words, serve(lambda body: FIRST)) == 0
    found = json.loads((tmp_path / "out" / "judge-gpt-4" / "result.json").read_text())
    assert found["verdicts"]["wanted"] == 2 and found["answers"]["empty"] == 1


def test_more_than_one_percent(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = write(tmp_path, ["win"] * 95 + ["fail"] * 5)
    assert judged(words, serve(by_our_text)) == 2
    assert "alpacaeval: 5 of 100 verdicts are missing (5.0%)" in capsys.readouterr().err


def test_both_orders(serve: Serve, tmp_path: Path) -> None:
    """A judge that always prefers what it sees first wins as often as the coin says."""
    server = serve(lambda body: FIRST)
    assert judged(write(tmp_path, ["x"] * 40), server) == 0
    found = json.loads((tmp_path / "out" / "judge-gpt-4" / "result.json").read_text())
    switched = sum(is_switched(f"Do {n}.") for n in range(40))
    assert 0 < switched < 40 and found["losses"] == switched
    body = server.requests[0].body
    assert body["messages"][0] == {"role": "system", "content": "You rank."}
    assert '    "instruction": """Do ' in prompt(body)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (FIRST, 1),
        (SECOND, 0),
        (f"Here you are:\n```\n{SECOND}\n```", 0),
        ('[{"model": "model_2", "rank": 1}, {"model": "model_1", "rank": "2"}]', 0),
        ("[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 1}]", 0.5),
        ("[{'model': 'model_1', 'rank': 1}]", None),
        ("[{'model': 'model_1'}, {'model': 'model_2', 'rank': 1}]", None),
        ("model_1 is better", None),
        ("[__import__('os')]", None),
        ("", None),
    ],
)
def test_preference(text: str, value: float | None) -> None:
    assert preference(text) == value


def test_a_file_of_ones_own_is_not_taken_for_the_record(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, server = write(tmp_path, ["win", "loss"]), serve(by_our_text)
    (tmp_path / "out").mkdir()
    for record in ([{"instruction": "Do 0.", "output": "win"}], {}, {"asked": 1}):
        (tmp_path / "out" / "answers.json").write_text(json.dumps(record))
        assert judged(words, server) == 2
        line = capsys.readouterr().err.strip().split("\n")[-1]
        assert "answers.json: not what `judge` keeps of its answers; give another --output" in line
        assert json.loads((tmp_path / "out" / "answers.json").read_text()) == record
    assert not server.requests


def test_wrong_files(tmp_path: Path) -> None:
    write(tmp_path, ["x", "y"])
    asked, theirs = tmp_path / "asked.json", tmp_path / "theirs.json"
    (tmp_path / "bad.txt").write_text("Which is better, {output_1} or {output_2}?")
    with pytest.raises(ValueError, match=r"bad.txt: \{instruction\} is not in it"):
        read_alpacaeval(asked, theirs, tmp_path / "bad.txt")
    theirs.write_text('[{"instruction": "Do 0.", "output": "z"}]')
    with pytest.raises(ValueError, match=r"no output for 1 of 2 instructions, such as 'Do 1\.'"):
        read_alpacaeval(asked, theirs, tmp_path / "prompt.txt")
    theirs.write_text("[3]")
    with pytest.raises(ValueError, match="row 1: an object is expected"):
        read_alpacaeval(asked, theirs, tmp_path / "prompt.txt")
