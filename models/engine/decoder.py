"""A language model over prompts behind a prefix whose keys and values are computed once.

What a prompt begins with, its images included, is read by the model's own forward: however a model
handles images is right by that. Text behind it goes through the decoder, with `SharedPrefixCache`
as the KV cache: prefill of what prompts share, prefill of what each has for itself, and decode of a
token a beam.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from verbalizer_bench.models.engine.attention import (
    Prefix,
    SharedPrefixCache,
    use_shared_prefix_attention,
)
from verbalizer_bench.models.engine.batching import CPU_BUDGET
from verbalizer_bench.models.engine.prefix_groups import common_prefix_length
from verbalizer_bench.models.engine.support import base_model, language_model
from verbalizer_bench.models.engine.two_blocks import KeyValue, kept_dtype


class PromptHead(NamedTuple):
    """The front of a prompt, up to its last image.

    Attributes:
        length: Its tokens, those of images included.
        inputs: Gives what the model's forward takes of it: `input_ids` and `attention_mask`, (1,
            length), pixel values and whatever else its processor makes.
    """

    length: int
    inputs: Callable[[], Mapping[str, torch.Tensor]]


class EncodedPrompt(NamedTuple):
    """A prompt as token ids.

    Attributes:
        ids: The ids; image tokens are expanded, and those of the n-th known image are -1 - n, so
            that prompts with different images share nothing behind the first.
        head: The front with the images; None without an image. At least one token is behind it.
    """

    ids: list[int]
    head: PromptHead | None = None

    @property
    def head_length(self) -> int:
        """Return how many tokens only the model's own forward can read."""
        return self.head.length if self.head else 0


