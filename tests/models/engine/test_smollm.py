"""The engine against `generate` on a real model and real prompts: `make test-smollm`, minutes."""

from pathlib import Path

import pytest

from benchmarks.measure import cpu_seconds
from benchmarks.precision_arms import (
    ENGINE,
    NEW_TOKENS,
    MeasuredModel,
    PrecisionArm,
    asked_documents,
    load,
    prompt_ids,
    shared_prefix_tokens,
)
from tests.helpers.references import is_tie, reference
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings

PROMPTS = 36  # four of each data set


@pytest.mark.smollm
@pytest.mark.parametrize("beams", [10, 1])
def test_float32_token_for_token(smollm: Path, real_data: Path, beams: int) -> None:
    model = MeasuredModel("SmolLM2-135M-Instruct", smollm, chat=True, documents=1)
    lm = load(PrecisionArm(ENGINE, "float32", beams), model)
    asked = asked_documents(str(real_data), model.documents)[:: 108 // PROMPTS]
    prompts = prompt_ids(lm, asked, model.chat)
    settings = GenerationSettings(NEW_TOKENS, (), {"num_beams": beams, "do_sample": False})
    start = cpu_seconds()
    found = dict(shared_prefix_tokens(lm, prompts, settings))
    middle = cpu_seconds()
    (eos,) = lm.eos_token_ids
    pad = lm.tokenizer.pad_token_id
    expected = [reference(lm.model, ids, eos, pad, NEW_TOKENS, num_beams=beams) for ids in prompts]
    end = cpu_seconds()
    ties = sum(is_tie(lm.model, prompts[n], found[n], expected[n], 1.0) for n in found)
    print(
        f"\n{len(prompts)} prompts, {beams} beams: {ties} ties; CPU seconds a response: engine "
        f"{(middle - start) / len(prompts):.2f}, generate {(end - middle) / len(prompts):.2f}"
    )
    assert len(prompts) == PROMPTS and len(set(map(tuple, found.values()))) > PROMPTS / 4
    assert ties <= 0.005 * len(prompts)
