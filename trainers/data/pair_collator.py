"""Batches of preference pairs: the preferred answers' rows, then the others'."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from verbalizer_bench.trainers.data.collator import IGNORED, Collator
from verbalizer_bench.trainers.data.processor_collator import ProcessorCollator

# Log-probabilities of the preferred answer and of the other one under the reference, by `pair_key`.
ReferenceLogps = Mapping[str, tuple[float, float]]


def pair_key(row: Mapping[str, Any], images: Sequence[str | None]) -> str:
    """Return what tells a row's pair from others.

    Args:
        row: Of training data.
        images: What stands for the row's images: their names or their contents.
    """
    ids = [list(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    return hashlib.sha256(json.dumps([ids, list(images)]).encode()).hexdigest()[:32]


class PairRows:
    """What makes rows of a collator's of pairs, as TRL's `DPOTrainer` takes them.

    Attributes:
        reference: Reference log-probabilities by pair, images by their names; None while they are
            computed.
        shows_twice: Whether a batch has a pair's images for either of its rows.
    """

    reference: ReferenceLogps | None = None
    shows_twice = False

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask` and `completion_mask`, (2 x pairs, longest), int64.

        The first half are the preferred answers. With a reference, `ref_chosen_logps` and
        `ref_rejected_logps` (pairs,), float32. What images become is there once for each image of a
        pair, or twice.

        Raises:
            ValueError: An image cannot be read; names the record and the file.
        """
        chosen = [self._answered(row, "chosen", row.get("pictures")) for row in rows]
        rejected = [
            self._answered(row, "rejected", row.get("pictures") if self.shows_twice else ())
            for row in rows
        ]
        batch = super().__call__(chosen + rejected)  # type: ignore[misc]
        batch["completion_mask"] = (batch.pop("labels") != IGNORED).long()
        if self.reference is not None:
            keys = [pair_key(row, row.get("pictures") or ()) for row in rows]
            logps = torch.tensor([self.reference[key] for key in keys])
            batch["ref_chosen_logps"], batch["ref_rejected_logps"] = logps.unbind(1)
        return dict(batch)

    @staticmethod
    def _answered(row: Mapping[str, Any], answer: str, images: Any) -> dict[str, Any]:
        """Return a pair's row with one of its answers, as a conversation's."""
        prompt, ids = list(row["prompt_ids"]), list(row[f"{answer}_ids"])
        return {
            "record": row["record"],
            "input_ids": prompt + ids,
            "assistant_mask": [False] * len(prompt) + [True] * len(ids),
            "text": row.get(f"{answer}_text"),
            "images": images,
        }


class PairCollator(PairRows, Collator):
    """Make a batch of a LLaVA's or a text model's pairs; a LLaVA uses what images become twice."""


class ProcessorPairCollator(PairRows, ProcessorCollator):
    """Make a batch of pairs by a checkpoint's own processor."""

    shows_twice = True
