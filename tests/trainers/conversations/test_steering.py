"""A SteerLM checkpoint is asked with the highest attributes, in the tokens it was trained with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.helpers.asking import requests
from tests.helpers.tokenizer_families import FAMILIES
from tests.helpers.toy import make_llava, make_llm
from verbalizer_bench.io.conversations import Conversation
from verbalizer_bench.io.preferences import ATTRIBUTES
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.trainers.checkpoints.load import Checkpoint, _set_template
from verbalizer_bench.trainers.conversations.encoder import Encoder
from verbalizer_bench.trainers.conversations.preferences import steered as records
from verbalizer_bench.trainers.conversations.steering import VARIABLE, steered
from verbalizer_bench.trainers.output.model_card import asking_notes
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training.inputs import make_encoder

TURNS = [
    {"role": "user", "content": "What is on the paper?"},
    {"role": "assistant", "content": "A shape."},
    {"role": "user", "content": " Which shape\nis it? "},
]


def saved(tokenizer: Any, format: str, folder: Path, image: bool) -> Checkpoint:
    model = make_llm(tokenizer, seed=0)
    processor = tokenizer
    if image:
        model, processor = make_llava(model, tokenizer, seed=0)
        processor.chat_template = tokenizer.chat_template
    checkpoint = Checkpoint(model, processor)
    recipe: Any = SimpleNamespace(format=format, method="steerlm", thoughts=None)
    _set_template(checkpoint, recipe)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return checkpoint


def trained(
    checkpoint: Checkpoint, format: str, image: bool, scores: int = 4, system: Any = ()
) -> list[int]:
    """Return what stands before an answer of these scores in training, images expanded."""
    rating = dict.fromkeys(ATTRIBUTES, scores)
    (record,) = records(
        0,
        {
            "id": "0",
            "prompt": [*system, *TURNS],
            "images": ["x.png"] * image,
            "source": "made",
            "completions": [{"text": "positive", "scores": rating, "ending": "stop"}],
        },
    )
    assert isinstance(record, Conversation)
    recipe = read_recipe("tiny/steerlm", [f"format={format}", "max_length=4096"])
    token = checkpoint.tokenizer.convert_tokens_to_ids("<image>") if image else None
    encoder = make_encoder(recipe, checkpoint.tokenizer, token, 16)
    assert isinstance(encoder, Encoder)
    ids, mask = encoder.whole(record)
    assert ids[: mask.index(True)] == encoder.asked(record)
    return [one for i in ids[: mask.index(True)] for one in [i] * (16 if i == token else 1)]


@pytest.mark.parametrize("format", ["tokenizer", "vicuna-v1", "llama-2"])
@pytest.mark.parametrize("family", ["llama-2", "llama-3", "qwen2.5", "gemma", "no-bos"])
def test_a_text_model_is_asked_as_its_best_answers_were_trained(
    family: str, format: str, tmp_path: Path
) -> None:
    checkpoint = saved(FAMILIES[family](), format, tmp_path, image=False)
    expected = trained(checkpoint, format, image=False)
    assert expected != trained(checkpoint, format, image=False, scores=3)
    ours = VerbalizerLLM(pretrained=str(tmp_path), dtype="float32", device="cpu")
    (request,) = requests([ours.apply_chat_template([dict(turn) for turn in TURNS])])
    assert ours._prompt(request, 15) == expected
    # What else asks with the saved template.
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = tokenizer.apply_chat_template(TURNS, add_generation_prompt=True, tokenize=False)
    assert text.count("Helpfulness:4,Correctness:4,Coherence:4,Complexity:4,Verbosity:4") == 1


@pytest.mark.parametrize("format", ["tokenizer", "vicuna-v1"])
def test_a_system_instruction_stands_beside_the_attributes(format: str, tmp_path: Path) -> None:
    """As `--system_instruction` puts it in front of what lm-eval asks."""
    system = [{"role": "system", "content": "Be brief."}]
    checkpoint = saved(FAMILIES["qwen2.5"](), format, tmp_path, image=False)
    expected = trained(checkpoint, format, image=False, system=system)
    assert "Be brief." in checkpoint.tokenizer.decode(expected)
    ours = VerbalizerLLM(pretrained=str(tmp_path), dtype="float32", device="cpu")
    (request,) = requests([ours.apply_chat_template([*system, *map(dict, TURNS)])])
    assert ours._prompt(request, 15) == expected


@pytest.mark.parametrize("format", ["tokenizer", "vicuna-v1"])
def test_a_llava_is_asked_as_its_best_answers_were_trained(format: str, tmp_path: Path) -> None:
    checkpoint = saved(
        FAMILIES["vicuna"]() if format != "tokenizer" else FAMILIES["llama-2"](),
        format,
        tmp_path,
        image=True,
    )
    ours = VerbalizerLVLM(pretrained=str(tmp_path), dtype="float32", device="cpu")
    (request,) = requests([ours.apply_chat_template([dict(turn) for turn in TURNS])])
    prompt = ours._prompt(request, 15)
    found = ours._model_inputs([prompt], "right")["input_ids"][0].tolist()
    assert found == trained(checkpoint, format, image=True)


def test_a_variable_asks_for_others_or_none(tmp_path: Path) -> None:
    checkpoint = saved(FAMILIES["qwen2.5"](), "tokenizer", tmp_path, image=False)
    turns = [{"role": "user", "content": "Which shape is it?"}]
    plain = FAMILIES["qwen2.5"]()
    for value, asked in (
        ("", "Which shape is it?"),
        ("Verbosity:0", None),
    ):
        arguments = {VARIABLE: value}
        ours = VerbalizerLLM(
            pretrained=str(tmp_path), dtype="float32", device="cpu", chat_template_args=arguments
        )
        text = str(ours.apply_chat_template(turns))
        if asked is None:
            assert "Likert scale:\nVerbosity:0<|im_end|>" in text and "Helpfulness" not in text
        else:
            expected = plain.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
            assert text == expected
        assert ours._chat().record()["arguments"] == arguments
    (note,) = [note for note in asking_notes(checkpoint) if "SteerLM" in note]
    assert f'chat_template_args={{"{VARIABLE}": ""}}' in note


def test_a_template_is_steered_once_and_each_of_several() -> None:
    once = steered("{{ messages[-1].content }}")
    assert steered(once) == once and steered(None) is None
    both = steered({"default": "a", "rag": "b"})
    assert both["default"].endswith("a") and VARIABLE in both["rag"]
    assert steered("\n\n x")[-4:] == "\n\n x"
