"""A LLaVA of two towers is asked: by `generate`, by our engine, and where this package is not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers.asking import requests
from tests.helpers.asking_lvlm import PROMPTS, alone, load, scoring
from tests.helpers.mof import SETTINGS
from tests.helpers.processors import with_images
from verbalizer_bench.models.images import make_image

MIXTURES = tuple(SETTINGS)
CHAT = [[{"role": "user", "content": prompt}] for prompt in PROMPTS[:3]]
SHORT = {"max_gen_toks": 6}
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
OUTSIDE = """
import json, sys
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
asked = json.loads(sys.stdin.read())
try:
    AutoConfig.from_pretrained(asked["folders"][0])
except ValueError as error:
    assert "trust_remote_code=True" in str(error), error
else:
    raise AssertionError("code of a stranger was run")
found = {}
for folder in asked["folders"]:
    model, report = AutoModelForImageTextToText.from_pretrained(
        folder, trust_remote_code=True, dtype="float32", output_loading_info=True
    )
    assert not any(report.values()), report
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    white = Image.new("RGB", (32, 32), "white")
    for beams in (1, 4):
        for text in asked["texts"]:
            inputs = processor(text=text, images=[white], return_tensors="pt")
            output = model.generate(**inputs, num_beams=beams, do_sample=False, max_new_tokens=6)
            tokens = output[0, inputs["input_ids"].shape[1]:].tolist()
            found.setdefault(f"{folder} {beams}", []).append(tokens)
assert not any(name.startswith("verbalizer_bench") for name in sys.modules)
print("\\n" + json.dumps(found))
"""


def photographs() -> list[Image.Image]:
    return [make_image("noise", size) for size in ((32, 32), (50, 40), (20, 70))]  # type: ignore


def tokens_of(lm: Any, text: str, beams: int) -> list[int]:
    inputs = lm.processor(text=text, images=[lm.image], return_tensors="pt")
    output = lm.model.generate(**inputs, num_beams=beams, do_sample=False, max_new_tokens=6)
    found: list[int] = output[0, inputs["input_ids"].shape[1] :].tolist()
    return found


def test_three_ways_to_ask_give_the_same_tokens(mofs: dict[str, Path], tmp_path: Path) -> None:
    """`generate`, the engine, and a process that has only transformers and the checkpoint."""
    here, texts = {}, []
    for mixture, folder in mofs.items():
        lm = load(folder, batch_size=4)
        prompts = [lm.apply_chat_template(chat) for chat in CHAT]
        texts = [lm._shown_prompt(one).text for one in requests(prompts)]
        for beams in (1, 4):
            tokens = [tokens_of(lm, text, beams) for text in texts]
            answers = lm.generate_until(
                requests(prompts, num_beams=beams, **SHORT), disable_tqdm=True
            )
            plain = [lm.tokenizer.decode(row, skip_special_tokens=True) for row in tokens]
            assert answers == plain and len(set(answers)) > 1, mixture
            here[f"{folder} {beams}"] = tokens
        record = lm.get_model_info()["verbalizer_bench"]
        assert record["engine"]["shared_prefix"] == 2 * len(CHAT)
        assert record["image"]["tokens"] == lm.config.image_seq_length
    question = json.dumps({"folders": list(map(str, mofs.values())), "texts": texts})
    done = subprocess.run(
        [sys.executable, "-I", "-c", OUTSIDE],
        input=question,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT | {"HF_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == here


@pytest.mark.parametrize("mixture", MIXTURES)
def test_images_of_tasks_and_several_of_them(mofs: dict[str, Path], mixture: str) -> None:
    lm = load(mofs[mixture], batch_size=3, max_images=3)
    first, second, third = photographs()
    texts = [
        ("USER: <image>\nwhat is it? ASSISTANT:", [first]),
        ("USER: <image>\nwhat is it? ASSISTANT:", [second]),
        ("USER: <image> and <image>\nwhich? ASSISTANT:", [second, third]),
        ("USER: <image> <image> <image>\nwhich? ASSISTANT:", [first, second, third]),
        ("USER: <image> and <image>\nwhich? ASSISTANT:", [third, second]),
    ]
    answers = lm.generate_until(with_images(texts), disable_tqdm=True)
    for (text, images), answer in zip(texts, answers, strict=True):
        inputs = lm.processor(text=text, images=images, return_tensors="pt")
        output = lm.model.generate(**inputs, num_beams=3, do_sample=False, max_new_tokens=6)
        row = output[0, inputs["input_ids"].shape[1] :]
        assert answer == lm.tokenizer.decode(row, skip_special_tokens=True)
    assert lm.get_model_info()["verbalizer_bench"]["engine"]["shared_prefix"] == len(texts)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_scores_of_the_engine_are_those_of_a_forward_pass(
    mofs: dict[str, Path], mixture: str
) -> None:
    pairs = [(prompt, f" {word}") for prompt in PROMPTS[:2] for word in ("yes", "no way")]
    found = [
        load(mofs[mixture], engine=engine).loglikelihood(scoring(pairs), disable_tqdm=True)
        for engine in ("shared_prefix", "generate")
    ]
    for one, other in zip(*found, strict=True):
        assert one[0] == pytest.approx(other[0], abs=1e-3) and one[1] == other[1]


def test_the_adapter_of_text_models_names_the_other(mofs: dict[str, Path]) -> None:
    from verbalizer_bench.models.adapters.llm import VerbalizerLLM

    with pytest.raises(ValueError, match="this one is mof_llava; use --model verbalizer-lvlm"):
        VerbalizerLLM(pretrained=str(mofs["channel"]), device="cpu")


def test_no_image_is_the_language_model_alone(mofs: dict[str, Path]) -> None:
    lm = load(mofs["interleaved"], image="none")
    prompts = [lm.apply_chat_template(chat) for chat in CHAT[:2]]
    answers = lm.generate_until(requests(prompts), disable_tqdm=True)
    texts = [lm._shown_prompt(one).text for one in requests(prompts)]
    assert answers == [alone(lm, text, None) for text in texts]
