"""`verbalizer-lvlm` beside LLaVA: processors that put more than image tokens around an image."""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.helpers.asking import requests
from tests.helpers.asking_lvlm import scoring
from tests.helpers.processors import (
    PROMPTS,
    TEXT,
    VISION,
    save,
    template,
    tiled,
    tokenizer,
    tokenizer_naming,
    with_images,
)
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.models.images import make_image


def idefics3() -> tuple[Any, Any]:
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    return tiled("Idefics3", Idefics3ImageProcessorPil)


def llava_next() -> tuple[Any, Any]:
    """An image has tiles and line ends."""
    from transformers.models.llava_next.image_processing_pil_llava_next import (
        LlavaNextImageProcessorPil,
    )

    points = [[32, 64], [64, 32], [64, 64]]
    processor = transformers.LlavaNextProcessor(
        LlavaNextImageProcessorPil(
            size={"shortest_edge": 32},
            crop_size={"height": 32, "width": 32},
            image_grid_pinpoints=points,
        ),
        tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>\n"),
    )
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=transformers.LlamaConfig(**TEXT),
        image_token_index=3,
        image_grid_pinpoints=points,
        image_seq_length=16,
    )
    return transformers.LlavaNextForConditionalGeneration(config), processor


def gemma3() -> tuple[Any, Any]:
    """The text's slot is not the image token."""
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    names |= {"image_token": "<image_soft_token>"}
    tokens = tokenizer_naming(**names)
    ids = {name: tokens.convert_tokens_to_ids(token) for name, token in names.items()}
    processor = transformers.Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 32, "width": 32}),
        tokens,
        image_seq_length=4,
        chat_template=template("<start_of_image>"),
    )
    config = transformers.Gemma3Config(
        vision_config=transformers.SiglipVisionConfig(**VISION | {"num_hidden_layers": 1}),
        text_config=transformers.Gemma3TextConfig(**TEXT, head_dim=8),
        mm_tokens_per_image=4,
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
        image_token_index=ids["image_token"],
    )
    return transformers.Gemma3ForConditionalGeneration(config), processor


def encode(lm: VerbalizerLVLM, text: str) -> dict[str, torch.Tensor]:
    assert lm.image is not None
    return dict(lm.processor(text=[text], images=[[lm.image]], return_tensors="pt"))


def alone(lm: VerbalizerLVLM, text: str) -> str:
    inputs = encode(lm, text)
    output = lm.model.generate(
        **inputs, num_beams=3, do_sample=False, max_new_tokens=6, pad_token_id=0
    )
    new = output[0, inputs["input_ids"].shape[1] :]
    return lm.tokenizer.decode(new, skip_special_tokens=True)


def logprob(lm: VerbalizerLVLM, context: str, word: str) -> float:
    start = encode(lm, context)["input_ids"].shape[1]
    inputs = encode(lm, context + word)
    with torch.no_grad():
        scores = lm.model(**inputs).logits[0].log_softmax(-1)
    ids = inputs["input_ids"][0]
    return sum(float(scores[i - 1, ids[i]]) for i in range(start, len(ids)))


FAMILIES = pytest.mark.parametrize(
    ("make", "slot"),
    [(idefics3, "<image>"), (llava_next, "<image>"), (gemma3, "<start_of_image>")],
)


@FAMILIES
def test_several_images_of_a_task_in_either_order(
    make: Callable[[], tuple[Any, Any]], slot: str, tmp_path: Path
) -> None:
    save(make, tmp_path)
    white, noise = make_image("white", (32, 32)), make_image("noise", (64, 32))
    black = make_image("black", (48, 48))
    two, one = "look <image> now <image> what?", "see <image> ok"
    texts = [(two, [white, noise]), (two, [noise, white]), (one, [black]), (one + " so", [black])]
    asked = with_images(texts)
    responses = []
    for engine in ("shared_prefix", "generate"):
        lm = VerbalizerLVLM(str(tmp_path), dtype="float32", device="cpu", engine=engine)
        responses.append(lm.generate_until(asked, disable_tqdm=True))
    assert responses[0] == responses[1]
    assert len(set(responses[0])) > 1


