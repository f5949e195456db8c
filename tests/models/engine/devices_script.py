"""The engine on simulated devices: `test_devices.py` runs this and reads the JSON it prints."""

import copy
import json
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.helpers.simulated_devices import move, simulated_devices, split, waits
from verbalizer_bench.models.engine.calibration import pass_timer
from verbalizer_bench.models.engine.decoder import EncodedPrompt
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.engine.shared_prefix import SharedPrefixEngine

FRONT = list(range(5, 60))
PROMPTS = [EncodedPrompt([*FRONT, 100 + n, *range(200, 205 + n)]) for n in range(5)]
CONTINUATIONS = [[[5, 6], [7]], [[8], [9, 10, 11]]]
BEAMS = GenerationSettings(6, (), {"num_beams": 3, "do_sample": False})
GREEDY = GenerationSettings(6, (), {"do_sample": False})
TWO = {
    **dict.fromkeys(("model.embed_tokens", "model.rotary_emb", "model.layers.0"), "sim:0"),
    **dict.fromkeys(("model.layers.1", "model.norm", "lm_head"), "sim:1"),
}


def llama(dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).to(dtype).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data *= 8
    return model


def outputs(model: Any) -> Any:
    engine = SharedPrefixEngine(model, 0, [2])
    found = [sorted(engine.generate(PROMPTS, each, None)) for each in (BEAMS, GREEDY)]
    scores = sorted(engine.score(PROMPTS[:2], CONTINUATIONS, None))
    pass_timer(engine.decoder)(64)
    return json.loads(json.dumps([*found, scores]))


def waits_a_step(model: Any) -> float:
    """Return how often a step of the loop waits for the device where no prompt ends."""
    counts = []
    for new_tokens in (4, 6):
        waits.clear()
        settings = BEAMS._replace(max_new_tokens=new_tokens)
        list(SharedPrefixEngine(model, 0, []).generate(PROMPTS, settings, None))
        counts.append(waits.total())
    return (counts[1] - counts[0]) / 2


def main() -> None:
    results = {}
    for dtype in (torch.float32, torch.bfloat16):
        model, name = llama(dtype), str(dtype).removeprefix("torch.")
        expected = outputs(model)
        with simulated_devices():
            one, two = copy.deepcopy(model), copy.deepcopy(model)
            move(one, "sim:0")
            split(two, TWO)
            results[f"one, {name}"] = outputs(one) == expected
            results[f"two, {name}"] = outputs(two) == expected
            results["waits"] = waits_a_step(one)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
