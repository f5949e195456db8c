"""Stop strings in the shared-prefix engine end what they end in `generate` (float32)."""

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, StoppingCriteriaList

from tests.helpers.references import is_tie, reference
from tests.helpers.tokenizer_families import FAMILIES, TEXTS
from verbalizer_bench.models.engine.decoder import EncodedPrompt
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.engine.shared_prefix import SharedPrefixEngine
from verbalizer_bench.models.engine.stop_strings import StopCriterion, StopStrings
from verbalizer_bench.models.engine.support import unsupported_reason

TOKENIZERS = {name: make() for name, make in FAMILIES.items() if name not in ("vicuna", "no-bos")}
UNICODE = ("é", "日本", "🙂", "�", " ", "\n", "</s>", "▁")


def small_llama(seed: int, vocabulary: int, scale: float) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=False,
        )
    ).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data *= scale
    return model


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, Any, list[list[int]], tuple[str, ...], dict[str, Any]]:
    """Draw a model with its tokenizer, prompts, stops out of what it would say, and arguments."""
    tokenizer = TOKENIZERS[draw(st.sampled_from(sorted(TOKENIZERS)))]
    scale = draw(st.sampled_from([4.0, 10.0]))
    model = small_llama(draw(st.integers(0, 10**6)), len(tokenizer), scale)
    texts = draw(st.lists(st.sampled_from([*TEXTS[:4], "éa 日本 🙂"]), min_size=1, max_size=3))
    prompts = [
        tokenizer(TEXTS[0] + text)["input_ids"][: draw(st.integers(5, 60))] for text in texts
    ]
    kwargs = {"num_beams": 1}
    if draw(st.booleans()):
        kwargs = {
            "num_beams": draw(st.sampled_from([2, 10])),
            "length_penalty": draw(st.sampled_from([1.0, 0.0, 2.0, -1.0])),
            "early_stopping": draw(st.sampled_from([False, True, "never"])),
        }
    stops = []
    for ids in prompts:
        tokens, _ = reference(model, ids, tokenizer.eos_token_id, 0, 9, **kwargs)
        said = tokenizer.decode(tokens) or "x"
        start = draw(st.integers(0, len(said) - 1))
        stops.append(said[start : start + draw(st.sampled_from([1, 2, 3, 5, 9]))])
    # One that begins another, one of the prompt, one that needs several tokens for a character.
    stops.append(draw(st.sampled_from([stops[0][:-1], "Is it", "good? ASS", *UNICODE])))
    return model, tokenizer, prompts, tuple(filter(None, stops)), kwargs


_COUNT = {"prompts": 0, "stopped": 0, "ties": 0}


@given(cases())
@settings(max_examples=120, deadline=None)
def test_engine_and_generate_stop_at_the_same_token(
    case: tuple[Any, Any, list[list[int]], tuple[str, ...], dict[str, Any]],
) -> None:
    model, tokenizer, prompts, stops, kwargs = case
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    asked = GenerationSettings(9, stops, {"do_sample": False, **kwargs})
    assert unsupported_reason(model, asked) is None
    stopped = StopStrings(stops, tokenizer)
    engine = SharedPrefixEngine(model, pad, [eos])
    found = dict(engine.generate([EncodedPrompt(ids) for ids in prompts], asked, None, stopped))
    for index, ids in enumerate(prompts):
        criteria = StoppingCriteriaList([StopCriterion(stopped, len(ids))])
        expected = reference(model, ids, eos, pad, 9, stopping_criteria=criteria, **kwargs)
        penalty = kwargs.get("length_penalty", 1.0)
        _COUNT["ties"] += is_tie(model, ids, found[index], expected, penalty)
        _COUNT["prompts"] += 1
        _COUNT["stopped"] += any(stop in tokenizer.decode(found[index]) for stop in stops)


def test_most_were_stopped_and_few_were_tied() -> None:
    """Reads what the test above counted."""
    assert _COUNT["stopped"] > 60, _COUNT
    assert _COUNT["ties"] <= max(1, 0.005 * _COUNT["prompts"]), _COUNT
