import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from tests.helpers.endpoint_server import Server, prompt
from verbalizer_bench.cli.app import main
from verbalizer_bench.io import jsonl
from verbalizer_bench.judged.mmvet import correctness, read_mmvet
from verbalizer_bench.judged.questions import Answer, check_images
from verbalizer_bench.models.images import make_image

Serve = Callable[..., Server]
PROMPT = "Complete.\n\n| Question | Truth | Prediction | Correctness |\n| a | b | c | 0.0 |\n"
CAPABILITIES = {"a": ["ocr", "math"], "b": ["ocr"], "c": ["rec"]}
SCORES = {"a": "0.5", "b": "1.0", "c": "0.0"}


def write_mmvet(folder: Path) -> Path:
    rows = {
        name: {
            "imagename": "white.png",
            "question": f"What is {name}?",
            "answer": "-1<AND>-5",
            "capability": kinds,
        }
        for name, kinds in CAPABILITIES.items()
    }
    (folder / "mm-vet.json").write_text(json.dumps(rows))
    (folder / "prompt.txt").write_text(PROMPT)
    make_image("white", (32, 32)).save(folder / "white.png")
    return folder


def command(folder: Path, server: Server) -> list[str]:
    words = ["judge", "mmvet", "--data", str(folder / "mm-vet.json"), "--images", str(folder)]
    words += ["--prompt", str(folder / "prompt.txt"), "--judge", "gpt-4", "-o", str(folder / "out")]
    return [*words, f"base_url={server.url}", "backoff=0.001", "retries=0"]


def by_question(body: dict[str, Any]) -> str:
    return SCORES[prompt(body).split("What is ")[1][0]]


def test_scores_by_capability(serve: Serve, tmp_path: Path, toys: tuple[Path, Path]) -> None:
    server = serve(by_question)
    arguments = f"pretrained={toys[1]},dtype=float32,device=cpu"
    words = ["--model_args", arguments, "--max-tokens", "4"]
    assert main([*command(write_mmvet(tmp_path), server), *words]) == 0
    found = json.loads((tmp_path / "out" / "judge-gpt-4" / "result.json").read_text())
    assert found["score"]["mean"] == 50
    single = {name: one["mean"] for name, one in found["capabilities"].items()}
    assert single == {"ocr": 75, "math": 50, "rec": 0}
    assert {name: one["mean"] for name, one in found["together"].items()} == {
        **{"ocr+math": 50, "ocr": 100, "rec": 0}
    }
    assert found["capabilities"]["rec"]["interval"] is None
    assert found["judge"]["parameters"] == {"temperature": 0, "max_tokens": 16}


def test_the_row_that_the_judge_completes(tmp_path: Path) -> None:
    folder = write_mmvet(tmp_path)
    bench = read_mmvet(folder / "mm-vet.json", folder, folder / "prompt.txt")
    first, *_ = bench.wanted({name: Answer(("x = 3",), (None,)) for name in "abc"})
    row = PROMPT + "\nWhat is a? | -1 <AND> -5 | x = 3 | "
    assert first.request(0).messages == ({"role": "user", "content": row},)
    (again,) = first.request(1).messages
    assert again["content"] == row + "\nPredict the correctness of the answer (digit): "


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("0.5", 0.5), ("1.0", 1), ("0", 0), (" 0.9 |", 0.9), ("Correctness: 0.3.", 0.3)],
        *[("10", None), ("1.1", None), ("-0.5", None), ("none", None), ("", None), ("1.0.2", None)],
        *[("0,5", None), ("1/2", None), ("0.5/1.0", None), ("1 %", None), ("0.5, as", 0.5)],
    ],
)
def test_correctness(text: str, value: float | None) -> None:
    assert correctness(text) == value


def test_real_file(tmp_path: Path) -> None:
    folder = SHARED / "data" / "mmvet"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    (tmp_path / "prompt.txt").write_text(PROMPT)
    bench = read_mmvet(folder / "mm-vet.json", folder / "images", tmp_path / "prompt.txt")
    with pytest.raises(FileNotFoundError, match="84 of 200 images are not there, such as v1_"):
        check_images(bench.questions)


def test_only_the_images_of_the_questions_asked_are_needed(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mmvet(tmp_path)
    file = tmp_path / "mm-vet.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps(rows | {"c": rows["c"] | {"imagename": "gone.png"}}))
    answers = [{"question_id": name, "choices": [{"turns": ["x"]}]} for name in "abc"]
    (tmp_path / "made.jsonl").write_text(jsonl.dumps(answers))
    server = serve(by_question)
    words = [*command(tmp_path, server), "--answers", str(tmp_path / "made.jsonl")]
    assert main([*words, "--dry-run"]) == 0
    said = f"{tmp_path}: 1 of 2 images are not there, such as gone.png"
    assert f"{said}: the command will need them." in capsys.readouterr().out
    assert main(words) == 2 and not server.requests
    assert f"{said}; give the folder that has them all" in capsys.readouterr().err
    assert main([*words, "--limit", "2", "--dry-run"]) == 0
    assert "images" not in capsys.readouterr().out
    assert main([*words, "--limit", "2"]) == 0 and len(server.requests) == 2


def test_wrong_files(tmp_path: Path) -> None:
    folder = write_mmvet(tmp_path)
    files = (folder / "mm-vet.json", folder, folder / "prompt.txt")
    files[2].write_text("Say something.")
    with pytest.raises(ValueError, match=r"prompt.txt: no table in it; give the prompt of MM-Vet"):
        read_mmvet(*files)
    files[0].write_text('{"a": {"imagename": "white.png", "question": "What?"}}')
    with pytest.raises(ValueError, match=r"mm-vet.json, a: no answer as MM-Vet has it"):
        read_mmvet(*files)
