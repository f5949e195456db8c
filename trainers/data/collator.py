"""Batches of tensors from rows of training data; images are read here, when they are needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from verbalizer_bench.models.images import IMAGE_ERRORS, read_image
from verbalizer_bench.trainers.recipe import LossWeights

ASPECT_RATIOS = ("square", "pad")
IGNORED = -100


def pad_to_square(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    """Return the image in the middle of a square of a mean colour (LLaVA-1.5).

    Args:
        image: RGB, of any size.
        mean: The colour as an image processor has it, three levels from 0 to 1.
    """
    side = max(image.size)
    red, green, blue = (int(level * 255) for level in mean)
    square = Image.new("RGB", (side, side), (red, green, blue))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


class Collator:
    """Make a batch of rows: padded on the right, labels on answers, pixels where there are images.

    Args:
        image_processor: The checkpoint's, None where nothing has images.
        pad_token_id: Fills `input_ids`; any id will do, `attention_mask` is 0 there.
        image_token_id: The id that stands for an image, None where nothing has images.
        image_tokens: How many of it a model takes for one image.
        weights: What tokens count, None for the answers alone.
        images: The folder that names in the rows are relative to.
        aspect_ratio: `pad` pads to a square in the mean colour; `square` leaves an image to the
            processor, which crops or squeezes it.
    """

    def __init__(
        self,
        image_processor: Any,
        pad_token_id: int,
        image_token_id: int | None,
        image_tokens: int,
        images: Path | None,
        aspect_ratio: str,
        weights: LossWeights | None = None,
    ):
        if aspect_ratio not in ASPECT_RATIOS:
            raise ValueError(
                f"image_aspect_ratio={aspect_ratio!r}: it is {' or '.join(ASPECT_RATIOS)}"
            )
        self.image_processor = image_processor
        self.pad_token_id = pad_token_id
        self.image_token_id = image_token_id
        self.image_tokens = image_tokens
        self.images = images
        self.aspect_ratio = aspect_ratio
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
        for number, (ids, answer) in enumerate(expanded):
            input_ids[number, : len(ids)] = ids
            attention_mask[number, : len(ids)] = 1
            labels[number, : len(ids)] = np.where(answer, ids, IGNORED)
        batch = {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(attention_mask),
            "labels": torch.from_numpy(labels),
        }
        if self.weights:
            batch["loss_weights"] = self._loss_weights(batch)
        pixels = [self._read(row, name) for row in rows for name in row.get("images") or ()]
        if pixels:
            batch["pixel_values"] = self.image_processor(images=pixels, return_tensors="pt")[
                "pixel_values"
            ]
        return batch

    def _loss_weights(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        assert self.weights
        answers = batch["labels"] != IGNORED
        short = answers.sum(1, keepdim=True) <= self.weights.short_tokens
        prompt = batch["attention_mask"].bool() & ~answers
        if self.image_token_id is not None:
            prompt &= batch["input_ids"] != self.image_token_id
        answer = torch.where(short, self.weights.short_answer, 1.0)
        return answers * answer + prompt * self.weights.prompt

    def _expand(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and the answer mask of a row, with every image as long as it is."""
        ids = np.array(row["input_ids"], np.int64)
        answer = np.array(row["answer"], np.bool_)
        if self.image_token_id is None:
            return ids, answer
        widths = np.where(ids == self.image_token_id, self.image_tokens, 1)
        return ids.repeat(widths), answer.repeat(widths)

    def _read(self, row: Mapping[str, Any], name: str) -> Image.Image:
        path = (self.images or Path()) / name
        try:
            image = read_image(path)
        except IMAGE_ERRORS as error:
            raise ValueError(
                f"record {row['record']}: image {path} cannot be read any more "
                f"({error}); put it back, or delete the cache and build again"
            ) from error
        if self.aspect_ratio == "pad":
            return pad_to_square(image, self.image_processor.image_mean)
        return image
