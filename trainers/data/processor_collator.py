"""Batches that a checkpoint's own processor makes of texts and images."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from verbalizer_bench.trainers.choices import LossWeights
from verbalizer_bench.trainers.conversations.processor_texts import ProcessorTexts
from verbalizer_bench.trainers.data.collator import IGNORED, Collator


class ProcessorCollator(Collator):
    """Make a batch of rows: all that the processor makes of them, with labels on answers."""

    def __init__(
        self, texts: ProcessorTexts, images: Path | None, weights: LossWeights | None = None
    ):
        """Take a checkpoint's processor.

        Args:
            texts: Asks it.
            images: The folder that names in the rows are relative to.
            weights: How much tokens count, None for the answers alone.
        """
        pad = texts.processor.tokenizer.pad_token_id
        super().__init__(texts.processor.image_processor, pad, None, 1, images, weights)
        self.texts = texts

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return what the processor makes, padded on the right, and `labels`, like `input_ids`.

        With `weights`, `loss_weights` (rows, longest), float32.

        Raises:
            ValueError: An image cannot be read, or the processor makes other tokens than those that
                were encoded; names the record.
        """
        images = [[self._read(row, name) for name in row.get("images") or ()] for row in rows]
        batch = dict(self.texts.encode([row["text"] for row in rows], images))
        for row, ids in zip(rows, batch["input_ids"].tolist(), strict=True):
            self._check(row, ids)
        batch = self._cut(batch, [len(row["input_ids"]) for row in rows])
        labels = torch.full_like(batch["input_ids"], IGNORED)
        for number, row in enumerate(rows):
            mask = torch.tensor(row["assistant_mask"], dtype=torch.bool)
            labels[number, : len(mask)][mask] = batch["input_ids"][number, : len(mask)][mask]
        batch["labels"] = labels
        if self.weights:
            batch["loss_weights"] = self._loss_weights(batch, self.weights)
        return batch

    def _image_token_ids(self) -> Collection[int]:
        return self.texts.image_token_ids

    def _check(self, row: Mapping[str, Any], ids: Sequence[int]) -> None:
        """Raise ValueError unless a row's ids are those that were encoded."""
        wanted = list(row["input_ids"])
        if list(ids[: len(wanted)]) == wanted:
            return
        place = next(
            (n for n, (a, b) in enumerate(zip(ids, wanted, strict=False)) if a != b), len(ids)
        )
        words = self.texts.processor.tokenizer.convert_ids_to_tokens
        made, encoded = (words(list(one[place : place + 3])) for one in (ids, wanted))
        raise ValueError(
            f"record {row['record'] + 1}: {type(self.texts.processor).__name__} makes {made} of it "
            f"from token {place} on, and it was encoded as {encoded}; delete the cache and build "
            "again, and leave the record out if that does not help"
        )

    def _cut(
        self, batch: Mapping[str, torch.Tensor], lengths: Sequence[int]
    ) -> dict[str, torch.Tensor]:
        """Return a batch whose rows are cut to lengths: what has a value for each token."""
        shape, longest = batch["input_ids"].shape, max(lengths)
        behind = torch.arange(longest) >= torch.tensor(lengths)[:, None]
        cut = {}
        for name, tensor in batch.items():
            if tensor.shape[:2] != shape:
                cut[name] = tensor
                continue
            cut[name] = tensor[:, :longest].clone()
            cut[name][behind] = self.pad_token_id if name == "input_ids" else 0
        return cut
