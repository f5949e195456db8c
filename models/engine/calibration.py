"""How much an accelerator takes at a time: short passes are timed there, and its memory asked.

A narrow pass takes as long as its kernels' launches or the reading of the weights, however little
is computed: from some width on, which differs by device and model, tokens a second grow no more. A
CPU's budget is a constant that was measured once (`CPU_BUDGET`).
"""

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from accelerate.utils.memory import clear_device_cache

from verbalizer_bench.models.engine.batching import (
    TokenBudget,
    free_memory,
    is_out_of_memory,
    kv_cache_bytes,
)
from verbalizer_bench.models.engine.decoder import EncodedPrompt, PrefixDecoder

log = logging.getLogger(__name__)
# Tokens of the passes that are timed, narrowest first; they are in rows of `_ROW`.
PASSES = (128, 256, 512, 1024, 2048, 4096, 8192)
_ROW = 32
# Wider passes take more memory: the narrowest is taken that is so near to the best rate.
_ENOUGH = 0.95
# The first pass of a width loads kernels and is not counted; no more are begun after these seconds.
_TIMED, _SECONDS = 2, 2.0
# Of free memory: keys and values may have half (`shared_prefix_batch_size`), logits a sixteenth.
# 16 bytes a logit: they have copies in the model's type, in float32 and in the search.
_LOGITS_SHARE, _LOGIT_BYTES = 16, 16


class Calibration(NamedTuple):
    """What was measured on a device for a model.

    Attributes:
        budget: What follows from it.
        rates: Tokens a second by tokens in a pass.
        free_bytes: Memory that was free.
    """

    budget: TokenBudget
    rates: dict[int, float]
    free_bytes: int

    def record(self) -> dict[str, Any]:
        """Return what a run's record says of it."""
        rates = {str(tokens): round(rate) for tokens, rate in self.rates.items()}
        return {
            **self.budget._asdict(),
            "tokens_a_second": rates,
            "free_gib": round(self.free_bytes / 2**30, 2),
        }


def calibrate(model: Any, seconds_of_pass: Callable[[int], float]) -> Calibration:
    """Choose how much to take at a time; say so in one log line.

    Args:
        model: The model.
        seconds_of_pass: Runs a pass of so many tokens and returns its seconds (`pass_timer`).
    """
    rates = _rates(seconds_of_pass)
    best = max(rates.values(), default=0.0)
    enough = [tokens for tokens, rate in rates.items() if rate >= _ENOUGH * best]
    free = free_memory(model)
    vocabulary = int(model.config.get_text_config().vocab_size)
    budget = TokenBudget(
        tokens_per_pass=min(enough, default=PASSES[0]),
        kv_cache_tokens=max(1, free // 2 // kv_cache_bytes(model)),
        logits=max(vocabulary, free // _LOGITS_SHARE // _LOGIT_BYTES),
    )
    log.info(
        "engine: %d tokens a pass (measured, tokens a second: %s), %d tokens of keys and values, "
        "%d logits (%.1f GiB are free)",
        budget.tokens_per_pass,
        ", ".join(f"{tokens}: {rate:.0f}" for tokens, rate in rates.items()) or "no pass fits",
        budget.kv_cache_tokens,
        budget.logits,
        free / 2**30,
    )
    return Calibration(budget, rates, free)


def _rates(seconds_of_pass: Callable[[int], float]) -> dict[int, float]:
    """Return tokens a second by tokens in a pass, until memory or time ends."""
    rates: dict[int, float] = {}
    spent = 0.0
    for tokens in PASSES:
        try:
            seconds = [seconds_of_pass(tokens) for _ in range(1 + _TIMED)][1:]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # The narrower passes fit: those are chosen from.
            break
        rates[tokens] = tokens / min(seconds)
        spent += sum(seconds)
        # A pass of twice the width takes twice the time at most.
        if spent + 2 * sum(seconds) > _SECONDS:
            break
    clear_device_cache(garbage_collection=True)
    return rates


def pass_timer(
    decoder: PrefixDecoder, clock: Callable[[], float] = time.perf_counter
) -> Callable[[int], float]:
    """Return what runs one pass over so many tokens and returns its seconds."""

    def wait() -> None:
        if decoder.device.type != "cpu":
            torch.accelerator.synchronize(decoder.device)

    @torch.inference_mode()
    def seconds_of_pass(tokens: int) -> float:
        vocabulary = decoder.model.get_input_embeddings().weight.shape[0]
        # Different ones: a layer's experts each get some of them. No random number is drawn.
        prompts = [
            EncodedPrompt([(start + place) * 7919 % vocabulary for place in range(_ROW)])
            for start in range(0, tokens, _ROW)
        ]
        cache = decoder.cache(prompts, decoder.prefix([], prompts[0]), beams=1)
        before, decoder.budget = decoder.budget, decoder.budget._replace(tokens_per_pass=tokens)
        try:
            wait()
            began = clock()
            decoder.prefill(prompts, cache)
            wait()
            return clock() - began
        finally:
            decoder.budget = before

    return seconds_of_pass
