"""A run stops where logits are no numbers, in every search, in scores, and in the middle of one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance

from tests.helpers.asking import STORY, load, requests
from tests.helpers.asking_lvlm import load as load_lvlm
from verbalizer_bench.models.adapters.llm import VerbalizerLLM

NAN, INFINITY = float("nan"), float("inf")
PROMPTS = [STORY[:end] for end in (10, 30, 55, 80)]
SEARCHES: list[dict[str, Any]] = [
    {"num_beams": 1},
    {"num_beams": 10},
    {"num_beams": 1, "do_sample": True},
    {"num_beams": 3, "do_sample": True},
]


def generate(lm: Any, **search: Any) -> list[str]:
    found: list[str] = lm.generate_until(requests(PROMPTS, **search), disable_tqdm=True)
    return found


def weight_of(lm: Any) -> torch.Tensor:
    layers = getattr(lm.model.model, "language_model", lm.model.model).layers
    weight: torch.Tensor = layers[1].mlp.down_proj.weight.data
    return weight


@pytest.mark.parametrize("engine", ["auto", "generate"])
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("value", [NAN, INFINITY])
def test_weights_that_are_no_numbers_stop_a_run(
    toys: tuple[Path, Path], engine: str, search: dict[str, Any], value: float
) -> None:
    lm = load(VerbalizerLLM, toys[0], engine=engine)
    # What hides them is not let in.
    lm.model.generation_config.remove_invalid_values = True
    weight_of(lm)[0, 0] = value
    with pytest.raises(ValueError, match=r"logits are not finite .* in float32; 1 of its weights"):
        generate(lm, **search)


@pytest.mark.parametrize("engine", ["shared_prefix", "generate"])
@pytest.mark.parametrize("beams", [1, 10])
def test_logits_that_break_in_the_middle_stop_a_run(
    toys: tuple[Path, Path], engine: str, beams: int
) -> None:
    """The first prompt's first token is fine; one beam of some prompt then takes a bad token."""
    lm = load(VerbalizerLLM, toys[0], engine=engine)
    embeddings = lm.model.get_input_embeddings().weight
    lm.model.lm_head.weight = torch.nn.Parameter(embeddings.detach().clone())
    token = lm.tokenizer.encode(generate(lm, num_beams=beams)[0], add_special_tokens=False)[0]
    prompts = {number for prompt in PROMPTS for number in lm.tokenizer.encode(prompt)}
    assert token not in prompts
    embeddings.data[token] = NAN
    with pytest.raises(ValueError, match="logits are not finite"):
        generate(lm, num_beams=beams)


def test_float16_is_told_of_bfloat16(toys: tuple[Path, Path]) -> None:
    for engine in ("auto", "shared_prefix"):
        lm = VerbalizerLLM(str(toys[0]), dtype="float16", device="cpu", engine=engine)
        generate(lm, num_beams=2)
        weight_of(lm).fill_(60000.0)
        with pytest.raises(ValueError, match=r"in float16; .*: give dtype=bfloat16 or float32$"):
            generate(lm, num_beams=2)


def test_mixed_precision_is_told_of_bfloat16(toys: tuple[Path, Path]) -> None:
    lm = load(VerbalizerLLM, toys[0], mixed_precision_dtype="float16")
    generate(lm, num_beams=2)
    weight_of(lm).fill_(60000.0)
    with pytest.raises(ValueError, match=r"in float16; .*: give mixed_precision_dtype=bfloat16"):
        generate(lm, num_beams=2)


def test_tokens_that_are_suppressed_are_no_fault(toys: tuple[Path, Path]) -> None:
    lm = load(VerbalizerLLM, toys[0], engine="generate")
    free = generate(lm)
    tokens = lm.tokenizer.encode(free[0], add_special_tokens=False)
    lm.model.generation_config.suppress_tokens = tokens
    assert generate(lm) != free
    # A model may do so itself, which beams in float32 survive in either engine.
    head = lm.model.lm_head
    head.register_forward_hook(lambda m, i, o: o.index_fill(-1, torch.tensor(tokens), -INFINITY))
    lm.model.generation_config.suppress_tokens = None
    expected = generate(lm)
    lm.engine = "shared_prefix"
    for search in ({"num_beams": 10}, {"num_beams": 1}):
        lm.engine = "generate"
        expected = generate(lm, **search)
        lm.engine = "shared_prefix"
        assert generate(lm, **search) == expected


def pairs() -> list[Instance]:
    texts = [(prompt, f" {word}") for prompt in PROMPTS for word in ("park", "a big dog")]
    return [Instance("loglikelihood", {}, pair, 0) for pair in texts]


@pytest.mark.parametrize("engine", ["shared_prefix", "generate"])
def test_scores_of_logits_that_are_no_numbers_stop_a_run(
    toys: tuple[Path, Path], engine: str
) -> None:
    for lm in (load(VerbalizerLLM, toys[0], engine=engine), load_lvlm(toys[1], engine=engine)):
        lm.loglikelihood(pairs(), disable_tqdm=True)
        weight_of(lm)[0, 0] = NAN
        with pytest.raises(ValueError, match="logits are not finite"):
            lm.loglikelihood(pairs(), disable_tqdm=True)
    rolling = [Instance("loglikelihood_rolling", {}, (STORY,), 0)]
    lm = load_lvlm(toys[1], image="none")
    lm.loglikelihood_rolling(rolling, disable_tqdm=True)
    weight_of(lm)[0, 0] = NAN
    with pytest.raises(ValueError, match="logits are not finite"):
        lm.loglikelihood_rolling(rolling, disable_tqdm=True)


def test_an_lvlm_stops_too(toys: tuple[Path, Path]) -> None:
    for engine in ("auto", "generate"):
        lm = load_lvlm(toys[1], engine=engine)
        lm.model.model.multi_modal_projector.linear_1.weight.data[0, 0] = NAN
        with pytest.raises(ValueError, match=r"not finite .*multi_modal_projector\.linear_1\.wei"):
            generate(lm)
