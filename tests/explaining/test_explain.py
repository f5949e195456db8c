"""One answer of a run: what was stored, what the tokenizer tells, the same asked again."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import AutoModelForCausalLM

import verbalizer_bench as vb
from tests.helpers.gguf_files import write_gguf
from verbalizer_bench.cli import main
from verbalizer_bench.explaining.asking import loaded
from verbalizer_bench.explaining.page import WIDTH, visible
from verbalizer_bench.explaining.stored import stored_answer
from verbalizer_bench.tasks.metrics import score

TASK, NATURAL = "verbalizer_sst2_neutral_foo_bar", "verbalizer_sst2_natural_positive_negative"
Runs = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    def make(model: str, checkpoint: Path, tasks: str, *more: str) -> Path:
        output = tmp_path_factory.mktemp("run")
        given = f"pretrained={checkpoint},dtype=float32"
        words = ["run", "--model", model, "--model_args", given, "--device", "cpu"]
        words += ["--tasks", tasks, "--data", "sample", "--limit", "4", *more]
        assert main([*words, "--output_path", str(output)]) == 0
        return output

    return make


@pytest.fixture(scope="module")
def text_run(make: Runs, toys: tuple[Path, Path]) -> Path:
    template = ("--apply_chat_template", "--system_instruction", "Be brief.", "--num_fewshot", "1")
    return make("verbalizer-llm", toys[0], f"{TASK},{NATURAL}", *template)


@pytest.fixture(scope="module")
def image_run(make: Runs, toys: tuple[Path, Path]) -> Path:
    tasks = f"{TASK},mmvp_options,mmvp_options_blind"
    short = ("--apply_chat_template", "--gen_kwargs", "max_gen_toks=4")
    return make("verbalizer-lvlm", toys[1], tasks, *short)


def edited(run: Path, folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    """Copy a run and change the samples of `TASK`; its journal stays behind."""
    (results,) = run.rglob("results_*.json")
    shutil.copytree(results.parent, folder)
    (file,) = folder.glob(f"samples_{TASK}_*.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    change(rows)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def said(response: str) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        other = {"foo": "bar", "bar": "foo"}[rows[0]["target"]]
        made = score(rows[0]["target"], other, response)
        rows[0].update(filtered_resps=[response], **made)

    return change


def test_all_of_a_text_answer(text_run: Path, toys: tuple[Path, Path]) -> None:
    run = vb.load_run(text_run)
    (row,) = run.samples(TASK, {2})
    found = vb.explain(run, TASK, 2)
    assert found.asked == row.prompt and found.response.text == row.response
    assert found.raw and found.asked.count(found.raw) == 1 and "Be brief." in found.asked
    assert found.made.prompt.ids == loaded("verbalizer-llm", _args(toys[0])).tok_encode(row.prompt)
    assert found.made.bos and found.made.bos.times == 1 and found.made.bos.token == "<s>"
    assert found.response.ending in ("eos", "limit") and found.again is None
    assert not found.notes and not found.why
    assert found.scores["f1"] == row.f1 and found.outcome == row.outcome
    text = str(found)
    assert f"Response   {visible(row.response)[:40]}" in text
    assert "[the prompt above]" in text and "a system prompt; 1 examples" in text
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "[the prompt above]" not in found.text(full=True)


def _args(folder: Path) -> dict[str, str]:
    return {"pretrained": str(folder), "dtype": "float32"}


def test_asked_again_it_is_the_stored_one(text_run: Path) -> None:
    for place in (0, 3):
        found = vb.explain(text_run, TASK, place, again=True, device="cpu")
        assert found.same and found.again
        look = found.again.look
        assert len(look.hypotheses) == 10 and set(look.words) == {"foo", "bar"}
        assert look.hypotheses[0][1] == found.response.text
        assert found.again.response and found.again.response.ending == found.response.ending
        assert "the stored response (engine shared_prefix, float32, cpu)" in str(found)
        made = json.loads(json.dumps(found.record()))["again"]
        scores = [beam["score"] for beam in made["beams"]]
        assert made["same"] and scores == sorted(scores, reverse=True)


def test_what_differs_is_named(text_run: Path, tmp_path: Path) -> None:
    run = edited(text_run, tmp_path / "run", said("nothing like it"))
    found = vb.explain(run, TASK, 0, again=True, device="cpu")
    assert found.same is False
    assert "nothing that was recorded differs" in found.notes[0]
    other = vb.explain(run, TASK, 0, again=True, device="cpu", model_args={"dtype": "bfloat16"})
    assert "dtype torch.float32 in the run, torch.bfloat16 here" in other.notes[0]


def test_other_weights_that_say_the_same_are_named(
    text_run: Path, toys: tuple[Path, Path], tmp_path: Path
) -> None:
    """The beams are of the weights that are there now, not of the run's."""
    model = AutoModelForCausalLM.from_pretrained(toys[0])
    with torch.no_grad():
        model.lm_head.weight.mul_(1.00001)
    shutil.copytree(toys[0], tmp_path / "other")
    model.save_pretrained(tmp_path / "other")
    there = {"pretrained": str(tmp_path / "other")}
    found = vb.explain(text_run, TASK, 0, again=True, device="cpu", model_args=there)
    assert found.same and "the stored one all the same" in found.notes[0]
    assert re.search(r"what differs: weights \w+… in the run, \w+… here", found.notes[0])
    same = vb.explain(text_run, TASK, 0, again=True, device="cpu")
    assert same.same and not same.notes


