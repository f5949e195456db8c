"""Ask an LVLM as lm-eval does."""

from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from PIL import Image

from tests.helpers.asking import STORY
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM

PROMPTS = [STORY[:end] for end in (10, 30, 55, 80, 120)]


def load(folder: Path, **kwargs: Any) -> VerbalizerLVLM:
    kwargs = {"dtype": "float32", "device": "cpu", "batch_size": 2} | kwargs
    return VerbalizerLVLM(pretrained=str(folder), **kwargs)


def alone(
    lm: VerbalizerLVLM, text: str, image: Image.Image | None, beams: int = 10, new: int = 15
) -> str:
    """Return what plain `generate` makes of one prompt, encoded by the plain processor."""
    if image is None:
        inputs = lm.tokenizer(text, return_tensors="pt")
    else:
        inputs = lm.processor(text=text, images=[image], return_tensors="pt")
    output = lm.model.generate(
        **inputs, num_beams=beams, do_sample=False, max_new_tokens=new, pad_token_id=0
    )
    tokens = output[0, inputs["input_ids"].shape[1] :]
    return lm.tokenizer.decode(tokens, skip_special_tokens=True)


def scoring(pairs: list[tuple[str, str]]) -> list[Instance]:
    return [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0) for pair in pairs]
