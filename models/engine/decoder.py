"""A language model over prompts behind a prefix whose keys and values are computed once.

It takes the place of transformers' own forward passes: prefill of a prefix, prefill of what each
prompt has behind it, and decode of a token a beam, with `SharedPrefixCache` as the KV cache.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from verbalizer_bench.models.engine.attention import (
    KeyValue,
    SharedPrefixCache,
    use_shared_prefix_attention,
)
from verbalizer_bench.models.engine.batching import CPU_BUDGET
from verbalizer_bench.models.engine.prefix_groups import common_prefix_length
from verbalizer_bench.models.engine.support import language_model


class EncodedPrompt(NamedTuple):
    """A prompt as token ids.

    Attributes:
        ids: The ids; image tokens are expanded, and those of the n-th known image are -1 - n, so
            that prompts with different images share nothing behind the first.
        image_features: Gives the image tokens' embeddings, (image tokens, width); None without an
            image.
    """

    ids: list[int]
    image_features: Callable[[], torch.Tensor] | None = None


class Prefix(NamedTuple):
    """A prefix of P tokens, and each layer's keys and values of it, (Hk, P, D)."""

    length: int
    layers: dict[int, KeyValue]


class PrefixDecoder:
    """The decoder of one loaded model, and the KV cache of the prefix it read last."""

    def __init__(self, model: Any, pad_token_id: int) -> None:
        """Take a causal or image-text-to-text model of transformers."""
        self.model = language_model(model)
        self.embed = self.model.get_input_embeddings()
        self.pad_token_id = pad_token_id
        self.device = self.embed.weight.device
        self.budget = CPU_BUDGET
        self.computed_tokens = 0
        self._prefix_ids: list[int] = []
        self._prefix_layers: dict[int, KeyValue] = {}

    def prefix(self, ids: Sequence[int], prompt: EncodedPrompt) -> Prefix:
        """Return the prefix `ids` of `prompt`.

        It is a view of the one prefix that is kept: the next call overwrites it but for what both
        share in front.
        """
        known = common_prefix_length(self._prefix_ids, ids)
        # Not the new ids before they are computed: a pass may run out of memory.
        self._prefix_ids = list(ids[:known])
        for start in range(known, len(ids), self.budget.tokens_per_pass):
            end = min(start + self.budget.tokens_per_pass, len(ids))
            part = EncodedPrompt(list(ids[:end]), prompt.image_features)
            cache = self.cache([part], self._kept_prefix(start), beams=1)
            self.prefill([part], start, cache)
            for layer, (key, value) in cache.slots.items():
                kept = self._prefix_layers.get(layer, (key[:, 0, :0], value[:, 0, :0]))
                self._prefix_layers[layer] = (
                    _written(kept[0], start, key[:, 0, : end - start], len(ids)),
                    _written(kept[1], start, value[:, 0, : end - start], len(ids)),
                )
            self._prefix_ids = part.ids
            self.computed_tokens += end - start
        return self._kept_prefix(len(ids))

    def _kept_prefix(self, length: int) -> Prefix:
        layers = {n: (k[:, :length], v[:, :length]) for n, (k, v) in self._prefix_layers.items()}
        return Prefix(length, layers)

    def cache(
        self, prompts: Sequence[EncodedPrompt], prefix: Prefix, beams: int
    ) -> SharedPrefixCache:
        """Return an empty KV cache for what these prompts have behind a prefix, in K beams."""
        return SharedPrefixCache(prefix.layers, self.suffix_lengths(prompts, prefix.length), beams)

    def suffix_lengths(self, prompts: Sequence[EncodedPrompt], start: int) -> torch.Tensor:
        """Return how many tokens each prompt has from position `start` on, (B,)."""
        return torch.tensor([len(prompt.ids) - start for prompt in prompts], device=self.device)

    def prefill(
        self, prompts: Sequence[EncodedPrompt], start: int, cache: SharedPrefixCache
    ) -> torch.Tensor:
        """Read prompts from position `start` on, a few a pass, into the cache.

        Returns:
            The hidden state of each prompt's last token, (B, width).
        """
        last_hidden = []
        lengths = [len(prompt.ids) - start for prompt in prompts]
        for first, stop in _passes(lengths, self.budget.tokens_per_pass):
            part = prompts[first:stop]
            rows = [torch.tensor(prompt.ids[start:]) for prompt in part]
            # Padded at the right: no token attends to what comes behind it.
            ids = pad_sequence(rows, True, self.pad_token_id).to(self.device)
            embeddings = self._embed(ids, [_image_features(prompt, start) for prompt in part])
            cache.begin_prefill(first, stop, ids.shape[1])
            positions = start + torch.arange(ids.shape[1], device=self.device)
            hidden = self._forward(embeddings, positions[None], cache)
            ends = self.suffix_lengths(part, start) - 1
            last_hidden.append(hidden[torch.arange(len(part), device=self.device), ends])
        return torch.cat(last_hidden)

    def decode(
        self, tokens: torch.Tensor, positions: torch.Tensor, cache: SharedPrefixCache
    ) -> torch.Tensor:
        """Run each beam's newest token, (B, K), at its prompt's position, (B,).

        `cache.begin_decode` has said which beams they go on from.

        Returns:
            Hidden states, (B, K, width).
        """
        positions = positions.repeat_interleave(tokens.shape[1])[:, None]
        hidden = self._forward(self.embed(tokens.reshape(-1, 1)), positions, cache)
        return hidden.view(*tokens.shape, -1)

    def _embed(
        self, ids: torch.Tensor, image_features: Sequence[torch.Tensor | None]
    ) -> torch.Tensor:
        """Return embeddings, (rows, length, width); ids below zero take the row's features.

        As LLaVA's forward does with `masked_scatter`.
        """
        embeddings = self.embed(ids.clamp(min=0))
        for row, features in enumerate(image_features):
            slots = ids[row] < 0
            if features is not None and slots.any():
                embeddings[row, slots] = features[: int(slots.sum())].to(embeddings.dtype)
        return embeddings

    def _forward(
        self, embeddings: torch.Tensor, positions: torch.Tensor, cache: SharedPrefixCache
    ) -> torch.Tensor:
        # No cache of transformers': keys and values go to ours through the attention function.
        with use_shared_prefix_attention(self.model):
            hidden: torch.Tensor = self.model(
                inputs_embeds=embeddings,
                position_ids=positions.expand(len(embeddings), -1),
                use_cache=False,
                shared_prefix=cache,
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


def _image_features(prompt: EncodedPrompt, start: int) -> torch.Tensor | None:
    """Return the features of a prompt's image tokens from `start` on; None if there are none."""
    if prompt.image_features is None or min(prompt.ids[start:]) >= 0:
        return None
    return prompt.image_features()[sum(token < 0 for token in prompt.ids[:start]) :]