def test_without_a_document_it_is_the_worst(text_run: Path, tmp_path: Path) -> None:
    found = stored_answer(text_run, None, None)
    assert found.scores["neither"] and "the first of 8 of 8 responses" in found.why
    assert found.task == NATURAL and found.doc_id == 0
    run = edited(text_run, tmp_path / "run", said("bar foo"))
    assert stored_answer(run, TASK, None).doc_id == 1


@pytest.mark.parametrize(
    ("response", "shown", "told"),
    [
        ("", '""', "nothing: it ended at once"),
        (" \n\t", r'" \n\t"', "white space alone"),
        ("foo\x1b[31m\u202e\u200d\x07", r"foo\x1b[31m\u202e\u200d\x07", "F1 drops case"),
        ('say "bar" 👍 שלום', r'"say \"bar\" 👍 שלום"', "say *bar* 👍"),
        ("half \ud800", r'"half \ud800"', "no word in common"),
    ],
)
def test_odd_responses(
    text_run: Path, tmp_path: Path, response: str, shown: str, told: str
) -> None:
    run = edited(text_run, tmp_path / "run", said(response))
    found = vb.explain(run, TASK, 0)
    text = str(found)
    assert shown in text and told in text
    assert found.response.ending is None and "Ended      not recorded" in text
    assert not [char for char in text if not char.isprintable() and char != "\n"]
    assert json.loads(json.dumps(found.record()))["response"] == response
    assert not found.notes


def test_a_score_that_this_version_does_not_make_is_noted(text_run: Path, tmp_path: Path) -> None:
    run = edited(text_run, tmp_path / "run", lambda rows: rows[0].update(filtered_resps=["bar"]))
    assert "the run's f1 is 0, and this version makes 1" in vb.explain(run, TASK, 0).notes[0]


def test_long_prompts_are_cut_in_the_middle(text_run: Path, tmp_path: Path) -> None:
    def lengthen(rows: list[dict[str, Any]]) -> None:
        long = " word" * 3000
        rows[0]["doc"]["sentence"] += long
        given = rows[0]["arguments"]["gen_args_0"]
        front, mark, behind = given["arg_0"].rpartition("\nAnswer:")
        given["arg_0"] = front + long + mark + behind

    found = vb.explain(edited(text_run, tmp_path / "run", lengthen), TASK, 0)
    assert found.made.prompt.cut > 0 and len(found.text()) < 8000
    assert "characters are left out here; --full shows them" in found.text()
    assert "more were cut off at its left end" in found.text()
    assert found.text(full=True).count("word") > 3000


