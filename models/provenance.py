"""Where a number came from: what an adapter adds to the results file as `verbalizer_bench`."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

PACKAGES = (
    "verbalizer-bench",
    "lm_eval",
    "transformers",
    "tokenizers",
    "torch",
    "accelerate",
    "peft",
    "pillow",
)


def versions() -> dict[str, str]:
    """Return the versions of the packages that a response depends on."""
    return {name: version(name) for name in PACKAGES}


class InputLog:
    """What the encoded prompts of a run were like: counted as they are made, only the first kept.

    Attributes:
        first_input_ids: The token ids of the first prompt.
        bos_counts: How many BOS ids a prompt had: the least and the most of the run.
        truncated: How many prompts lost text at their left end.
        escaped: How many prompts held a literal image token, which was made harmless.
    """

    def __init__(self, bos_token_id: int | None) -> None:
        """Count BOS by this id; None for a tokenizer without one."""
        self.bos_token_id = bos_token_id
        self.first_input_ids: list[int] = []
        self.bos_counts: tuple[int, int] | None = None
        self.truncated = 0
        self.escaped = 0

    def add(self, ids: Sequence[int]) -> None:
        """Note an encoded prompt, without padding.

        Raises:
            ValueError: It begins with two BOS: the chat template writes one and the tokenizer adds
                another. Scores of such prompts are not comparable.
        """
        if not self.first_input_ids:
            self.first_input_ids = list(ids)
        if self.bos_token_id is None:
            return
        bos = self.bos_token_id
        if list(ids[:2]) == [bos, bos]:
            raise ValueError(
                f"a prompt begins with two BOS tokens (id {bos}): {list(ids[:8])}; "
                "give add_bos_token=False, or correct the checkpoint's chat template"
            )
        count = sum(token == bos for token in ids)
        least, most = self.bos_counts or (count, count)
        self.bos_counts = (min(least, count), max(most, count))

    def record(self) -> dict[str, Any]:
        """Return what was counted, for the results file."""
        return {
            "first_input_ids": self.first_input_ids,
            "bos_counts": list(self.bos_counts) if self.bos_counts else None,
            "truncated_prompts": self.truncated,
            "escaped_prompts": self.escaped,
        }


def template_sha256(template: Any) -> str | None:
    """Return the sha256 of a chat template (a text, or a table of named ones); None without one."""
    if template is None:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
