"""Attention over two blocks: a prefix stored once, and a prompt's own tokens with its beams'.

Registered with transformers' attention interface, so that no model code changes: the language
model hands the extra argument `shared_prefix` down to `shared_prefix_attention`, with query, key
and value already rotated. Both blocks go through one softmax, so that the result is that of plain
attention over their concatenation.

Beams are not copied when they branch, as `generate` copies its cache in every step: a prompt's keys
and values stand in slots, and each beam knows which slots it sees. A slot that no beam sees any
more is used again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface

_NAME = "verbalizer_shared_prefix"
KeyValue = tuple[torch.Tensor, torch.Tensor]
# Slots for new tokens that a prompt has from the start, as the paper's responses have 15 tokens,
# and gets more of at a time: all of them are copied then.
_DECODE_SLOTS = 16


class SharedPrefixCache:
    """The KV cache of one batch.

    Shapes: B prompts, K beams, Hk key/value heads, D head size, P prefix, C slots of a prompt.

    Attributes:
        prefix: A layer's keys and values of the prefix, (Hk, P, D), stored once for all rows.
        slots: A layer's keys and values of the prompts' suffixes and generated tokens,
            (Hk, B, C, D).
        visible: The slots that each beam sees, (B, K, C).
    """

    def __init__(
        self, prefix: Mapping[int, KeyValue], suffix_lengths: torch.Tensor, beams: int
    ) -> None:
        """Make room for prompts with suffixes of these lengths, (B,), in K beams."""
        self.prefix, self.beams = prefix, beams
        # The beams of a late step descend from few of an early one, so that far fewer slots than
        # beams x new tokens are seen: `begin_decode` makes more when they are needed.
        capacity = int(suffix_lengths.max()) + max(_DECODE_SLOTS, 2 * beams)
        self.slots: dict[int, KeyValue] = {}
        visible = torch.arange(capacity, device=suffix_lengths.device) < suffix_lengths[:, None]
        self.visible = visible[:, None].expand(-1, beams, -1)
        self._decoding = False
        self._bias: torch.Tensor | None = None

    def begin_prefill(self, start: int, stop: int, length: int) -> None:
        """Expect a pass over the suffixes of prompts `start` to `stop`, padded to `length`."""
        self._rows, self._decoding, self._bias = (start, stop), False, None
        positions = torch.arange(length, device=self.visible.device)
        # Causal. Padding stands behind every token of a prompt, so that none sees it.
        self._masked = positions > positions[:, None]

    def begin_decode(self, parents: torch.Tensor) -> None:
        """Expect a pass over the beams' newest tokens.

        Args:
            parents: The beam that each beam goes on from, (B, K): `beam_idx` of transformers'
                `Cache.reorder_cache`. Here the masks are reordered, not keys and values.
        """
        capacity = self.visible.shape[2]
        visible = self.visible.gather(1, parents[:, :, None].expand(-1, -1, capacity))
        taken = visible.any(1)
        if (missing := int(taken.sum(1).max()) + self.beams - capacity) > 0:
            more = max(missing, self.beams, _DECODE_SLOTS)
            visible, taken = (torch.nn.functional.pad(x, (0, more)) for x in (visible, taken))
            # A layer at a time, here and below: two copies of one layer are in memory, not of all.
            for layer, (key, value) in self.slots.items():
                self.slots[layer] = _wider(key, more), _wider(value, more)
        # Stable: the first free slots, in their order.
        free = taken.byte().argsort(dim=1, stable=True)[:, : self.beams]
        self.visible = visible.scatter(2, free[:, :, None], True)
        offsets = torch.arange(len(free), device=free.device)[:, None] * visible.shape[2]
        self._decoding, self._bias, self._masked = True, None, ~self.visible
        self._newest = (free + offsets).flatten()

    def keep(self, prompts: torch.Tensor) -> None:
        """Drop the prompts that are finished: `prompts` indexes those that stay."""
        for layer, (key, value) in self.slots.items():
            self.slots[layer] = key[:, prompts], value[:, prompts]
        self.visible = self.visible[prompts]

    def update(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> KeyValue:
        """Store a layer's keys and values of this pass, (rows, Hk, q, D); as `Cache.update`.

        Returns:
            What the rows of this pass may see besides the prefix, each (Hk, prompts, tokens, D).
        """
        key, value = key.transpose(0, 1), value.transpose(0, 1)
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
                    1, self._newest, new[:, :, 0]
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
        query = query.view(rows // beams, beams, key_heads, heads // key_heads, length, size)
        return query.permute(2, 0, 1, 3, 4, 5).reshape(key_heads, rows // beams, -1, size)

    def ungroup(self, output: torch.Tensor, rows: int, heads: int) -> torch.Tensor:
        """Turn outputs, in the order of `group_queries`, into (rows, q, heads, D)."""
        key_heads, prompts, count, size = output.shape
        beams, groups = rows // prompts, heads // key_heads
        length = count // (beams * groups)
        output = output.view(key_heads, prompts, beams, groups, length, size)
        return output.permute(1, 2, 4, 0, 3, 5).reshape(rows, length, heads, size)

    def attention_bias(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Return what is added to the scores of a prompt's `count` queries, (n, C) or (B, n, C).

        Minus infinity where a query does not see a token of `update`; the same in every layer.
        """
        if self._bias is None:
            repeats = count // self._masked.shape[-2]
            masked = (
                self._masked.repeat_interleave(repeats, dim=1)
                if self._decoding
                else self._masked.repeat(repeats, 1)
            )
            zeros = torch.zeros(masked.shape, dtype=dtype, device=masked.device)
            self._bias = zeros.masked_fill_(masked, float("-inf"))
        return self._bias


