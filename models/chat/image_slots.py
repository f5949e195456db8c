"""What a checkpoint's processor writes where a text has a slot for an image.

A chat template writes one slot an image. The processor puts other text in its place before it
encodes it: as many image tokens as the image has patches, with marks of rows, tiles and ends. So
what a model is trained on and asked with is that text, encoded.
"""

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

# Stands between two images, so that what the processor writes for each can be told: a character of
# private use, which no processor writes.
_BETWEEN = "\n\ue000\n"
Process = Callable[[str, Sequence[Image.Image]], Any]


def written_for(
    process: Process, processor: Any, slot: str, images: Sequence[Image.Image], front: str = ""
) -> list[str] | None:
    """Return what a processor writes for each image of a text; None if that cannot be told.

    Args:
        process: Encodes a text with its images, by the processor.
        processor: The checkpoint's, which `process` calls.
        slot: What stands for an image in a text.
        images: All of a text: some processors write less for each where there are several.
        front: What the text begins with: some processors write a BOS where there is none.
    """
    asked = front + _BETWEEN.join([slot] * len(images))
    text = text_encoded(process, processor, asked, images)
    written = text.removeprefix(front).split(_BETWEEN) if text is not None else []
    return written if len(written) == len(images) else None


def text_encoded(
    process: Process, processor: Any, text: str, images: Sequence[Image.Image]
) -> str | None:
    """Return the text that a processor has its tokenizer encode for a text with images.

    None if it cannot be told.
    """
    seen = _SeenTexts(processor.tokenizer)
    processor.tokenizer = seen
    try:
        process(text, images)
    except Exception:  # Whatever a processor says to a tokenizer that is not its own class.
        return None
    finally:
        processor.tokenizer = seen.tokenizer
    found = seen.texts[-1] if seen.texts else None
    found = found[0] if isinstance(found, list) and len(found) == 1 else found
    return found if isinstance(found, str) else None


def put_in(text: str, slot: str, written: Sequence[str]) -> str | None:
    """Return a text with what is written for its images in their slots.

    None if it has not as many slots.
    """
    if text.count(slot) != len(written):
        return None
    first, *others = text.split(slot)
    return first + "".join(map(str.__add__, written, others))


class _SeenTexts:
    """A tokenizer that notes the texts that it is asked to encode."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.texts = tokenizer, list[Any]()

    def __call__(self, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        self.texts.append(text)
        return self.tokenizer(text, *args, **kwargs)

    def __len__(self) -> int:
        return len(self.tokenizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)
