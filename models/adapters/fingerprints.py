"""Where a number came from: what an adapter adds to the results file as `verbalizer_bench`."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

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

_CHUNK = 1 << 24


def versions() -> dict[str, str]:
    """Return the versions of the packages that a response depends on."""
    return {name: version(name) for name in PACKAGES}


def weights_fingerprint(model: Any) -> str:
    """Return a hash of a torch model's weights; see `state_fingerprint`."""
    return state_fingerprint(model.state_dict())


def state_fingerprint(state: Mapping[str, Any]) -> str:
    """Return a hash of weights by name: names, shapes, types and all values.

    Two sums over each tensor's bits, one weighted by position, so that it takes seconds where
    hashing every byte takes minutes. It tells checkpoints apart; it is no proof against forgery.
    Weights that are offloaded to a disk cannot be read here; the result then says so.
    """
    total = hashlib.sha256()
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            continue
        if tensor.is_meta:
            return "unknown: offloaded"
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(" ".join(map(str, _bit_sums(tensor.detach()))).encode() + b"\n")
    return total.hexdigest()


def _bit_sums(tensor: torch.Tensor) -> tuple[int, int]:
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = tensor.contiguous().view(integers[tensor.element_size()]).flatten()
    plain, weighted = 0, 0
    for start in range(0, len(bits), _CHUNK):
        chunk = bits[start : start + _CHUNK].long()
        places = torch.arange(start + 1, start + 1 + len(chunk), device=chunk.device)
        plain += int(chunk.sum())
        weighted += int((chunk * places).sum())
    return plain, weighted


class InputLog:
    """What the encoded prompts of a run were like: counted as they are made, only the first kept.

    Attributes:
        first_input_ids: The token ids of the first prompt.
        bos_counts: How many BOS ids a prompt began with: the least and the most of the run. Later
            ones are turn markers (ChatML's, or those between Llama-2's turns). None where nobody
            writes any: a GPT-NeoX or Granite has a BOS by name alone.
        truncated: How many prompts lost text at their left end.
        escaped: How many prompts held a literal image token, which was made harmless.
        specials: In how many prompts a text held which other special token, which was left.
    """

    def __init__(self, bos_token_id: int | None, expected: bool = True) -> None:
        """Take what BOS is.

        Args:
            bos_token_id: Its id; None for a tokenizer without one.
            expected: Whether tokenizer or template writes it, or the user said whether it shall.
        """
        self.bos_token_id, self.expected = bos_token_id, expected
        self.first_input_ids: list[int] = []
        self._counts: tuple[int, int] | None = None
        self.truncated = 0
        self.escaped = 0
        self.specials: Counter[str] = Counter()

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
        found = cls(logs[0].bos_token_id, logs[0].expected)
        found.first_input_ids = logs[0].first_input_ids
        found.truncated = sum(log.truncated for log in logs)
        found.escaped = sum(log.escaped for log in logs)
        found.specials = sum((log.specials for log in logs), Counter())
        counts = [log._counts for log in logs if log._counts]
        if counts:
            found._counts = min(least for least, _ in counts), max(most for _, most in counts)
        return found

    def record(self) -> dict[str, Any]:
        """Return what was counted, for the results file."""
        return {
            "first_input_ids": self.first_input_ids,
            "bos_counts": list(self.bos_counts) if self.bos_counts else None,
            "truncated_prompts": self.truncated,
            "escaped_prompts": self.escaped,
            "special_tokens": dict(self.specials),
        }


def settings_sha256(settings: Mapping[str, Any]) -> str:
    """Return the sha256 of a configuration, without where it was read and what wrote it."""
    kept = {
        key: value
        for key, value in settings.items()
        if key not in ("_name_or_path", "name_or_path", "transformers_version")
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def tokenizer_sha256(tokenizer: Any) -> str:
    """Return the sha256 of a tokenizer: its rules if it is a fast one, else its vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend else tokenizer.get_vocab()
    # Padding and truncation are of the last call.
    rules = {key: rule for key, rule in rules.items() if key not in ("padding", "truncation")}
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


def template_sha256(template: Any) -> str | None:
    """Return the sha256 of a chat template (a text, or a table of named ones); None without one."""
    if template is None:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