def test_a_checkpoint_that_is_gone(
    text_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gone = f"pretrained={tmp_path / 'gone'}"
    words = ["explain", str(text_run), "--task", TASK, "--doc", "1", "--model_args", gone]
    assert main(words) == 0
    assert "tokens are not counted" in capsys.readouterr().out
    assert main([*words, "--again"]) == 2
    assert "no such folder; give --model_args pretrained=DIR" in capsys.readouterr().err


def test_blank_and_own_images(image_run: Path, tmp_path: Path) -> None:
    blank = vb.explain(image_run, TASK, 0, again=True, device="cpu")
    assert blank.same and "white, 32 x 32 pixels, as with every text prompt" in str(blank)
    assert "16 of them of images" in str(blank)
    own = vb.explain(image_run, "mmvp_options", 1, again=True, device="cpu")
    assert own.same and "1 of its own: 96 x 96 pixels" in str(own) and own.labels
    assert "Score      " in str(own) and own.labels.expected == own.record()["expected"]
    (file,) = own.write_image(tmp_path / "shown.png")
    with Image.open(file) as image:
        assert list(image.getdata()) == list(own.images[0].getdata())
    blind = vb.explain(image_run, "mmvp_options_blind")
    assert "white, 32 x 32" in str(blind) and "that are not right" in blind.why
    missing = vb.explain(image_run, "mmvp_options", 1, data=str(tmp_path))
    assert "its image is not at hand" in missing.notes[0] and not missing.images


def test_runs_of_lm_evals_own_classes(make: Runs, toys: tuple[Path, Path], tmp_path: Path) -> None:
    greedy = ("--gen_kwargs", "num_beams=1", "--apply_chat_template")
    run = make("hf", toys[0], TASK, *greedy)
    found = vb.explain(run, again=True, device="cpu")
    assert found.same and found.made.bos and found.made.bos.times == 1
    assert found.response.ending is None and "its model class shows none" in str(found)
    with pytest.raises(ValueError, match="there is no image to write: none"):
        found.write_image(tmp_path / "image.png")


def test_shards_keep_their_endings(make: Runs, toys: tuple[Path, Path], tmp_path: Path) -> None:
    shards = [make("verbalizer-llm", toys[0], TASK, "--shard", f"{n}/2") for n in (1, 2)]
    assert main(["merge", *map(str, shards), "-o", str(tmp_path / "all")]) == 0
    for place in range(4):
        found = stored_answer(tmp_path / "all", TASK, place)
        assert found.noted and found.noted.ending in ("eos", "limit")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--task", "verbalizer_sst2_neutral_fo"], f"did you mean {TASK}?"),
        (["--doc", "1"], f"has {NATURAL}, {TASK}; give one"),
        (["--task", TASK, "--doc", "99"], "has documents 0-3; give one"),
        (["--image-out", "x.png"], "there is no image to write: none, a text model"),
    ],
)
def test_mistakes_are_one_line(
    text_run: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], told: str
) -> None:
    assert main(["explain", str(text_run), *words]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("verbalizer-bench: error: ") and told in last


def test_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "20261130_120000_results.json").write_text("{}")
    for folder, told in ((tmp_path, "lmms-eval's results"), (tmp_path / "no", "no such folder")):
        assert main(["explain", str(folder)]) == 2
        assert told in capsys.readouterr().err


def test_prompts_need_no_weights(toys: tuple[Path, Path], tmp_path: Path) -> None:
    """Not those of a GGUF, nor of an adapter."""
    for name in ("gguf", "bare"):
        (tmp_path / name).mkdir()
    file = write_gguf(toys[0], tmp_path / "gguf" / "toy.gguf")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(toys[0] / name, tmp_path / "bare")
    given = [
        {"pretrained": str(tmp_path / "bare")},
        {"pretrained": str(tmp_path / "bare"), "peft": str(tmp_path / "lora")},
        {"pretrained": str(file.parent), "gguf_file": file.name},
    ]
    lm = loaded("verbalizer-llm", _args(toys[0]))
    wanted = lm.tok_encode("good or bad?")
    get_peft_model(lm.model, LoraConfig(target_modules="all-linear")).save_pretrained(
        tmp_path / "lora"
    )
    for arguments in given:
        lm = loaded("verbalizer-llm", arguments, weights=False)
        assert lm.tok_encode("good or bad?") == wanted
        assert all(weight.is_meta for weight in lm.model.parameters())
