"""All that a search ends with, against `generate(num_return_sequences=K)`, for several families."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.helpers.families import EOS, PAD, Family, build, image_prompts, language_prompts
from tests.helpers.language_families import LANGUAGE_FAMILIES
from tests.helpers.references import TIE, score_of
from tests.helpers.vision_families import VISION_FAMILIES
from verbalizer_bench.models.engine.decoder import EncodedPrompt
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.engine.search import Hypothesis
from verbalizer_bench.models.engine.shared_prefix import SharedPrefixEngine

NEW, BEAMS = 6, 10
FAMILIES = [*LANGUAGE_FAMILIES, *VISION_FAMILIES]


def _family(model_type: str) -> Family:
    return next(family for family in FAMILIES if family.model_type == model_type)


def all_of_generate(model: Any, inputs: dict[str, torch.Tensor], **kwargs: Any) -> list[Hypothesis]:
    """Return what `generate` hands back, best first; padding is cut by its own beam indices."""
    output = model.generate(
        **inputs,
        **{"num_beams": BEAMS, "do_sample": False, "max_new_tokens": NEW, **kwargs},
        num_return_sequences=BEAMS,
        return_dict_in_generate=True,
        output_scores=True,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    start = inputs["input_ids"].shape[1]
    found = []
    for row, score in enumerate(output.sequences_scores.tolist()):
        length = int((output.beam_indices[row] >= 0).sum())
        tokens = output.sequences[row, start : start + length].tolist()
        penalty = kwargs.get("length_penalty", 1.0)
        found.append(Hypothesis(tokens, score * length**penalty, score))
    return found


def same(found: list[Hypothesis], wanted: list[Hypothesis]) -> None:
    """Hold two lists to each other: the same scores in order, the same tokens but for ties."""
    assert [one.score for one in found] == pytest.approx([one.score for one in wanted], abs=TIE)
    assert [one.log_prob for one in found] == pytest.approx(
        [one.log_prob for one in wanted], abs=NEW * TIE
    )
    by_tokens = {tuple(one.tokens): one.score for one in wanted}
    assert {tuple(one.tokens) for one in found} == set(by_tokens)
    for one in found:
        assert one.score == pytest.approx(by_tokens[tuple(one.tokens)], abs=TIE)


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gpt2", "gemma2", "llava"])
def test_all_beams_are_those_of_generate(model_type: str) -> None:
    family = _family(model_type)
    model = build(family)
    prompts = image_prompts(family)[:2] if family.images else language_prompts()[:2]
    engine = SharedPrefixEngine(model, PAD, [EOS])
    for prompt in prompts:
        settings = GenerationSettings(NEW, (), {"num_beams": BEAMS, "do_sample": False})
        found = engine.hypotheses(prompt.encoded, settings)
        same(found, all_of_generate(model, prompt.inputs))
        assert len(found) == BEAMS
        ((_, response),) = engine.generate([prompt.encoded], settings, None)
        assert response == found[0].tokens


@pytest.mark.parametrize("kwargs", [{"length_penalty": 0.0}, {"early_stopping": True}])
def test_length_penalties_and_early_stops(kwargs: dict[str, Any]) -> None:
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    # Of twelve tokens one ends a response: beams end early, and some never do.
    config = LlamaConfig(vocab_size=12, num_attention_heads=2, pad_token_id=0, **sizes)
    model = LlamaForCausalLM(config).eval()
    ids = [1, 5, 6, 7, 3]
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids))}
    settings = GenerationSettings(NEW, (), {"num_beams": BEAMS, "do_sample": False, **kwargs})
    found = SharedPrefixEngine(model, PAD, [EOS]).hypotheses(EncodedPrompt(ids), settings)
    wanted = [one for one in all_of_generate(model, inputs, **kwargs) if one.score > -1e8]
    assert len({len(one.tokens) for one in found}) > 1
    same(found, wanted)


def test_greedy_search_has_its_response_and_how_likely_it_is() -> None:
    model = build(_family("llama"))
    prompt = language_prompts()[1]
    settings = GenerationSettings(NEW, (), {"num_beams": 1, "do_sample": False})
    engine = SharedPrefixEngine(model, PAD, [EOS])
    (found,) = engine.hypotheses(prompt.encoded, settings)
    ((_, response),) = engine.generate([prompt.encoded], settings, None)
    assert found.tokens == response
    assert found.score == pytest.approx(
        score_of(model, prompt.encoded.ids, found.tokens, 1.0), abs=TIE
    )
    assert found.log_prob == pytest.approx(found.score * len(found.tokens))
