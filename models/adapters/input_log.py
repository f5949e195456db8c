"""What the encoded prompts of a run were like: the first one, BOS, and what was changed in them."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any


class InputLog:
    """What the encoded prompts of a run were like: counted as they are made, only the first kept.

    Attributes:
        first_input_ids: The token ids of the first prompt.
        bos_counts: How many BOS ids a prompt began with: the least and the most of the run. Later
            ones are turn markers (ChatML's, or those between Llama-2's turns). None where nobody
            writes any: a GPT-NeoX or Granite has a BOS by name alone.
        truncated: How many prompts lost text at their left end.
        escaped: How many prompts held a literal image token, which was made harmless.
        unknown: How many prompts held text that the tokenizer does not know: its `<unk>`.
        specials: In how many prompts a text held which other special token, which was left.
        own_images: How many prompts were shown images of their task, in place of the adapter's.
        own_sha256: The hashes of those images.
    """

    def __init__(
        self, bos_token_id: int | None, expected: bool = True, unk_token_id: int | None = None
    ) -> None:
        """Take what BOS is, and what stands for unknown text.

        Args:
            bos_token_id: Its id; None for a tokenizer without one.
            expected: Whether tokenizer or template writes it, or the user said whether it shall.
            unk_token_id: The id that is in place of text that the tokenizer does not know; None
                for a tokenizer that knows all.
        """
        self.bos_token_id, self.expected = bos_token_id, expected
        self.unk_token_id, self.unknown = unk_token_id, 0
        self.first_input_ids: list[int] = []
        self._counts: tuple[int, int] | None = None
        self.truncated = 0
        self.escaped = 0
        self.specials: Counter[str] = Counter()
        self.own_images = 0
        self.own_sha256: set[str] = set()

    def add(self, ids: Sequence[int]) -> None:
        """Note an encoded prompt, without padding.

        Raises:
            ValueError: It begins with two BOS: the chat template writes one and the tokenizer adds
                another. Scores of such prompts are not comparable.
        """
        if not self.first_input_ids:
            self.first_input_ids = list(ids)
        self.unknown += self.unk_token_id is not None and self.unk_token_id in ids
        if self.bos_token_id is None:
            return
        bos = self.bos_token_id
        if list(ids[:2]) == [bos, bos]:
            raise ValueError(
                f"a prompt begins with two BOS tokens (id {bos}): {list(ids[:8])}; "
                "give add_bos_token=False, or correct the checkpoint's chat template"
            )
        count = next((place for place, token in enumerate(ids) if token != bos), len(ids))
        least, most = self._counts or (count, count)
        self._counts = (min(least, count), max(most, count))

    @property
    def bos_counts(self) -> tuple[int, int] | None:
        """Return the least and the most BOS of a prompt; None where nobody writes any."""
        return self._counts if self.expected or self._counts != (0, 0) else None

    @classmethod
    def merged(cls, logs: Sequence["InputLog"]) -> "InputLog":
        """Return one log of what several ranks counted; the first prompt is the first rank's."""
        merged = cls(logs[0].bos_token_id, logs[0].expected)
        merged.first_input_ids = logs[0].first_input_ids
        merged.truncated = sum(log.truncated for log in logs)
        merged.escaped = sum(log.escaped for log in logs)
        merged.unknown = sum(log.unknown for log in logs)
        merged.own_images = sum(log.own_images for log in logs)
        merged.own_sha256 = set().union(*(log.own_sha256 for log in logs))
        merged.specials = sum((log.specials for log in logs), Counter())
        if counts := [log._counts for log in logs if log._counts]:
            merged._counts = min(least for least, _ in counts), max(most for _, most in counts)
        return merged

    def record(self) -> dict[str, Any]:
        """Return what was counted, for the results file."""
        return {
            "first_input_ids": self.first_input_ids,
            "bos_counts": list(self.bos_counts) if self.bos_counts else None,
            "truncated_prompts": self.truncated,
            "escaped_prompts": self.escaped,
            "unknown_prompts": self.unknown,
            "special_tokens": dict(self.specials),
            **self.task_images(),
        }

    def own_record(self, responses: int) -> dict[str, Any] | None:
        """Return what `image` says where every prompt had images of its own; else None.

        Args:
            responses: How many were made.
        """
        if not self.own_images or self.own_images < responses:
            return None
        return {"mode": "own", "prompts": self.own_images, "images": len(self.own_sha256)}

    def task_images(self) -> dict[str, Any]:
        """Return how many prompts had images of their own, how many those are, and their hash."""
        if not self.own_images:
            return {}
        digest = hashlib.sha256("".join(sorted(self.own_sha256)).encode()).hexdigest()
        counts = {"prompts": self.own_images, "images": len(self.own_sha256)}
        return {"task_images": {**counts, "sha256": digest}}


def unknown_id(tokenizer: Any) -> int | None:
    """Return the id that a tokenizer writes in place of text that it does not know, if it has one.

    Where EOS or BOS is the unknown token by name, as GPT-2's, every text is known, by its bytes.
    """
    unknown: int | None = tokenizer.unk_token_id
    return None if unknown in (tokenizer.bos_token_id, tokenizer.eos_token_id) else unknown