@FAMILIES
def test_processor(make: Callable[[], tuple[Any, Any]], slot: str, tmp_path: Path) -> None:
    processor = save(make, tmp_path)
    # It refuses what it would not take.
    settings = {"dtype": "float32", "device": "cpu", "batch_size": 1, "engine": "shared_prefix"}
    lm = VerbalizerLVLM(str(tmp_path), **settings)
    front = f"{slot}\n"
    expected = [alone(lm, front + prompt) for prompt in PROMPTS]
    pairs = [(prompt, word) for prompt in PROMPTS for word in (" park", " a big dog")]
    scores = [logprob(lm, front + context, word) for context, word in pairs]
    for size in (1, 3):
        lm.batch_size_per_gpu = size
        asked = requests(PROMPTS, num_beams=3, max_gen_toks=6)
        assert lm.generate_until(asked, disable_tqdm=True) == expected, size
        found = lm.loglikelihood(scoring(pairs), disable_tqdm=True)
        assert [score for score, _ in found] == pytest.approx(scores, rel=1e-4), size
    prompt = lm.apply_chat_template([{"role": "user", "content": "say <image>"}])
    (answer,) = lm.generate_until(
        requests([prompt], num_beams=3, max_gen_toks=6), disable_tqdm=True
    )
    templated = processor.chat_template.count("\n") * "\n"
    assert answer == alone(lm, f"{slot}{templated}say < image> A:")
    record = lm.get_model_info()["verbalizer_bench"]
    assert record["image"]["tokens"] == record["first_input_ids"].count(lm.image_token_id) > 0
    lm.processor.chat_template = "{{ bos_token }}" + lm.processor.chat_template
    (request,) = requests([lm.apply_chat_template([{"role": "user", "content": "hello"}])])
    ids = lm._model_inputs([lm._prompt(request, 6)], "right")["input_ids"][0].tolist()
    content = [{"type": "image", "image": lm.image}, {"type": "text", "text": "hello"}]
    once = lm.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True
    )
    assert ids == list(once[0]) and ids[:2].count(lm.tokenizer.bos_token_id) == 1


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is here")
def test_a_processor_that_needs_torchvision_says_what_to_install(
    toys: tuple[Path, Path], tmp_path: Path
) -> None:
    """The processors of Qwen-VL, SmolVLM, InternVL and others can read videos too."""
    shutil.copytree(toys[1], tmp_path, dirs_exist_ok=True)
    kinds = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor"}
    for name in ("processor_config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text(json.dumps(kinds))
    with pytest.raises(ValueError, match="pip install torchvision, of the release") as info:
        VerbalizerLVLM(str(tmp_path), dtype="float32", device="cpu", batch_size=1)
    assert f"pretrained={tmp_path}" in str(info.value) and "\n" not in str(info.value)
    assert "Qwen2VLVideoProcessor needs torchvision" in str(info.value)


def test_a_processor_that_joins_what_stands_around_images_is_named(tmp_path: Path) -> None:
    """Idefics2's does; the engine is checked with one prompt, which may have nothing to join."""
    save(idefics3, tmp_path)
    lm = VerbalizerLVLM(str(tmp_path), dtype="float32", device="cpu")
    original, mark = lm._shown._process, "<fake_token_around_image>"
    number = lm.tokenizer.convert_tokens_to_ids(mark)

    def joining(text: str, images: Any) -> dict[str, torch.Tensor]:
        inputs = original(text, images)
        ids = inputs["input_ids"][0]
        double = (ids[1:] == number) & (ids[:-1] == number)
        kept = torch.cat([torch.tensor([True]), ~double])
        return {**inputs, **{k: inputs[k][:, kept] for k in ("input_ids", "attention_mask")}}

    lm._shown._process = joining
    noise = make_image("noise", (32, 32))
    texts = ("<image> and then <image> what is that?", "<image><image> what?")
    asked = with_images([(text, [noise, noise]) for text in texts], max_gen_toks=4)
    with pytest.raises(ValueError, match="Idefics3Processor makes other tokens of a prompt"):
        lm.generate_until(asked, disable_tqdm=True)
