"""What a checkpoint makes of an image: how many tokens, and which embeddings; asked once each."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from PIL import Image

from verbalizer_bench.models.engine.support import base_model
from verbalizer_bench.models.images import image_sha256

# Prompts of one image are sorted side by side: few images' embeddings are asked for at a time.
_FEATURES_KEPT = 16


class TokenCounts(NamedTuple):
    """How many tokens the processor adds for an image, and how many of them are image tokens.

    Some put others around and between the image tokens.
    """

    added: int
    image: int


class ImageTokens:
    """The images of one loaded checkpoint's prompts."""

    def __init__(
        self,
        model: Any,
        process: Callable[[list[str], list[list[Image.Image]]], dict[str, torch.Tensor]],
        tokenizer: Any,
        slot: str,
        image_token_id: int,
        blank: Image.Image | None,
    ) -> None:
        """Take what the images are shown to.

        Args:
            model: The model.
            process: Encodes texts with their images.
            tokenizer: Its tokenizer.
            slot: What stands for an image in a text.
            image_token_id: The token that image embeddings take the place of.
            blank: The image of text prompts, which is known without hashing it.
        """
        self.model, self._process, self.tokenizer = model, process, tokenizer
        self.slot, self.image_token_id, self.blank = slot, image_token_id, blank
        self._counts: dict[str, TokenCounts] = {}
        self._numbers: dict[str, int] = {}
        self._features: OrderedDict[str, torch.Tensor] = OrderedDict()

    def counts(self, image: Image.Image) -> TokenCounts:
        """Return how many tokens an image takes, which depends on its size alone."""
        key = "blank" if image is self.blank else str(image.size)
        if key not in self._counts:
            text = f"{self.slot}\n"
            ids = self._process([text], [[image]])["input_ids"][0].tolist()
            added = len(ids) - len(self.tokenizer(text)["input_ids"])
            self._counts[key] = TokenCounts(added, ids.count(self.image_token_id))
        return self._counts[key]

    def ids(self, image: Image.Image) -> list[int]:
        """Return what stands for an image's tokens in an `EncodedPrompt`: -1 - n, n its number."""
        number = self._numbers.setdefault(self._key(image), len(self._numbers))
        return [-1 - number] * self.counts(image).image

    def features(self, image: Image.Image) -> torch.Tensor:
        """Return an image's embeddings, (image tokens, width); the last few images' are kept."""
        key = self._key(image)
        if key not in self._features:
            pixels = self._process([self.slot], [[image]])["pixel_values"]
            with torch.inference_mode():
                output = base_model(self.model).get_image_features(pixels, return_dict=True)
            self._features[key] = torch.cat(list(output.pooler_output))
            if len(self._features) > _FEATURES_KEPT:
                self._features.popitem(last=False)
        self._features.move_to_end(key)
        return self._features[key]

    def _key(self, image: Image.Image) -> str:
        return "blank" if image is self.blank else image_sha256(image)
