"""Attention over two blocks: a prefix stored once, and a prompt's own tokens with its beams'.

Registered with transformers' attention interface, so that no model code changes: a model hands over
query, key and value already rotated, and its mask as the function that says who sees whom (windows,
chunks).

Beams are not copied when they branch, as `generate` copies its cache in every step: a prompt's keys
and values stand in slots, and each beam knows which slots it sees. A slot that no beam sees any
more is used again.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import causal_mask_function

from verbalizer_bench.models.engine.two_blocks import Bias, KeyValue, attend, kept_dtype

_NAME = "verbalizer_shared_prefix"
# Slots for new tokens that a prompt has from the start, as the paper's responses have 15 tokens,
# and gets more of at a time: all of them are copied then.
_DECODE_SLOTS = 16


class MaskFunction:
    """A layer kind's mask as transformers composes it; equal only to itself."""

    def __init__(self, sees: Callable[..., torch.Tensor]) -> None:
        """Take `sees(batch, head, query position, key position)`, which broadcasts."""
        self._sees = sees

    def masked(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Return which keys, (..., k), the queries, (..., q), do not see: (..., q, k)."""
        zero = torch.zeros((), dtype=torch.long, device=queries.device)
        return ~self._sees(zero, zero, queries[..., :, None], keys[..., None, :])


class Prefix(NamedTuple):
    """A prefix of P tokens.

    Attributes:
        length: P.
        layers: Each layer's keys and values of it, (Hk, P, D), in the type of `kept_dtype`.
        offset: What is added to the place of a token behind it to have its position: below zero
            where an image takes fewer positions than tokens (M-RoPE).
    """

    length: int
    layers: Mapping[int, KeyValue]
    offset: int = 0


class SharedPrefixCache:
    """The KV cache of one batch.

    Shapes: B prompts, K beams, Hk key/value heads, D head size, P prefix, C slots of a prompt.

    Attributes:
        prefix: The prefix, whose keys and values are stored once for all rows.
        slots: A layer's keys and values of the prompts' suffixes and generated tokens,
            (Hk, B, C, D).
        visible: The slots that each beam sees, (B, K, C).
        places: Where in its sequence the token of a slot stands, (B, C).
        lengths: Tokens of each prompt with what was generated so far, (B,).
    """

    def __init__(self, prefix: Prefix, suffix_lengths: torch.Tensor, beams: int) -> None:
        """Make room for prompts with suffixes of these lengths, (B,), in K beams."""
        self.prefix, self.beams = prefix, beams
        self.lengths = prefix.length + suffix_lengths
        # The beams of a late step descend from few of an early one, so that far fewer slots than
        # beams x new tokens are seen: `begin_decode` makes more when they are needed.
        capacity = int(suffix_lengths.max()) + max(_DECODE_SLOTS, 2 * beams)
        self.slots: dict[int, KeyValue] = {}
        slots = torch.arange(capacity, device=suffix_lengths.device)
        self.visible = (slots < suffix_lengths[:, None])[:, None].expand(-1, beams, -1)
        self.places = (prefix.length + slots).repeat(len(suffix_lengths), 1)
        self._decoding = False
        self._biases: dict[tuple[MaskFunction | None, int, torch.device], Bias] = {}

    def begin_prefill(self, start: int, stop: int, length: int) -> None:
        """Expect a pass over the suffixes of prompts `start` to `stop`, padded to `length`."""
        self._rows, self._decoding, self._biases = (start, stop), False, {}
        positions = torch.arange(length, device=self.visible.device)
        # Causal. Padding stands behind every token of a prompt, so that none sees it.
        self._masked = (positions > positions[:, None])[None]
        self._queries = self._keys = (self.prefix.length + positions)[None]

    def begin_decode(self, parents: torch.Tensor) -> None:
        """Expect a pass over the beams' newest tokens.

        Args:
            parents: The beam that each beam goes on from, (B, K): `beam_idx` of transformers'
                `Cache.reorder_cache`. Here the masks are reordered, not keys and values.
        """
        capacity, parents = self.visible.shape[2], parents.to(self.visible.device)
        visible = self.visible.gather(1, parents[:, :, None].expand(-1, -1, capacity))
        taken = visible.any(1)
        if (missing := int(taken.sum(1).max()) + self.beams - capacity) > 0:
            more = max(missing, self.beams, _DECODE_SLOTS)
            visible, taken, self.places = (
                torch.nn.functional.pad(x, (0, more)) for x in (visible, taken, self.places)
            )
            # A layer at a time, here and below: two copies of one layer are in memory, not of all.
            for layer, (key, value) in self.slots.items():
                self.slots[layer] = _wider(key, more), _wider(value, more)
        # Stable: the first free slots, in their order.
        free = taken.byte().argsort(dim=1, stable=True)[:, : self.beams]
        self.visible = visible.scatter(2, free[:, :, None], True)
        self.places = self.places.scatter(1, free, self.lengths[:, None].expand_as(free))
        offsets = torch.arange(len(free), device=free.device)[:, None] * visible.shape[2]
        self._decoding, self._biases, self._masked = True, {}, ~self.visible
        self._queries, self._keys = self.lengths[:, None], self.places
        self._newest = (free + offsets).flatten()
        self.lengths = self.lengths + 1

    @property
    def positions(self) -> torch.Tensor:
        """Return the positions of this pass's tokens, (rows, q) or (1, q)."""
        positions = self._queries + self.prefix.offset
        return positions.repeat_interleave(self.beams, dim=0) if self._decoding else positions

    def keep(self, prompts: torch.Tensor) -> None:
        """Drop the prompts that are finished: `prompts` indexes those that stay."""
        for layer, (key, value) in self.slots.items():
            here = prompts.to(key.device)
            self.slots[layer] = key[:, here], value[:, here]
        here = prompts.to(self.visible.device)
        self.visible, self.places = self.visible[here], self.places[here]
        self.lengths = self.lengths[here]

    def update(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> KeyValue:
        """Store a layer's keys and values of this pass, (rows, Hk, q, D); as `Cache.update`.

        Returns:
            What the rows of this pass may see besides the prefix, each (Hk, prompts, tokens, D), in
            the type of `kept_dtype`.
        """
        key, value = key.transpose(0, 1), value.transpose(0, 1)
        if (kept := kept_dtype(key.device.type, key.dtype)) != key.dtype:
            key, value = key.to(kept), value.to(kept)
        if layer not in self.slots:
            shape = (len(key), self.visible.shape[0], self.visible.shape[2])
            # Zeros: what no beam sees is multiplied by a weight of zero, which NaN would survive.
            self.slots[layer] = (
                key.new_zeros(*shape, key.shape[3]),
                value.new_zeros(*shape, value.shape[3]),
            )
        for slots, new in zip(self.slots[layer], (key, value), strict=True):
            if self._decoding:
                slots.view(len(slots), -1, slots.shape[3]).index_copy_(
                    1, self._newest.to(new.device), new[:, :, 0]
                )
            else:
                start, stop = self._rows
                slots[:, start:stop, : new.shape[2]] = new
        return self.slots[layer] if self._decoding else (key, value)

    def group_queries(self, query: torch.Tensor, key_heads: int) -> torch.Tensor:
        """Turn queries, (rows, heads, q, D), into those of a prompt's key heads, (Hk, B, n, D)."""
        rows, heads, length, size = query.shape
        beams = self.beams if self._decoding else 1
        # Beams, and heads that share a key head, are queries of that head.
        query = query.reshape(rows // beams, beams, key_heads, heads // key_heads, length, size)
        return query.permute(2, 0, 1, 3, 4, 5).reshape(key_heads, rows // beams, -1, size)

    def ungroup(self, output: torch.Tensor, rows: int, heads: int) -> torch.Tensor:
        """Turn outputs, in the order of `group_queries`, into (rows, q, heads, D)."""
        key_heads, prompts, count, size = output.shape
        beams, groups = rows // prompts, heads // key_heads
        length = count // (beams * groups)
        output = output.view(key_heads, prompts, beams, groups, length, size)
        return output.permute(1, 2, 4, 0, 3, 5).reshape(rows, length, heads, size).contiguous()

    def bias(self, mask: MaskFunction | None, count: int, query: torch.Tensor) -> Bias:
        """Return what is added to the scores of a prompt's `count` queries.

        It is the same in every layer of a kind.

        Args:
            mask: What the layer's kind sees; None: all that came before.
            count: n, queries of a prompt and key head.
            query: The layer's queries, for device and type: scores are float32 at least.
        """
        key = mask, count, query.device
        if key not in self._biases:
            dtype = torch.promote_types(query.dtype, torch.float32)
            masked, prefix = self._masked, None
            repeats = count // masked.shape[-2]
            if mask is not None:
                masked = masked | mask.masked(self._queries, self._keys)
                positions = torch.arange(self.prefix.length, device=masked.device)
                prefix = mask.masked(self._queries, positions)
            # Beams, then heads that share a key head, then positions, as in `group_queries`.
            if self._decoding:
                masked = masked.repeat_interleave(repeats, dim=1)
            else:
                masked = masked.repeat(1, repeats, 1)
                prefix = None if prefix is None else prefix.repeat(1, repeats, 1)
            self._biases[key] = Bias(
                None if prefix is None else _minus_infinity(prefix, dtype).to(query.device),
                _minus_infinity(masked, dtype).to(query.device),
            )
        return self._biases[key]


def _minus_infinity(masked: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    zeros = torch.zeros(masked.shape, dtype=dtype, device=masked.device)
    return zeros.masked_fill_(masked, float("-inf"))


def _wider(slots: torch.Tensor, more: int) -> torch.Tensor:
    """Return (Hk, B, C, D) with room for `more` slots; `pad` would write all of it twice."""
    heads, prompts, capacity, size = slots.shape
    wider = slots.new_empty(heads, prompts, capacity + more, size)
    wider[:, :, :capacity] = slots
    wider[:, :, capacity:] = 0
    return wider


_current: ContextVar[SharedPrefixCache] = ContextVar("shared_prefix_cache")


def shared_prefix_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: MaskFunction | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend to both blocks; transformers' attention interface.

    Args:
        module: The attention layer; its `layer_idx` says which.
        query: (rows, heads, q, D); rows are prompts with q suffix tokens, or beams with q = 1.
        key: (rows, Hk, q, D), of the same tokens.
        value: As `key`.
        attention_mask: What `_mask` gave the model.
        scaling: Factor of the scores.
        softcap: Scores are capped at it by a tanh (Gemma 2).
        s_aux: A sink's score for each head, (heads,), which takes part in the softmax (gpt-oss).
        kwargs: What else a model passes; what is left out and matters makes the result wrong, which
            the engine's check against a plain forward pass finds.

    Returns:
        (rows, q, heads, D), and no weights.
    """
    prefix_cache, layer = _current.get(), int(module.layer_idx)  # type: ignore[arg-type]
    rows, heads, length, size = query.shape
    grouped = prefix_cache.group_queries(query, key.shape[1])
    suffix = prefix_cache.update(layer, key, value)
    bias = prefix_cache.bias(attention_mask, grouped.shape[2], query)
    empty = suffix[0][:, 0, :0], suffix[1][:, 0, :0]
    output = attend(
        grouped,
        prefix_cache.prefix.layers.get(layer, empty),
        suffix,
        bias,
        scaling if scaling is not None else size**-0.5,
        softcap,
        None if s_aux is None else _of_queries(s_aux, grouped, length),
    )
    return prefix_cache.ungroup(output, rows, heads), None


def _mask(
    *args: Any, mask_function: Callable[..., torch.Tensor] = causal_mask_function, **kwargs: Any
) -> MaskFunction | None:
    """Return a mask as its function; transformers' mask interface."""
    return None if mask_function is causal_mask_function else MaskFunction(mask_function)


AttentionInterface.register(_NAME, shared_prefix_attention)
AttentionMaskInterface.register(_NAME, _mask)


def _of_queries(sinks: torch.Tensor, query: torch.Tensor, length: int) -> torch.Tensor:
    """Return each head's value, (heads,), for grouped queries, (Hk, B, n, D): (Hk, 1, n)."""
    key_heads, _, count, _ = query.shape
    groups = len(sinks) // key_heads
    by_query = sinks.view(key_heads, 1, groups, 1).expand(
        -1, count // (groups * length), -1, length
    )
    return by_query.reshape(key_heads, 1, count)


@contextmanager
def use_shared_prefix_attention(language_model: Any, cache: SharedPrefixCache) -> Iterator[None]:
    """Have a model attend to `cache` for the time of a call."""
    config = language_model.config
    before, token = config._attn_implementation, _current.set(cache)
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _current.reset(token)
