import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from tests.helpers.endpoint_server import Server, prompt
from verbalizer_bench.cli.app import main
from verbalizer_bench.io import jsonl
from verbalizer_bench.judged.llava_bench import ratings, read_llava_bench
from verbalizer_bench.judged.questions import Answer
from verbalizer_bench.models.images import make_image

Serve = Callable[..., Server]
RULE = {"role": "Assistant", "prompt": "Rate both on a scale of 1 to 10."}
RULES = {f"llava_bench_{category}": RULE for category in ("conv", "detail", "complex")}


def write_llava_bench(folder: Path) -> Path:
    (folder / "images").mkdir()
    make_image("white", (32, 32)).save(folder / "images" / "1.png")
    questions = [
        {"image": "1.png", "text": f"What is {n}?", "category": ("conv", "detail")[n % 2]}
        for n in range(4)
    ]
    (folder / "questions.jsonl").write_text(jsonl.dumps(questions))
    (folder / "context.jsonl").write_text(jsonl.dumps([{"image": "1.png", "caption": "All white"}]))
    (folder / "gpt4.jsonl").write_text(jsonl.dumps({"text": f"It is {n}."} for n in range(4)))
    (folder / "rule.json").write_text(json.dumps(RULES))
    return folder


def read(folder: Path) -> Any:
    return read_llava_bench(folder, folder / "gpt4.jsonl", folder / "rule.json")


def test_relative_scores(serve: Serve, tmp_path: Path, toys: tuple[Path, Path]) -> None:
    """References get 8, answers 4, 6, 4, 6: 50 and 75 %, together 62.5 %."""

    def rate(body: dict[str, Any]) -> str:
        number = int(prompt(body).split("What is ")[1][0])
        return f"8 {(4, 6)[number % 2]}\nThe first is better."

    folder, server = write_llava_bench(tmp_path), serve(rate)
    words = ["judge", "llava-bench", "--data", str(folder), "--judge", "gpt-4"]
    words += ["--references", str(folder / "gpt4.jsonl"), "--rules", str(folder / "rule.json")]
    words += ["-o", str(folder / "out"), f"base_url={server.url}", "--max-tokens", "4"]
    words += ["--model_args", f"pretrained={toys[1]},dtype=float32,device=cpu"]
    assert main(words) == 0
    found = json.loads((folder / "out" / "judge-gpt-4" / "result.json").read_text())
    assert found["score"]["mean"] == 62.5 and found["score"]["interval"] is None
    by_category = {name: one["mean"] for name, one in found["categories"].items()}
    assert by_category == {"conv": 50, "detail": 75}


def test_what_the_judge_sees(tmp_path: Path) -> None:
    bench = read(write_llava_bench(tmp_path))
    answers = {str(n): Answer(("Ours.",), (None,)) for n in range(4)}
    system, asked = bench.wanted(answers)[0].messages
    assert system["content"].startswith("You are a helpful and precise assistant")
    assert asked["content"] == (
        "[Context]\nAll white\n\n[Question]\nWhat is 0?\n\n[Assistant 1]\nIt is 0.\n\n"
        "[End of Assistant 1]\n\n[Assistant 2]\nOurs.\n\n[End of Assistant 2]\n\n"
        "[System]\nRate both on a scale of 1 to 10.\n\n"
    )


def test_a_relative_score_is_of_sums(tmp_path: Path) -> None:
    """(2 + 9) / (4 + 10), not the mean of 1/2 and 9/10."""
    from verbalizer_bench.judged.judge import Verdict

    bench = read(write_llava_bench(tmp_path))
    pairs = [(4.0, 2.0), None, (10.0, 9.0), None]
    verdicts = [Verdict(str(n), pair, "", "m", 1, None, "") for n, pair in enumerate(pairs)]
    found = bench.scores({}, verdicts)
    assert found.overall.value == pytest.approx(100 * 11 / 14) and found.overall.questions == 2
    assert set(found.groups["categories"]) == {"conv"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("8 7", (8, 7)), ("8.5, 7\nBecause.", (8.5, 7)), ("\n9 10 \n", (9, 10))],
        *[("Assistant 1: 8, Assistant 2: 7", None), ("8", None), ("11 3", None), ("0 5", None)],
    ],
)
def test_ratings(text: str, value: tuple[float, float] | None) -> None:
    assert ratings(text) == value


def test_wrong_files(tmp_path: Path) -> None:
    folder = write_llava_bench(tmp_path)
    (folder / "gpt4.jsonl").write_text('{"text": "one"}\n')
    with pytest.raises(ValueError, match=r"gpt4.jsonl: no answer to question 1; give all"):
        read(folder)
    (folder / "rule.json").write_text("{}")
    (folder / "gpt4.jsonl").write_text(jsonl.dumps({"text": "x"} for _ in range(4)))
    with pytest.raises(ValueError, match="no rule llava_bench_conv; give"):
        read(folder)
    (folder / "context.jsonl").write_text('{"image": "2.png", "caption": "x"}\n')
    with pytest.raises(ValueError, match=r"context.jsonl: no caption of 1.png; give the whole"):
        read(folder)


def test_real_questions(tmp_path: Path) -> None:
    folder = SHARED / "data" / "llava" / "llava_bench_in_the_wild"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    (tmp_path / "gpt4.jsonl").write_text(jsonl.dumps({"text": "x"} for _ in range(60)))
    (tmp_path / "rule.json").write_text(json.dumps(RULES))
    bench = read_llava_bench(folder, tmp_path / "gpt4.jsonl", tmp_path / "rule.json")
    assert len(bench.questions) == 60 and len(set(bench.captions.values())) == 24
