"""Batches without padding: a micro-batch's records one behind the other, in one row.

A record's positions begin at 0 again, by which transformers tells where it begins: no token sees
another record's. Nothing is cut or moved to another step, so that loss and gradient are those of
the padded batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from verbalizer_bench.trainers.data.collator import IGNORED, Collator

# Families of language models for which a test shows it: each token's loss and all gradients are
# those of the padded batch. Not among them are models with a state that runs on into the next
# record (Mamba and its kin), and those that do not take the positions that they are given (OPT,
# BLOOM, MPT, Falcon).
FLAT_FAMILIES = frozenset(
    {
        *("llama", "llama4_text", "mistral", "mixtral", "ministral", "ministral3"),
        *("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "phi", "phi3", "phimoe"),
        *("gemma", "gemma2", "gemma3_text", "gemma3n_text", "gemma4_text", "vaultgemma"),
        *("olmo", "olmo2", "olmo3", "olmoe", "flex_olmo", "smollm3", "nanochat"),
        *("cohere", "cohere2", "granite", "granitemoe", "granitemoeshared"),
        *("starcoder2", "stablelm", "nemotron", "arcee", "apertus", "helium", "cwm"),
        *("glm", "glm4", "glm4_moe", "ernie4_5", "ernie4_5_moe", "minicpm3", "minimax_m2"),
        *("hunyuan_v1_dense", "hunyuan_v1_moe", "deepseek_v2", "deepseek_v3", "dots1"),
        *("internlm3", "exaone4", "hyperclovax", "seed_oss", "bitnet", "diffllama", "jetmoe"),
        *("gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "persimmon"),
    }
)
# And of models that see, whose language model is one of those.
SEEING_FAMILIES = frozenset({"llava", "mof_llava"})
_BY_TOKEN = ("input_ids", "labels", "loss_weights")


def check_flat(config: Any) -> None:
    """Refuse a model for which it is not shown that records do not see each other.

    Raises:
        ValueError: It is of another family.
    """
    text = config.get_text_config()
    seeing = [] if text is config else [(config.model_type, SEEING_FAMILIES)]
    for kind, shown in [*seeing, (text.model_type, FLAT_FAMILIES)]:
        if kind not in shown:
            raise ValueError(
                f"packing: that a model of type {kind} keeps the records of a row apart is not "
                f"shown; it is for {', '.join(sorted(shown))}; leave packing out"
            )


def flat_batch(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a collator's batch in one row.

    Args:
        batch: `input_ids`, `attention_mask`, `labels` and perhaps `loss_weights` (rows, longest),
            padded on the right; what else there is stays as it is.

    Returns:
        These but `attention_mask`, (1, tokens), and `position_ids` (1, tokens), int64. The first
        token of a record, which nothing predicts, has no label and no weight.
    """
    kept = batch["attention_mask"].bool()
    positions = (batch["attention_mask"].cumsum(1) - 1)[kept]
    flat = {name: batch[name][kept] for name in _BY_TOKEN if name in batch}
    flat["labels"][positions == 0] = IGNORED
    if "loss_weights" in flat:
        flat["loss_weights"][positions == 0] = 0
    flat["position_ids"] = positions
    others = {name: batch[name] for name in batch if name not in (*_BY_TOKEN, "attention_mask")}
    return {name: value[None] for name, value in flat.items()} | others


class FlatCollator:
    """A collator of batches without padding.

    Args:
        padded: The collator of the same records with padding.
    """

    def __init__(self, padded: Collator):
        self.padded = padded

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return a batch as `flat_batch` has it."""
        return flat_batch(self.padded(rows))
