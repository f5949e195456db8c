"""A prompt of one's own, and its answer looked at."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import verbalizer_bench as vb
from tests.helpers.checkpoints import clone
from tests.helpers.endpoint_fixtures import key, serve
from tests.helpers.endpoint_server import Server
from tests.helpers.tokenizer_families import few_words
from verbalizer_bench.cli import main

__all__ = ["key", "serve"]
TASK = "verbalizer_sst2_neutral_foo_bar"


def _args(folder: Path) -> str:
    return f"pretrained={folder},dtype=float32"


def test_a_text(toys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ask", "good or bad?", "--model_args", _args(toys[0]), "--device", "cpu"]
    words += ["--labels", "good,bad", "--expect", "bad", "--gen_kwargs", "max_gen_toks=5"]
    assert main([*words, "--apply_chat_template", "--system_instruction", "Be brief."]) == 0
    text = capsys.readouterr().out
    assert "Be brief. USER: [the prompt above] ASSISTANT:" in text
    assert 'Expected   "bad" (the other label word: "good")' in text
    assert "10 beams, at most 5 new tokens" in text and text.count("\n  -") >= 10
    assert main([*words, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["prompt"]["bos"] == 1 and len(made["again"]["beams"]) == 10
    assert made["expected"] == "bad" and made["outcome"] in made["scores"]


def test_text_that_the_tokenizer_does_not_know(toys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = clone(toys[0], tmp_path / "words")
    few_words("good", "or", "bad").save_pretrained(folder)
    options = {"gen_kwargs": {"num_beams": 2, "max_gen_toks": 2}, "device": "cpu"}
    for model in ("verbalizer-llm", "hf"):
        text = str(vb.ask("good or so so", model, _args(folder), **options)).replace("\n", " ")
        assert "2 of them stand for text that the tokenizer does not know" in text
        assert "stand for" not in str(vb.ask("good or bad", model, _args(folder), **options))


def test_images(toys: tuple[Path, Path], tmp_path: Path) -> None:
    files = []
    for level in (10, 200):
        files.append(tmp_path / f"{level}.png")
        Image.new("RGB", (40, 30), (level,) * 3).save(files[-1])
    options = {"gen_kwargs": {"num_beams": 2, "max_gen_toks": 3}, "device": "cpu"}
    lvlm = ("verbalizer-lvlm", _args(toys[1]))
    blank = vb.ask("what?", *lvlm, **options)
    one = vb.ask("what?", *lvlm, images=files[:1], **options)
    two = vb.ask("<image> or <image>?", *lvlm, images=files, apply_chat_template=True, **options)
    assert [len(asked.made.prompt.image_places) for asked in (blank, one, two)] == [16, 16, 32]
    assert [image.size for image in two.images] == [(40, 30)] * 2
    assert "2 of its own: 40 x 30 pixels, 40 x 30 pixels" in str(two)
    assert "white, 32 x 32 pixels, as with every text prompt" in str(blank)
    assert [path.name for path in two.write_image(tmp_path / "a.png")] == ["a.png", "a-2.png"]


def test_a_served_model_tells_what_it_tells(serve: Callable[..., Server]) -> None:
    server = serve(lambda body: "Yes.")
    given = {"model": "m", "base_url": server.url, "image": "none"}
    asked = vb.ask(
        "yes or no?", "verbalizer-api", given, labels=("yes", "no"), apply_chat_template=True
    )
    text = str(asked)
    assert asked.outcome == "follows" and "F1         100.0" in text
    assert "Decoding   greedy, at most 15 new tokens" in text
    assert "as its model class was given it: its tokens are not known here" in text
    assert "its model class shows none" in text


def test_a_run_of_a_served_model(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(lambda body: "foo")
    given = json.dumps({"model": "org/m", "base_url": server.url, "image": "white"})
    words = ["run", "--model", "verbalizer-api", "--model_args", given, "--tasks", TASK]
    words += ["--data", "sample", "--limit", "2", "--apply_chat_template"]
    assert main([*words, "--output_path", str(tmp_path / "out")]) == 0
    text = str(vb.explain(tmp_path / "out"))
    assert "the server applies its own, to a conversation" in text
    assert "Decoding   greedy, at most 15 new tokens" in text and "by an EOS token" in text
    assert "its server tells no tokens, no BOS and no rendered prompt" in text
    assert vb.explain(tmp_path / "out", again=True).same


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--labels", "a"], "--labels a: give two words"),
        (["--labels", "a,b", "--expect", "c"], "--expect c: none of --labels a,b"),
        (["--image", "x.png"], "x.png: no such image; check the name"),
        (["--image", __file__], "test_ask.py: no image that can be read; give another"),
        (["--model_args", "DIR"], "--model_args DIR: expected `key=value`, got 'DIR'"),
        (["--gen_kwargs", "num_beams=1, until=x"], "--gen_kwargs num_beams=1, until=x: ' until=x'"),
        (["--gen_kwargs", "num_beam=3"], "ask: --gen_kwargs num_beam=3: no argument of generate"),
        (["--gen_kwargs", "max_new_tokens=3"], "write max_gen_toks="),
        (["--model", "verbalizer-lm"], "did you mean verbalizer-llm?"),
        (["--model_args", "dtype=float32"], "ask: --model_args has no pretrained=…"),
        (["--model_args", "pretrained=/no/such/folder"], "no such folder"),
    ],
)
def test_mistakes_are_one_line(
    toys: tuple[Path, Path], capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert main(["ask", "good?", "--model_args", _args(toys[0]), *words]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("verbalizer-bench: error: ") and told in last


def test_a_text_model_takes_no_image(
    toys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    words = ["ask", "good?", "--model_args", _args(toys[0]), "--image", str(tmp_path / "a.png")]
    assert main(words) == 2
    assert "--model verbalizer-llm takes no images" in capsys.readouterr().err
