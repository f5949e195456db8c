"""Documents with an image each: shown alone, exactly, by both engines, and recorded."""

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from tests.helpers.asking_lvlm import alone, load
from verbalizer_bench.cli import main
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.tasks.mmvp import sample
from verbalizer_bench.tasks.mmvp.questions import read_folder

QUESTIONS = read_folder(sample.SAMPLE)[:6]
IMAGES = [question.picture.rgb() for question in QUESTIONS]


def requests(beams: int) -> list[Instance]:
    settings = {"until": [], "do_sample": False, "max_gen_toks": 8, "num_beams": beams}
    return [
        Instance(
            request_type="generate_until",
            doc={},
            arguments=(f"<image>{question.text}", settings, {"visual": [image]}),
            idx=0,
        )
        for question, image in zip(QUESTIONS, IMAGES, strict=True)
    ]


@pytest.mark.parametrize("engine", ["generate", "shared_prefix"])
@pytest.mark.parametrize("blank", ["white", "none"])
def test_responses_are_those_of_each_question_alone(
    toys: tuple[Path, Path], engine: str, blank: str
) -> None:
    """The adapter's own image never takes the place of a document's."""
    lm = load(toys[1], engine=engine, image=blank, batch_size=4)
    for beams in (1, 3):
        expected = [
            alone(lm, f"<image>{question.text}", image, beams, 8)
            for question, image in zip(QUESTIONS, IMAGES, strict=True)
        ]
        # The two of a pair differ in nothing but the image.
        assert expected[0] != expected[1]
        assert lm.generate_until(requests(beams), disable_tqdm=True) == expected
    record = lm.get_model_info()["verbalizer_bench"]
    assert record["engine"] == {engine: 12}
    config = lm.model.config.get_text_config()
    assert record["language_model"]["hidden_size"] == config.hidden_size
    assert record["task_images"]["prompts"] == 12 and record["task_images"]["images"] == 6
    assert record["image"] == {"mode": "own", "prompts": 12, "images": 6}
    text = requests(1)[0]
    text.arguments = (QUESTIONS[0].text, text.args[1])
    lm.generate_until([text], disable_tqdm=True)
    assert lm.get_model_info()["verbalizer_bench"]["image"]["mode"] == blank


def test_the_bar_tells_of_no_hits_where_no_prefix_is_shared(toys: tuple[Path, Path]) -> None:
    lm = load(toys[1], engine="shared_prefix", batch_size=4)
    own = requests(1)[:2]
    lm.generate_until(own, disable_tqdm=True)
    assert lm._shared_prefix_engine and lm._shared_prefix_engine.sharing == "no shared prefix"
    texts = requests(1)
    for request in texts:
        request.arguments = (request.args[0].replace("<image>", ""), request.args[1])
    lm.generate_until(texts, disable_tqdm=True)
    assert lm._shared_prefix_engine.sharing.startswith("prefix hits ")


def test_the_record_names_which_images(toys: tuple[Path, Path]) -> None:
    def digest(asked: list[Instance]) -> Any:
        lm = load(toys[1])
        lm.generate_until(asked, disable_tqdm=True)
        return lm.get_model_info()["verbalizer_bench"]["task_images"]["sha256"]

    whole = requests(1)
    assert digest(whole[:3]) == digest(whole[:3][::-1]) != digest(whole[1:4])


def test_a_text_prompt_records_none(toys: tuple[Path, Path]) -> None:
    lm: VerbalizerLVLM = load(toys[1])
    asked = requests(1)[:1]
    asked[0].arguments = ("Open or closed?", asked[0].args[1])
    lm.generate_until(asked, disable_tqdm=True)
    assert "task_images" not in lm.get_model_info()["verbalizer_bench"]


def run(folder: Path, model: str, pretrained: Path, task: str) -> int:
    given = f"pretrained={pretrained},dtype=float32"
    return main(
        [
            *("run", "--model", model, "--model_args", given, "--device", "cpu"),
            *("--tasks", task, "--data", "sample", "--limit", "4", "--batch_size", "1"),
            *("--gen_kwargs", "max_gen_toks=4", "--output_path", str(folder)),
        ]
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.rglob("samples_*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_runs_by_both_model_classes(toys: tuple[Path, Path], tmp_path: Path) -> None:
    """lm-eval's own class is right without beams."""
    assert run(tmp_path / "ours", "verbalizer-lvlm", toys[1], "mmvp_options") == 0
    assert run(tmp_path / "stock", "hf-multimodal", toys[1], "mmvp_options") == 0
    ours, stock = rows(tmp_path / "ours"), rows(tmp_path / "stock")
    assert [row["doc"] for row in ours] == [row["doc"] for row in stock]
    assert [row["filtered_resps"] for row in ours] == [row["filtered_resps"] for row in stock]
    images = [row["arguments"]["gen_args_0"]["arg_2"]["visual"][0] for row in ours]
    assert len(set(images)) == 4
    (record,) = (tmp_path / "ours").rglob("run.json")
    assert json.loads(record.read_text())["task_images"]["images"] == 4


def test_a_text_model_is_asked_without_images_only(
    toys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "a", "verbalizer-llm", toys[0], "mmvp_letters_swapped") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "mmvp_letters_swapped: it asks about images, and --model verbalizer-llm takes" in line
    assert "--tasks mmvp_letters_blind, which asks without them as a control" in line
    assert run(tmp_path / "b", "verbalizer-llm", toys[0], "mmvp_letters_blind") == 0
    assert len(rows(tmp_path / "b")) == 4
    assert run(tmp_path / "c", "verbalizer-lvlm", toys[1], "mmvp_optoins") == 2
    assert "did you mean mmvp_options" in capsys.readouterr().err
