"""Preference pairs as token ids: a prompt, and two answers that are trained whole."""

from itertools import zip_longest
from typing import NamedTuple

from verbalizer_bench.io.conversations import BadRecordError, Conversation, Pair
from verbalizer_bench.trainers.conversations.encoder import Encoded, Encoder


class EncodedPair(NamedTuple):
    """An encoded pair.

    Attributes:
        prompt_ids: Token ids of the prompt, one for each image.
        chosen_ids: Those of the preferred answer, with what ends it.
        rejected_ids: Those of the other one.
        length: Tokens of the prompt and the longer answer, with images expanded.
    """

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]
    length: int

    @property
    def tokens(self) -> int:
        """Return how many tokens a model sees of both conversations."""
        return 2 * self.length - abs(len(self.chosen_ids) - len(self.rejected_ids))

    @property
    def trained(self) -> int:
        """Return how many tokens the loss is on."""
        return len(self.chosen_ids) + len(self.rejected_ids)

    @property
    def shown(self) -> tuple[Encoded, Encoded]:
        """Return the conversations with the preferred answer and with the other one."""
        return self._with(self.chosen_ids), self._with(self.rejected_ids)

    def _with(self, answer: list[int]) -> Encoded:
        mask = [False] * len(self.prompt_ids) + [True] * len(answer)
        return Encoded(self.prompt_ids + answer, mask, self.length)


class PairEncoder:
    """Turn pairs into token ids.

    Args:
        encoder: Of conversations.
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        self.unknown_endings = encoder.unknown_endings
        self.max_length = encoder.max_length
        self.reads_images = encoder.reads_images

    def fingerprint(self) -> str:
        """Return the sha256 of all that the ids depend on besides the records."""
        return self.encoder.fingerprint()

    def encode(self, pair: Pair) -> EncodedPair:
        """Return a pair's ids.

        Raises:
            BadRecordError: An answer does not fit the format or would be cut, both are the same
                tokens, or a model would be asked otherwise than it is trained.
            ValueError: The chat template does not put one image token for each image.
        """
        prompt, chosen = self._split(pair.chosen, "chosen")
        other, rejected = self._split(pair.rejected, "rejected")
        if chosen == rejected:
            detail = "chosen and rejected are the same tokens; leave it out"
            raise BadRecordError(pair.index, pair.id, "same answer", detail)
        asked = self.encoder.asked(pair.chosen)
        self._compare(pair, asked, prompt, "chosen")
        self._compare(pair, asked, other, "rejected")
        expanded = len(prompt) + len(pair.images) * (self.encoder.image_tokens - 1)
        return EncodedPair(prompt, chosen, rejected, expanded + max(len(chosen), len(rejected)))

    def full_length(self, pair: Pair) -> int:
        """Return a pair's tokens; one that would be cut is refused."""
        return self.encode(pair).length

    def _split(self, record: Conversation, name: str) -> tuple[list[int], list[int]]:
        """Return the ids of a conversation's prompt and of its answer, with what ends it."""
        ids, mask = self.encoder.whole(record)
        if not any(mask):
            detail = f"nothing of the {name} answer would be trained; leave it out"
            raise BadRecordError(record.index, record.id, "empty answer", detail)
        start, stop = mask.index(True), len(mask) - mask[::-1].index(True)
        length = stop + len(record.images) * (self.encoder.image_tokens - 1)
        if length > self.encoder.max_length:
            detail = (
                f"{length} tokens with the {name} answer, which max_length="
                f"{self.encoder.max_length} would cut; raise it, or leave the record out"
            )
            raise BadRecordError(record.index, record.id, "answer cut", detail)
        return ids[:start], ids[start:stop]

    def _compare(self, pair: Pair, asked: list[int], trained: list[int], name: str) -> None:
        """Raise BadRecordError unless a prompt is asked as it is trained."""
        if asked == trained:
            return
        place = next(n for n, (a, b) in enumerate(zip_longest(asked, trained)) if a != b)
        words = self.encoder.tokenizer.convert_ids_to_tokens
        detail = (
            f"asked, the prompt has {words(asked[place : place + 3])} as tokens {place} and on, "
            f"and before the {name} answer {words(trained[place : place + 3])}: the model would "
            "be asked otherwise than it was trained; use another format"
        )
        raise BadRecordError(pair.index, pair.id, "prompt differs", detail)
