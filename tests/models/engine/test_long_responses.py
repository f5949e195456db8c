"""Responses of hundreds of tokens with stop strings, as gsm8k and ifeval have them."""

from pathlib import Path

import pytest
import torch

from tests.helpers.asking import STORY, load, requests
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.engine import attention

GSM8K = ["Question:", "</s>", "<|im_end|>"]


@pytest.mark.parametrize("beams", [1, 4])
def test_both_engines_answer_alike(stories: Path, beams: int) -> None:
    asked = requests(
        [STORY[:end] for end in (20, 190)], until=GSM8K, num_beams=beams, max_gen_toks=140
    )
    answers = []
    for engine in ("generate", "shared_prefix"):
        lm = load(VerbalizerLLM, stories, engine=engine)
        lm.batch_size_per_gpu = 2
        answers.append(lm.generate_until(asked, disable_tqdm=True))
    assert answers[0] == answers[1]
    assert all(len(answer) > 200 for answer in answers[0])


def test_a_long_response_is_not_copied_for_every_token(
    toys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, copies = attention._wider, []

    def wider(slots: torch.Tensor, more: int) -> torch.Tensor:
        copies.append(more)
        return original(slots, more)

    monkeypatch.setattr(attention, "_wider", wider)
    lm = load(VerbalizerLLM, toys[0], engine="shared_prefix")
    lm.model.generation_config.eos_token_id = 1
    lm.generate_until(requests(["x"], num_beams=1, max_gen_toks=96), disable_tqdm=True)
    assert len(copies) == 2 * lm.config.num_hidden_layers * (96 // 16 - 1)
