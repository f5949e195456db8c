"""Beams that are shown other images than the prompt's are an error, not an answer."""

from typing import Any

import pytest
import torch
from transformers import LogitsProcessorList

from tests.helpers.families import build, image_prompts, shows_beams_others
from tests.helpers.vision_families import VISION_FAMILIES
from verbalizer_bench.models.engine.equal_beams import EqualBeams


def ask(model: Any, inputs: dict[str, torch.Tensor]) -> Any:
    check = EqualBeams(3, inputs["input_ids"].shape[1], torch.float32)
    return model.generate(
        **inputs,
        num_beams=3,
        do_sample=False,
        max_new_tokens=3,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([check]),
    )


@pytest.mark.parametrize("model_type", ["llava", "glm4v"])
def test_several_images_in_beams(model_type: str) -> None:
    family = next(family for family in VISION_FAMILIES if family.model_type == model_type)
    model, prompts = build(family), image_prompts(family)
    one, two = prompts[0].inputs, prompts[-1].inputs
    ask(model, one)
    if shows_beams_others(model, two):
        assert model_type == "glm4v"
        with pytest.raises(ValueError, match="use engine=auto, num_beams=1 or one image"):
            ask(model, two)
    else:
        ask(model, two)


def test_what_is_rounded_otherwise_is_no_difference() -> None:
    ids, scores = torch.zeros(4, 5, dtype=torch.long), torch.randn(2, 50).repeat_interleave(2, 0)
    check = EqualBeams(2, 5, torch.bfloat16)
    assert check(ids, scores + 1e-3 * torch.randn(4, 50)).shape == scores.shape
    scores[1] = scores[2]
    with pytest.raises(ValueError, match="different inputs"):
        check(ids, scores)
    assert EqualBeams(2, 4, torch.bfloat16)(ids, scores) is scores
