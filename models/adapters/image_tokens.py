"""What a checkpoint's processor makes of images: which text, and how many tokens; asked once."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image

from verbalizer_bench.io.images import image_sha256
from verbalizer_bench.models.chat.image_slots import put_in, written_for
from verbalizer_bench.models.engine.decoder import EncodedPrompt, PromptHead

Inputs = dict[str, torch.Tensor]


class ImageTokens:
    """The images of one loaded checkpoint's prompts."""

    def __init__(
        self,
        process: Callable[[str, Sequence[Image.Image]], Inputs],
        processor: Any,
        slot: str,
        image_token_ids: Collection[int],
        blank: Image.Image | None,
    ) -> None:
        """Take what the images are shown to.

        Args:
            process: Encodes a text with its images.
            processor: The checkpoint's, which `process` calls.
            slot: What stands for an image in a text.
            image_token_ids: The tokens whose embeddings come from an image.
            blank: The image of text prompts, which is known without hashing it.
        """
        self._process, self._processor = process, processor
        self.slot, self.image_token_ids, self.blank = slot, image_token_ids, blank
        self._written: dict[tuple[str, ...], list[str] | None] = {}
        self._added: dict[tuple[str, ...], int] = {}
        self._numbers: dict[tuple[str, ...], int] = {}

    def expanded(self, text: str, images: Sequence[Image.Image]) -> str | None:
        """Return a text with what the processor writes for its images in the slots.

        None where it does not write into the slots, or rewrites the text around them.
        """
        key = self._key(images)
        if key not in self._written:
            # Llama 3.2's processor writes a BOS in front of a text that has none.
            front = self._processor.tokenizer.bos_token or ""
            self._written[key] = written_for(
                self._process, self._processor, self.slot, images, front
            )
        written = self._written[key]
        return None if written is None else put_in(text, self.slot, written)

    def added(self, images: Sequence[Image.Image]) -> int:
        """Return how many tokens the processor adds to a text for these images."""
        key = self._key(images)
        if key not in self._added:
            text = self.slot * len(images) + "\n"
            ids = self._process(text, images)["input_ids"][0]
            self._added[key] = len(ids) - len(self._processor.tokenizer(text)["input_ids"])
        return self._added[key]

    def image_tokens(self, image: Image.Image) -> int:
        """Return how many tokens have an image's embeddings."""
        ids = self._process(self.slot, [image])["input_ids"][0]
        return sum(token in self.image_token_ids for token in ids.tolist())

    def encoded(
        self, ids: Sequence[int], text: str, images: Sequence[Image.Image]
    ) -> EncodedPrompt | None:
        """Return a prompt as the engine takes it; None where no image token or no text ends it.

        Args:
            ids: Its tokens, those of images expanded.
            text: It as the processor takes it.
            images: Its images.
        """
        mark = -1 - self._numbers.setdefault(self._key(images), len(self._numbers))
        marked = [mark if token in self.image_token_ids else token for token in ids]
        if mark not in marked or marked[-1] == mark:
            return None
        length = len(marked) - marked[::-1].index(mark)
        head = partial(self._head, length, ids, text, images)
        return EncodedPrompt(marked, PromptHead(length, head))

    def _head(
        self, length: int, ids: Sequence[int], text: str, images: Sequence[Image.Image]
    ) -> Inputs:
        inputs = self._process(text, images)
        if inputs["input_ids"][0].tolist() != list(ids):
            # Idefics2's joins the marks of images that stand side by side, say.
            raise ValueError(
                f"the processor {type(self._processor).__name__} makes other tokens of a prompt "
                f"than of its parts: {text[:80]!r}…; give engine=generate"
            )
        shape = inputs["input_ids"].shape
        # Ids, masks and token types have the shape of the ids; pixels and sizes go whole.
        return {
            name: tensor[:, :length] if getattr(tensor, "shape", None) == shape else tensor
            for name, tensor in inputs.items()
        }

    def _key(self, images: Sequence[Image.Image]) -> tuple[str, ...]:
        return tuple("blank" if image is self.blank else image_sha256(image) for image in images)