def _wider(slots: torch.Tensor, more: int) -> torch.Tensor:
    """Return (Hk, B, C, D) with room for `more` slots; `pad` would write all of it twice."""
    heads, prompts, capacity, size = slots.shape
    wider = slots.new_empty(heads, prompts, capacity + more, size)
    wider[:, :, :capacity] = slots
    wider[:, :, capacity:] = 0
    return wider


def shared_prefix_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    shared_prefix: SharedPrefixCache | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend to both blocks; transformers' attention interface.

    Args:
        module: The attention layer; its `layer_idx` says which.
        query: (rows, heads, q, D); rows are prompts with q suffix tokens, or beams with q = 1.
        key: (rows, Hk, q, D), of the same tokens.
        value: As `key`.
        attention_mask: Not used: `shared_prefix` says what is seen.
        scaling: Factor of the scores.
        shared_prefix: The KV cache; this call adds its keys and values to it.
        kwargs: What else a model passes; a soft cap or a window would make the result wrong, which
            the engine's check against a plain forward pass finds.

    Returns:
        (rows, q, heads, D), and no weights.
    """
    if shared_prefix is None:
        raise TypeError(f"{type(module).__name__} does not get the shared prefix")
    layer, (rows, heads, _, size) = int(module.layer_idx), query.shape  # type: ignore[arg-type]
    scaling = scaling if scaling is not None else size**-0.5
    query = shared_prefix.group_queries(query, key.shape[1])
    suffix = shared_prefix.update(layer, key, value)
    bias = shared_prefix.attention_bias(query.shape[2], query.dtype)
    empty = suffix[0][:, 0, :0], suffix[1][:, 0, :0]
    attend = _two_blocks if query.dtype in (torch.float32, torch.float64) else _sdpa
    output = attend(query, shared_prefix.prefix.get(layer, empty), suffix, bias, scaling)
    return shared_prefix.ungroup(output, rows, heads), None


AttentionInterface.register(_NAME, shared_prefix_attention)


def _two_blocks(
    query: torch.Tensor, prefix: KeyValue, suffix: KeyValue, bias: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attend to the prefix and to a prompt's slots.

    Args:
        query: (Hk, B, n, D).
        prefix: Keys and values, (Hk, P, D).
        suffix: Keys and values of the slots, (Hk, B, C, D).
        bias: (n, C) or (B, n, C): minus infinity where a query does not see a slot, else 0.
        scaling: Factor of the scores.

    Returns:
        (Hk, B, n, D).
    """
    query = query * scaling
    (prefix_key, prefix_value), (suffix_key, suffix_value) = prefix, suffix
    split, slots = prefix_key.shape[1], suffix_key.shape[2]
    scores = query.new_empty(*query.shape[:3], split + slots)
    # All prompts' queries to the prefix are one matrix product a head.
    by_head = scores.flatten(1, 2)[..., :split]
    torch.bmm(query.flatten(1, 2), prefix_key.transpose(1, 2), out=by_head)
    torch.add(query @ suffix_key.transpose(2, 3), bias, out=scores[..., split:])
    weights = torch.softmax(scores, dim=-1, out=scores)
    from_prefix = weights.flatten(1, 2)[..., :split] @ prefix_value
    from_suffix = weights[..., split:] @ suffix_value
    return from_suffix.add_(from_prefix.view_as(from_suffix))


def _sdpa(
    query: torch.Tensor, prefix: KeyValue, suffix: KeyValue, bias: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attend as `_two_blocks` does, with the kernel that `generate` uses: for low precision.

    What is rounded within decides responses: in bfloat16 this agrees with `generate` as often as a
    padded batch does (tests/models/adapters/test_bfloat16.py), `_two_blocks` less often. The
    kernel knows no shared prefix, so a layer's is copied for every prompt.
    """
    key, value = (
        torch.cat([shared[:, None].expand(-1, query.shape[1], -1, -1), single], dim=2)
        for shared, single in zip(prefix, suffix, strict=True)
    )
    mask = torch.nn.functional.pad(bias, (prefix[0].shape[1], 0))
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask.expand(1, query.shape[1], -1, -1), scale=scaling
    )


@contextmanager
def use_shared_prefix_attention(language_model: Any) -> Iterator[None]:
    """Have a model use `shared_prefix_attention` for the time of a call."""
    before = language_model.config._attn_implementation
    language_model.config._attn_implementation = _NAME
    try:
        yield
    finally:
        language_model.config._attn_implementation = before
