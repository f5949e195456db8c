"""Attention over two blocks: a prefix stored once, and a prompt's own tokens with its beams'.

Registered with transformers' attention interface, so that no model code changes: the language
model hands the extra argument `shared_prefix` down to `shared_prefix_attention`, with query, key
and value already rotated. Both blocks go through one softmax, so that the result is that of plain
attention over their concatenation.

Beams are not copied when they branch: a prompt's keys and values stand in slots, and each beam
knows which slots it sees. A slot that no beam sees any more is used again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface

NAME = "verbalizer_shared_prefix"
KeyValue = tuple[torch.Tensor, torch.Tensor]
# Slots for new tokens that a prompt has from the start.
_ROOM = 16


class SharedPrefix:
    """Keys and values of one batch.

    Shapes: B prompts, K beams, Hk key/value heads, D head size, P prefix, C slots of a prompt.

    Attributes:
        prefix: A layer's keys and values of the prefix, (Hk, P, D), stored once for all rows.
        slots: A layer's keys and values of the prompts' own and generated tokens, (Hk, B, C, D).
        visible: The slots that each beam sees, (B, K, C).
    """

    def __init__(self, prefix: Mapping[int, KeyValue], lengths: torch.Tensor, beams: int) -> None:
        """Make room for prompts of so many own tokens each, `lengths` (B,), in K beams."""
        self.prefix, self.beams = prefix, beams
        # Beams descend from few of the tokens before: there is room for more when it is needed.
        capacity = int(lengths.max()) + max(_ROOM, 2 * beams)
        self.slots: dict[int, KeyValue] = {}
        visible = torch.arange(capacity, device=lengths.device) < lengths[:, None]
        self.visible = visible[:, None].expand(-1, beams, -1)
        self._decoding = False
        self._bias: torch.Tensor | None = None

    def prompts(self, start: int, stop: int, length: int) -> None:
        """Expect a pass over own tokens of the prompts `start` to `stop`, padded to `length`."""
        self._part, self._decoding, self._bias = (start, stop), False, None
        places = torch.arange(length, device=self.visible.device)
        self._hidden = places > places[:, None]

    def advance(self, origin: torch.Tensor) -> None:
        """Expect a pass over the beams' newest tokens; each beam goes on from `origin`, (B, K)."""
        capacity = self.visible.shape[2]
        visible = self.visible.gather(1, origin[:, :, None].expand(-1, -1, capacity))
        taken = visible.any(1)
        if (missing := int(taken.sum(1).max()) + self.beams - capacity) > 0:
            more = max(missing, self.beams)
            visible, taken = (torch.nn.functional.pad(x, (0, more)) for x in (visible, taken))
            # A layer at a time, here and below: two copies of one layer are in memory, not of all.
            for layer, (key, value) in self.slots.items():
                self.slots[layer] = _wider(key, more), _wider(value, more)
        free = taken.byte().argsort(dim=1, stable=True)[:, : self.beams]
        self.visible = visible.scatter(2, free[:, :, None], True)
        offsets = torch.arange(len(free), device=free.device)[:, None] * visible.shape[2]
        self._decoding, self._bias, self._hidden = True, None, ~self.visible
        self._newest = (free + offsets).flatten()

    def keep(self, prompts: torch.Tensor) -> None:
        """Drop the prompts that are finished: `prompts` indexes those that stay."""
        for layer, (key, value) in self.slots.items():
            self.slots[layer] = key[:, prompts], value[:, prompts]
        self.visible = self.visible[prompts]

    def store(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> KeyValue:
        """Keep a layer's keys and values of this pass, (rows, Hk, q, D).

        Returns:
            What the rows of this pass may see besides the prefix, each (Hk, prompts, tokens, D).
        """
        key, value = key.transpose(0, 1), value.transpose(0, 1)
        if layer not in self.slots:
            room = (len(key), self.visible.shape[0], self.visible.shape[2])
            # Zeros: what no beam sees is multiplied by a weight of zero, which NaN would survive.
            self.slots[layer] = (
                key.new_zeros(*room, key.shape[3]),
                value.new_zeros(*room, value.shape[3]),
            )
        for kept, new in zip(self.slots[layer], (key, value), strict=True):
            if self._decoding:
                kept.view(len(kept), -1, kept.shape[3]).index_copy_(1, self._newest, new[:, :, 0])
            else:
                start, stop = self._part
                kept[:, start:stop, : new.shape[2]] = new
        return self.slots[layer] if self._decoding else (key, value)

    def by_prompt(self, query: torch.Tensor, key_heads: int) -> torch.Tensor:
        """Turn queries, (rows, heads, q, D), into those of a prompt's key heads, (Hk, B, n, D)."""
        rows, heads, length, size = query.shape
        beams = self.beams if self._decoding else 1
        # Beams, and heads that share a key head, are queries of that head.
        query = query.view(rows // beams, beams, key_heads, heads // key_heads, length, size)
        return query.permute(2, 0, 1, 3, 4, 5).reshape(key_heads, rows // beams, -1, size)

    def by_row(self, output: torch.Tensor, rows: int, heads: int) -> torch.Tensor:
        """Turn outputs, as `by_prompt` gives queries, into (rows, q, heads, D)."""
        key_heads, prompts, count, size = output.shape
        beams, groups = rows // prompts, heads // key_heads
        length = count // (beams * groups)
        output = output.view(key_heads, prompts, beams, groups, length, size)
        return output.permute(1, 2, 4, 0, 3, 5).reshape(rows, length, heads, size)

    def bias(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        """Return what is added to the scores of a prompt's `count` queries, (n, C) or (B, n, C).

        Minus infinity where a query does not see a token of `store`; the same in every layer.
        """
        if self._bias is None:
            repeats = count // self._hidden.shape[-2]
            hidden = (
                self._hidden.repeat_interleave(repeats, dim=1)
                if self._decoding
                else self._hidden.repeat(repeats, 1)
            )
            zeros = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            self._bias = zeros.masked_fill_(hidden, float("-inf"))
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
    shared_prefix: SharedPrefix | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend to both blocks; transformers' attention interface.

    Args:
        module: The attention layer; its `layer_idx` says which.
        query: (rows, heads, q, D); rows are prompts with q own tokens, or beams with q = 1.
        key: (rows, Hk, q, D), of the same tokens.
        value: As `key`.
        attention_mask: Not used: `shared_prefix` says what is seen.
        scaling: Factor of the scores.
        shared_prefix: The blocks; this call adds its keys and values to them.
        kwargs: What else a model passes; a soft cap or a window would make the result wrong, which
            the engine's check against a plain forward pass finds.

    Returns:
        (rows, q, heads, D), and no weights.
    """
    if shared_prefix is None:
        raise TypeError(f"{type(module).__name__} does not get the shared prefix")
    layer, (rows, heads, _, size) = int(module.layer_idx), query.shape  # type: ignore[arg-type]
    scaling = scaling if scaling is not None else size**-0.5
    query = shared_prefix.by_prompt(query, key.shape[1])
    own = shared_prefix.store(layer, key, value)
    bias = shared_prefix.bias(query.shape[2], query.dtype)
    empty = own[0][:, 0, :0], own[1][:, 0, :0]
    attend = _attend if query.dtype in (torch.float32, torch.float64) else _attend_as_generate
    output = attend(query, shared_prefix.prefix.get(layer, empty), own, bias, scaling)
    return shared_prefix.by_row(output, rows, heads), None


AttentionInterface.register(NAME, shared_prefix_attention)


def _attend(
    query: torch.Tensor, prefix: KeyValue, own: KeyValue, bias: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attend to the prefix and to a prompt's slots.

    Args:
        query: (Hk, B, n, D).
        prefix: Keys and values, (Hk, P, D).
        own: Keys and values, (Hk, B, C, D).
        bias: (n, C) or (B, n, C): minus infinity where a query does not see a slot, else 0.
        scaling: Factor of the scores.

    Returns:
        (Hk, B, n, D).
    """
    query = query * scaling
    (prefix_key, prefix_value), (own_key, own_value) = prefix, own
    split, slots = prefix_key.shape[1], own_key.shape[2]
    scores = query.new_empty(*query.shape[:3], split + slots)
    # All prompts' queries to the prefix are one matrix product a head.
    by_head = scores.flatten(1, 2)[..., :split]
    torch.bmm(query.flatten(1, 2), prefix_key.transpose(1, 2), out=by_head)
    torch.add(query @ own_key.transpose(2, 3), bias, out=scores[..., split:])
    weights = torch.softmax(scores, dim=-1, out=scores)
    from_prefix = weights.flatten(1, 2)[..., :split] @ prefix_value
    from_own = weights[..., split:] @ own_value
    return from_own.add_(from_prefix.view_as(from_own))


def _attend_as_generate(
    query: torch.Tensor, prefix: KeyValue, own: KeyValue, bias: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attend as `_attend` does, with the kernel that `generate` uses: for low precision.

    What is rounded within decides responses: in bfloat16 this agrees with `generate` as often as a
    padded batch does (tests/models/adapters/test_bfloat16.py), our own products less often. The
    kernel knows no shared prefix, so a layer's is copied for every prompt.
    """
    key, value = (
        torch.cat([shared[:, None].expand(-1, query.shape[1], -1, -1), single], dim=2)
        for shared, single in zip(prefix, own, strict=True)
    )
    mask = torch.nn.functional.pad(bias, (prefix[0].shape[1], 0))
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask.expand(1, query.shape[1], -1, -1), scale=scaling
    )


@contextmanager
def attention_implementation(language_model: Any) -> Iterator[None]:
    """Have a model use the attention of this module for the time of a call."""
    before = language_model.config._attn_implementation
    language_model.config._attn_implementation = NAME
    try:
        yield
    finally:
        language_model.config._attn_implementation = before
