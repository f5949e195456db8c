"""What bfloat16 changes: `generate` against itself in batches, and the engine against it.

`python -m pytest -m slow -s tests/models/adapters/test_bfloat16.py` prints the counts.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.checkpoints import read_suite
from tests.helpers.asking import requests
from verbalizer_bench.models.adapters.llm import VerbalizerLLM

DOCUMENTS = 2  # of each of the 108 tasks
BATCH = 8


def responses(folder: Path, prompts: Sequence[str], engine: str, size: int) -> list[str]:
    lm = VerbalizerLLM(str(folder), dtype="bfloat16", device="cpu", engine=engine, batch_size=size)
    return lm.generate_until(requests(prompts), disable_tqdm=True)


def padded(folder: Path, prompts: Sequence[str]) -> list[int]:
    """Return the prompts that `generate` pads in batches of the longest first."""
    lm = VerbalizerLLM(str(folder), device="cpu")
    lengths = [len(lm._prompt(request, 15)) for request in requests(prompts)]
    order = sorted(range(len(prompts)), key=lambda i: -lengths[i])
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    return [i for batch in batches for i in batch if lengths[i] < lengths[batch[0]]]


@pytest.mark.slow
def test_the_engine_agrees_with_generate_as_often_as_a_padded_batch(
    stories: Path, real_data: Path
) -> None:
    """Rows without padding take part in the same sums as alone: they agree with themselves."""
    suite = read_suite(str(real_data))
    prompts = [text for name in sorted(suite.prompts) for text in suite.prompts[name][:DOCUMENTS]]
    alone = responses(stories, prompts, "generate", 1)
    batched = responses(stories, prompts, "generate", BATCH)
    shared = responses(stories, prompts, "shared_prefix", 1)
    rows = padded(stories, prompts)
    counts = {
        name: (
            sum(a == b for a, b in zip(found, alone, strict=True)),
            sum(found[i] == alone[i] for i in rows),
        )
        for name, found in (("generate in batches", batched), ("engine", shared))
    }
    print(f"equal to generate alone, of {len(prompts)} and of {len(rows)} padded: {counts}")
    # Both are noise around the same share: a tenth is some two standard errors of the difference.
    assert counts["engine"][1] >= counts["generate in batches"][1] - 0.1 * len(rows)
