import shlex
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY
from verbalizer_bench.cli.app import main
from verbalizer_bench.evaluation.items import KINDS
from verbalizer_bench.evaluation.recipe import read_evaluation

TWELVE = [
    *("VQAv2", "GQA", "VizWiz", "ScienceQA", "TextVQA", "POPE", "MME", "MMBench", "MMBench-CN"),
    *("SEED", "LLaVA-Bench", "MM-Vet"),
]
LLAVA15 = REPOSITORY / "recipes" / "evaluation" / "llava15.yaml"


def test_the_twelve_of_llava15() -> None:
    evaluation = read_evaluation("evaluation/llava15")
    assert list(evaluation.benchmarks) == TWELVE
    judged = {title for title, one in evaluation.benchmarks.items() if one.judge}
    assert judged == {"MMBench-CN", "LLaVA-Bench", "MM-Vet"}
    assert {one.items for one in evaluation.benchmarks.values()} == set(KINDS)
    assert LLAVA15.read_text().startswith("# verbalizer-bench benchmarks evaluation/llava15 ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": "exact_match"}, "benchmarks.GQA.metrics: no such key; did you mean"),
        ({"metric": None}, "benchmarks.GQA.metric=None: text is expected"),
        ({"items": "mean"}, "benchmarks.GQA.items='mean': Input should be 'value', 'option'"),
        ({"scale": 0}, "scale=0.0: above 0"),
        ({"tasks": []}, "tasks=[]: names of tasks"),
        ({"tasks": "mme"}, "tasks=mme: each in one benchmark only"),
    ],
)
def test_a_wrong_recipe_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], message: str
) -> None:
    values = yaml.safe_load(LLAVA15.read_text())
    values["benchmarks"]["GQA"] |= change
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    assert main(["benchmarks", str(tmp_path / "mine.yaml"), "a", "-o", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().split("\n")
    assert message in line and "mine.yaml: " in line


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["benchmarks", "evaluation/llava15", *words]) == 0
    return capsys.readouterr().out


def test_the_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "my out"
    words = ["checkpoints/a", "pretrained=base,peft=checkpoints/b", "-o", str(out)]
    text = printed(capsys, *words, "--judge", "gpt-4-0613")
    lines = [shlex.split(line) for line in text.split("\n") if line and line[0] != "#"]
    assert len(lines) == 24
    first, *_ = lines
    assert first == [
        *("lmms-eval", "--model", "verbalizer-lvlm", "--model_args"),
        *("pretrained=checkpoints/a,dtype=bfloat16", "--tasks", "vqav2_val", "--log_samples"),
        *("--output_path", str(out)),
    ]
    *_, mmvet = lines
    assert mmvet[:3] == ["verbalizer-bench", "judge", "mmvet"] and "gpt-4-0613" in mmvet
    assert mmvet[-3:] == [
        *("pretrained=base,peft=checkpoints/b,dtype=bfloat16", "-o", str(out / "b-mmvet")),
    ]
    assert text.count("# lmms-eval --model") == 4 and "--gen_kwargs max_new_tokens=1024" in text
    assert not out.exists()


def test_names_of_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "a/final", "b/final/", "-o", "out")
    assert "-o out/a_final-mmvet" in text and "-o out/b_final-mmvet" in text
    assert main(["benchmarks", "evaluation/llava15", "a", "a", "-o", "out"]) == 2
    assert "a: given twice; give each checkpoint once" in capsys.readouterr().err
