"""Batches of tensors from rows of training data; images are read here, when they are needed."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from verbalizer_bench.io.images import IMAGE_ERRORS, read_image
from verbalizer_bench.trainers.choices import LossWeights

IGNORED = -100


class Collator:
    """Make a batch of rows: padded on the right, labels on answers, pixels where there are images.

    Args:
        image_processor: The checkpoint's, None where nothing has images.
        pad_token_id: Fills `input_ids`; any id will do, `attention_mask` is 0 there.
        image_token_id: The id that stands for an image, None where nothing has images.
        image_tokens: How many of it a model takes for one image.
        images: The folder that names in the rows are relative to.
        weights: How much tokens count, None for the answers alone.
    """

    def __init__(
        self,
        image_processor: Any,
        pad_token_id: int,
        image_token_id: int | None,
        image_tokens: int,
        images: Path | None,
        weights: LossWeights | None = None,
    ):
        self.image_processor = image_processor
        self.pad_token_id = pad_token_id
        self.image_token_id = image_token_id
        self.image_tokens = image_tokens
        self.images = images
        self.weights = weights

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask` and `labels`, all (rows, longest), int64.

        Where rows have images, `pixel_values` (images, channels, height, width) too, in the order
        in which their tokens stand. With `weights`, `loss_weights` (rows, longest), float32.

        Raises:
            ValueError: An image cannot be read; names the record and the file.
        """
        expanded = [self._expand(row) for row in rows]
        shape = len(rows), max(len(ids) for ids, _ in expanded)
        # In numpy, where small arrays take a fifth of the time that tensors do.
        input_ids = np.full(shape, self.pad_token_id, np.int64)
        attention_mask = np.zeros(shape, np.int64)
        labels = np.full(shape, IGNORED, np.int64)
        for number, (ids, assistant_mask) in enumerate(expanded):
            input_ids[number, : len(ids)] = ids
            attention_mask[number, : len(ids)] = 1
            labels[number, : len(ids)] = np.where(assistant_mask, ids, IGNORED)
        batch = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(attention_mask),
            "labels": torch.from_numpy(labels),
        }
        if self.weights:
            batch["loss_weights"] = self._loss_weights(batch, self.weights)
        images = [self._read(row, name) for row in rows for name in row.get("images") or ()]
        if images:
            pixels = self.image_processor(images=images, return_tensors="pt")
            batch["pixel_values"] = pixels["pixel_values"]
        return batch

    def _loss_weights(
        self, batch: Mapping[str, torch.Tensor], weights: LossWeights
    ) -> torch.Tensor:
        answers = batch["labels"] != IGNORED
        short = answers.sum(1, keepdim=True) <= weights.short_tokens
        prompt = batch["attention_mask"].bool() & ~answers
        for token in self._image_token_ids():
            prompt &= batch["input_ids"] != token
        answer = torch.where(short, weights.short_answer, 1.0)
        return answers * answer + prompt * weights.prompt

    def _image_token_ids(self) -> Collection[int]:
        return () if self.image_token_id is None else (self.image_token_id,)

    def _expand(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and the assistant mask of a row, each image at its full length."""
        ids = np.array(row["input_ids"], np.int64)
        assistant_mask = np.array(row["assistant_mask"], np.bool_)
        if self.image_token_id is None:
            return ids, assistant_mask
        widths = np.where(ids == self.image_token_id, self.image_tokens, 1)
        return ids.repeat(widths), assistant_mask.repeat(widths)

    def _read(self, row: Mapping[str, Any], name: str) -> Image.Image:
        path = (self.images or Path()) / name
        try:
            return read_image(path)
        except IMAGE_ERRORS as error:
            raise ValueError(
                f"record {row['record'] + 1}: image {path} cannot be read any more "
                f"({error}); put it back, or delete the cache and build again"
            ) from error