class PrefixDecoder:
    """The decoder of one loaded model, and the KV cache of the prefix it read last."""

    def __init__(self, model: Any, pad_token_id: int) -> None:
        """Take a causal or image-text-to-text model of transformers."""
        self.whole_model, self.model = base_model(model), language_model(model)
        self.pad_token_id = pad_token_id
        self.device = self.model.get_input_embeddings().weight.device
        self.budget = CPU_BUDGET
        self.computed_tokens = 0
        self._prefix_ids: list[int] = []
        self._prefix_layers: dict[int, KeyValue] = {}
        self._head_length = self._offset = 0

    def prefix(self, ids: Sequence[int], prompt: EncodedPrompt) -> Prefix:
        """Return the prefix `ids` of `prompt`, its head at least.

        It is a view of the one prefix that is kept: the next call overwrites it but for what both
        share in front.
        """
        known = common_prefix_length(self._prefix_ids, ids)
        if known < prompt.head_length or self._head_length != prompt.head_length:
            known = 0
        # Not the new ids before they are computed: a pass may run out of memory.
        self._prefix_ids = list(ids[:known])
        if not known:
            self._offset, self._head_length = 0, 0
            if prompt.head:
                self._read_head(prompt.head)
                known = prompt.head.length
                self._prefix_ids = list(ids[:known])
        for start in range(known, len(ids), self.budget.tokens_per_pass):
            end = min(start + self.budget.tokens_per_pass, len(ids))
            part = EncodedPrompt(list(ids[:end]))
            cache = self.cache([part], self._kept_prefix(start), beams=1)
            self.prefill([part], cache)
            for layer, (key, value) in cache.slots.items():
                kept = self._prefix_layers.get(layer, (key[:, 0, :0], value[:, 0, :0]))
                self._prefix_layers[layer] = (
                    _written(kept[0], start, key[:, 0, : end - start], len(ids)),
                    _written(kept[1], start, value[:, 0, : end - start], len(ids)),
                )
            self._prefix_ids = part.ids
            self.computed_tokens += end - start
        return self._kept_prefix(len(ids))

    def _read_head(self, head: PromptHead) -> None:
        """Read the front of a prompt with the model's own forward, and keep its keys and values."""
        cache = DynamicCache()
        # Logits of every position would be the largest tensor of the run.
        last = {"logits_to_keep": 1} if self.whole_model._supports_logits_to_keep() else {}
        self.whole_model(**head.inputs(), past_key_values=cache, use_cache=True, **last)
        layers = {}
        for number, layer in enumerate(cache.layers):
            if getattr(layer, "keys", None) is None or layer.keys.shape[2] != head.length:
                raise ValueError(f"layer {number} keeps no keys and values of all its tokens")
            kept = kept_dtype(layer.keys.device.type, layer.keys.dtype)
            layers[number] = layer.keys[0].to(kept), layer.values[0].to(kept)
        self._prefix_layers, self._head_length = layers, head.length
        # Qwen-VL's and its relatives' count: an image takes fewer positions than tokens.
        deltas = getattr(getattr(self.whole_model, "model", None), "rope_deltas", None)
        self._offset = 0 if deltas is None else int(deltas.flatten()[0])
        self.computed_tokens += head.length

    def _kept_prefix(self, length: int) -> Prefix:
        layers = {n: (k[:, :length], v[:, :length]) for n, (k, v) in self._prefix_layers.items()}
        return Prefix(length, layers, self._offset)

    def cache(
        self, prompts: Sequence[EncodedPrompt], prefix: Prefix, beams: int
    ) -> SharedPrefixCache:
        """Return an empty KV cache for what these prompts have behind a prefix, in K beams."""
        return SharedPrefixCache(prefix, self._suffix_lengths(prompts, prefix.length), beams)

    def _suffix_lengths(self, prompts: Sequence[EncodedPrompt], start: int) -> torch.Tensor:
        return torch.tensor([len(prompt.ids) - start for prompt in prompts], device=self.device)

    def prefill(self, prompts: Sequence[EncodedPrompt], cache: SharedPrefixCache) -> torch.Tensor:
        """Read what prompts have behind the cache's prefix, a few a pass, into the cache.

        Returns:
            The hidden state of each prompt's last token, (B, width).
        """
        last_hidden = []
        start = cache.prefix.length
        lengths = [len(prompt.ids) - start for prompt in prompts]
        for first, stop in _passes(lengths, self.budget.tokens_per_pass):
            part = prompts[first:stop]
            rows = [torch.tensor(prompt.ids[start:]) for prompt in part]
            # Padded at the right: no token attends to what comes behind it.
            ids = pad_sequence(rows, True, self.pad_token_id).to(self.device)
            cache.begin_prefill(first, stop, ids.shape[1])
            hidden = self._forward(ids, cache)
            ends = (self._suffix_lengths(part, start) - 1).to(hidden.device)
            last_hidden.append(hidden[torch.arange(len(part), device=hidden.device), ends])
        return torch.cat(last_hidden)

    def decode(self, tokens: torch.Tensor, cache: SharedPrefixCache) -> torch.Tensor:
        """Run each beam's newest token, (B, K); `cache.begin_decode` has said what they go on from.

        Returns:
            Hidden states, (B, K, width).
        """
        return self._forward(tokens.reshape(-1, 1).to(self.device), cache).view(*tokens.shape, -1)

    def _forward(self, ids: torch.Tensor, cache: SharedPrefixCache) -> torch.Tensor:
        # No cache of transformers': keys and values go to ours through the attention function.
        with use_shared_prefix_attention(self.model, cache):
            hidden: torch.Tensor = self.model(
                input_ids=ids,
                # All of them, or transformers looks for sequences that are packed in a row.
                attention_mask=torch.ones_like(ids),
                position_ids=cache.positions.expand(len(ids), -1),
                use_cache=False,
            ).last_hidden_state
        return hidden


def _passes(lengths: Sequence[int], max_tokens: int) -> Iterator[tuple[int, int]]:
    """Cut prompts of these lengths into passes of at most so many tokens, padding included."""
    start = longest = 0
    for index, length in enumerate(lengths):
        longest = max(longest, length)
        if index > start and (index + 1 - start) * longest > max_tokens:
            yield start, index
            start, longest = index, length
    yield start, len(lengths)


def _written(kept: torch.Tensor, start: int, new: torch.Tensor, capacity: int) -> torch.Tensor:
    """Return `kept`, (Hk, P, D), with `new` from `start` on, in room for `capacity` tokens."""
    if kept.shape[1] < capacity:
        wider = kept.new_empty(kept.shape[0], capacity, kept.shape[2])
        wider[:, :start] = kept[:, :start]
        kept = wider
    kept[:, start : start + new.shape[1]] = new
    return kept
