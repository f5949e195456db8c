"""A checkpoint's own processor, as training asks it: what an image becomes, and batches.

What it writes for images depends on their sizes. It is asked once for each, with a white image, and
the collator compares what it makes of the images themselves.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

import transformers
from PIL import Image

from verbalizer_bench.models.chat.bos import openings
from verbalizer_bench.models.chat.image_slots import put_in, text_encoded, written_for
from verbalizer_bench.models.checkpoints.strict_loading import one_line

Size = tuple[int, int]
# Combinations of sizes that are remembered.
_REMEMBERED = 4096
_PROBE_SIZES: tuple[Size, Size] = ((64, 48), (40, 80))


class ProcessorTexts:
    """Turns texts with image slots, and their images, into what a model takes.

    Attributes:
        processor: The checkpoint's.
        slot: What stands for an image in a text.
        image_token_ids: The ids whose embeddings come from an image.
    """

    def __init__(self, processor: Any, image_token_ids: Collection[int], flat: bool = False):
        """Take a processor and try it.

        Args:
            processor: The checkpoint's.
            image_token_ids: The ids whose embeddings come from an image.
            flat: It takes the images of several texts as one list, not as a list for each.

        Raises:
            ValueError: What it makes of a text with images cannot be known, in one line.
        """
        self.processor, self.image_token_ids, self._flat = processor, image_token_ids, flat
        tokenizer = processor.tokenizer
        named = tokenizer.convert_ids_to_tokens(list(image_token_ids)[:1])
        self.slot = str(getattr(processor, "image_token", None) or "".join(named))
        self._openings = openings(tokenizer)
        # Llama 3.2's processor writes a BOS in front of a text that has none.
        self._front = tokenizer.bos_token or ""
        self._written: dict[tuple[Size, ...], list[str]] = {}
        self._check()

    def fingerprint(self) -> str:
        """Return all that texts depend on besides the template, as JSON."""
        parts = [type(self.processor).__name__, self.processor.to_dict(), transformers.__version__]
        return json.dumps(parts, sort_keys=True, default=str)

    def written(self, sizes: Sequence[Size]) -> list[str]:
        """Return what is written for each image of a text.

        Args:
            sizes: Width and height of all of its images.

        Raises:
            ValueError: It cannot be told.
        """
        key = tuple(sizes)
        if key not in self._written:
            if len(self._written) >= _REMEMBERED:
                self._written.clear()
            images = _white(sizes)
            found = written_for(self._process, self.processor, self.slot, images, self._front)
            if found is None:
                raise ValueError(self._why_not(sizes))
            self._written[key] = found
        return self._written[key]

    def encode(self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]) -> Any:
        """Return what the processor makes of a batch, padded on the right.

        Args:
            texts: With a slot for each image.
            images: Of each text.
        """
        options: dict[str, Any] = {"padding": True, "padding_side": "right"}
        if all(text.startswith(self._openings) for text in texts):
            options["add_special_tokens"] = False
        shown: Any = [list(row) for row in images]
        if self._flat:
            shown = [image for row in images for image in row]
        return self.processor(
            text=list(texts),
            images=shown if any(images) else None,
            return_tensors="pt",
            **options,
        )

    def _process(self, text: str, images: Sequence[Image.Image]) -> Any:
        return self.encode([text], [images])

    def _check(self) -> None:
        """Raise ValueError unless it writes in the slots alone, whatever stands beside them."""
        if self.processor.tokenizer.pad_token is None:
            raise ValueError(
                self._refusal("cannot pad: its tokenizer has no pad_token", "give it one")
            )
        images, slot = _white(_PROBE_SIZES), self.slot
        for text in (f"a{slot}b {slot}\nc", f"a\n{slot}{slot}b", f"{slot}\n{slot}\n"):
            text = self._front + text
            seen = text_encoded(self._process, self.processor, text, images)
            if seen is None:
                raise ValueError(self._refusal("encodes no text that could be seen"))
            if seen != put_in(text, slot, self.written(_PROBE_SIZES)):
                raise ValueError(self._refusal("changes the text around images"))

    def _why_not(self, sizes: Sequence[Size]) -> str:
        """Return why it does not say what it writes for images."""
        name, images = type(self.processor).__name__, _named(sizes)
        try:
            self._process(" ".join([self.slot] * len(sizes)), _white(sizes))
        except Exception as error:  # A processor may raise anything.
            return f"{name} takes no {images}: {one_line(error)}"
        return self._refusal(f"does not say what it writes for {images}")

    def _refusal(self, why: str, fix: str = "give a checkpoint of another family") -> str:
        return (
            f"its processor, {type(self.processor).__name__}, {why}, so that the tokens that are "
            f"trained cannot be told from those of images; {fix}"
        )


def _white(sizes: Sequence[Size]) -> list[Image.Image]:
    return [Image.new("RGB", size, "white") for size in sizes]


def _named(sizes: Sequence[Size]) -> str:
    shown = ", ".join(f"{width}x{height}" for width, height in sizes)
    return f"images of {shown} pixels"
