"""Records as token ids where the checkpoint's own processor writes what an image becomes.

A record is rendered, and its answers are found in that text. Then what the processor writes for
images takes their slots' place, and the text is encoded: ids and mask are those of what the
processor makes, which the collator compares. A row keeps the rendered text.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from verbalizer_bench.io.conversations import BadRecordError, Conversation, Pair
from verbalizer_bench.io.images import IMAGE_ERRORS
from verbalizer_bench.models.chat.image_slots import put_in
from verbalizer_bench.trainers.conversations.encoder import Encoded, Encoder
from verbalizer_bench.trainers.conversations.pair_encoder import EncodedPair, PairEncoder
from verbalizer_bench.trainers.conversations.processor_texts import ProcessorTexts, Size


class EncodedText(NamedTuple):
    """An encoded record and its text.

    Attributes:
        input_ids: Token ids, images expanded.
        assistant_mask: Which of them are trained.
        text: What the processor is given.
        length: Tokens.
    """

    input_ids: list[int]
    assistant_mask: list[bool]
    text: str
    length: int

    @property
    def tokens(self) -> int:
        """Return how many tokens a model sees of it."""
        return self.length

    @property
    def trained(self) -> int:
        """Return how many tokens the loss is on."""
        return sum(self.assistant_mask)

    @property
    def shown(self) -> tuple[Encoded]:
        """Return what is shown of it as a sample."""
        return (Encoded(self.input_ids, self.assistant_mask, self.length),)


class EncodedTextPair(NamedTuple):
    """An encoded pair and its texts.

    Attributes:
        prompt_ids: Token ids of the prompt, images expanded.
        chosen_ids: Those of the preferred answer, with what ends it.
        rejected_ids: Those of the other one.
        chosen_text: What the processor is given of the preferred answer's conversation.
        rejected_text: The same of the other one.
        length: Tokens of the prompt and the longer answer.
    """

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    chosen_text: str
    rejected_text: str
    length: int

    @property
    def _pair(self) -> EncodedPair:
        return EncodedPair(self.prompt_ids, self.chosen_ids, self.rejected_ids, self.length)

    @property
    def tokens(self) -> int:
        """Return how many tokens a model sees of both conversations."""
        return self._pair.tokens

    @property
    def trained(self) -> int:
        """Return how many tokens the loss is on."""
        return self._pair.trained

    @property
    def shown(self) -> tuple[Encoded, Encoded]:
        """Return the conversations with the preferred answer and with the other one."""
        return self._pair.shown


class ProcessorEncoder(Encoder):
    """Turn records into the ids that a processor makes of them, and the assistant mask."""

    reads_images = True

    def __init__(
        self,
        texts: ProcessorTexts,
        format: str,
        size_of: Callable[[str], Size],
        max_length: int,
        arguments: Mapping[str, Any] | None = None,
        thoughts: str | None = None,
    ):
        """Take the processor of a checkpoint.

        Args:
            texts: Asks it.
            format: As in `Encoder`.
            size_of: Returns the width and height of an image by its name.
            max_length: As in `Encoder`.
            arguments: As in `Encoder`.
            thoughts: As in `Encoder`.
        """
        tokenizer = texts.processor.tokenizer
        slot = tokenizer.convert_tokens_to_ids(texts.slot)
        # In ids that are expanded each image token is one.
        super().__init__(tokenizer, format, slot, 1, max_length, arguments, thoughts)
        self.texts, self._size_of = texts, size_of
        self._specials = tuple(dict.fromkeys((*self._specials, texts.slot)))

    def fingerprint(self) -> str:
        """Return the sha256 of all that the ids and the mask depend on besides the records."""
        parts = super().fingerprint() + self.texts.fingerprint()
        return hashlib.sha256(parts.encode()).hexdigest()

    def encode(self, record: Conversation) -> EncodedText:  # type: ignore[override]
        """Return a record's ids, cut on the right to `max_length` tokens, behind its images.

        Raises:
            BadRecordError: The record does not fit the format, an image would be cut, or nothing
                that is trained is left; or the processor takes no images of these sizes.
        """
        text, ids, mask, images_end = self._encoded(record)
        if images_end > self.max_length:
            raise self._too_long(record, "image cut", len(ids), "an image ends")
        ids, mask, length = self._cut(record, ids, mask)
        return EncodedText(ids, mask, text, length)

    def whole(self, record: Conversation) -> tuple[list[int], list[bool]]:
        """Return a record's ids, images expanded, and its assistant mask, whatever its length.

        Raises:
            BadRecordError: The record does not fit the format, or the processor its images.
        """
        return self._encoded(record)[1:3]

    def text(self, record: Conversation) -> str:
        """Return a record's text, with a slot for each image."""
        return self._render_answers(record)[0]

    def _encoded(self, record: Conversation) -> tuple[str, list[int], list[bool], int]:
        """Return a record's text, ids, mask, and how many ids there are up to its last image."""
        if problem := self._misfit(record):
            raise BadRecordError(record.index, record.id, *problem)
        text, blocks = self._render_answers(record)
        written = self._written(record)
        shown = self._put_in(record, text, written)
        ends = _slot_ends(text, self.texts.slot)
        # How far what stands behind each slot is moved.
        moved = list(accumulate(len(one) - len(self.texts.slot) for one in written))

        def place(old: int) -> int:
            before = sum(end <= old for end in ends)
            return old + (moved[before - 1] if before else 0)

        blocks = [(place(begin), place(stop)) for begin, stop in blocks]
        ids, mask, offsets = self._masked(record, shown, blocks)
        images_end = place(ends[-1]) if ends else 0
        # A BOS in front has no place in the text.
        behind = (number for number, (start, _) in enumerate(offsets) if start >= images_end > 0)
        return text, ids, mask, next(behind, len(ids)) if ends else 0

    def _with_images(self, record: Conversation, text: str) -> str:
        return self._put_in(record, text, self._written(record))

    def _put_in(self, record: Conversation, text: str, written: Sequence[str]) -> str:
        shown = put_in(text, self.texts.slot, written)
        if shown is None:
            slots = text.count(self.texts.slot)
            detail = f"the chat template writes {slots} slots for {len(record.images)} images"
            raise BadRecordError(record.index, record.id, "template", detail)
        return shown

    def _written(self, record: Conversation) -> list[str]:
        """Return what the processor writes for a record's images."""
        if not record.images:
            return []
        try:
            sizes = [self._size_of(name) for name in record.images]
        except FileNotFoundError as error:
            detail = f"there is no {error.filename}; put it there or leave the record out"
            raise BadRecordError(record.index, record.id, "missing image", detail) from error
        except IMAGE_ERRORS as error:
            raise BadRecordError(record.index, record.id, "broken image", str(error)) from error
        try:
            return self.texts.written(sizes)
        except ValueError as error:
            raise BadRecordError(record.index, record.id, "image refused", str(error)) from error


class ProcessorPairEncoder(PairEncoder):
    """Turn pairs into the ids that a processor makes of them."""

    encoder: ProcessorEncoder

    def encode(self, pair: Pair) -> EncodedTextPair:  # type: ignore[override]
        """Return a pair's ids and texts.

        Raises:
            As `PairEncoder.encode`.
        """
        prompt, chosen, rejected, length = super().encode(pair)
        texts = [self.encoder.text(record) for record in (pair.chosen, pair.rejected)]
        return EncodedTextPair(prompt, chosen, rejected, texts[0], texts[1], length)


def _slot_ends(text: str, slot: str) -> list[int]:
    """Return where the slots of a text end."""
    return list(accumulate(len(part) + len(slot) for part in text.split(slot)))[:-1]
