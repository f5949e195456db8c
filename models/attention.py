"""Attention over three blocks: a prefix stored once, a prompt's own tokens, a beam's new tokens.

Registered with transformers' attention interface, so that no model code changes: the language
model hands the extra argument `shared_prefix` down to `shared_prefix_attention`, with query, key
and value already rotated. The three blocks go through one float32 softmax, so that the result is
that of plain attention over their concatenation.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface

NAME = "verbalizer_shared_prefix"
KeyValue = tuple[torch.Tensor, torch.Tensor]


@dataclasses.dataclass
class SharedPrefix:
    """Keys and values of one batch.

    Shapes: B prompts, K beams, Hk key/value heads, D head size, P prefix, S longest suffix, T new
    tokens.

    Attributes:
        prefix: A layer's keys and values of the prefix, (Hk, P, D), stored once for all rows.
        suffix_mask: (B, S), true where a prompt has a token; suffixes are padded at the right.
        suffix: A layer's keys and values of the prompts' own tokens, (B, Hk, S, D).
        new: A layer's keys and values of the generated tokens, (B * K, Hk, T, D).
        decoding: Whether rows are beams with one token each; before, they are prompts.
    """

    prefix: list[KeyValue]
    suffix_mask: torch.Tensor
    suffix: dict[int, KeyValue] = dataclasses.field(default_factory=dict)
    new: dict[int, KeyValue] = dataclasses.field(default_factory=dict)
    decoding: bool = False

    def reorder(self, rows: torch.Tensor) -> None:
        """Let each beam go on from another: `rows` indexes the beams, shape (B * K,)."""
        self.new = {n: (k[rows], v[rows]) for n, (k, v) in self.new.items()}

    def keep(self, prompts: torch.Tensor) -> None:
        """Drop the prompts that are finished: `prompts` indexes those that stay."""
        self.suffix = {n: (k[prompts], v[prompts]) for n, (k, v) in self.suffix.items()}
        self.suffix_mask = self.suffix_mask[prompts]


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
    """Attend to the three blocks; transformers' attention interface.

    Args:
        module: The attention layer; its `layer_idx` says which.
        query: (rows, heads, q, D); rows are prompts with q = S, or beams with q = 1.
        key: (rows, Hk, q, D), of the same tokens.
        value: As `key`.
        attention_mask: Not used: `shared_prefix` says what is padding.
        scaling: Factor of the scores.
        shared_prefix: The blocks; this call adds its keys and values to them.
        kwargs: What else a model passes; a soft cap or a window would make the result wrong, which
            the engine's check against a plain forward pass finds.

    Returns:
        (rows, q, heads, D), and no weights.
    """
    assert shared_prefix is not None
    layer, (rows, heads, length, size) = int(module.layer_idx), query.shape  # type: ignore[arg-type]
    groups = heads // key.shape[1]
    # Heads that share a key head become queries of that head: (rows, Hk, groups * q, D).
    query = (query * (scaling if scaling is not None else size**-0.5)).reshape(
        rows, key.shape[1], groups * length, size
    )
    blocks = _decode_blocks if shared_prefix.decoding else _prompt_blocks
    output = blocks(shared_prefix, layer, query, key, value, groups)
    return output.reshape(rows, heads, length, size).transpose(1, 2), None


AttentionInterface.register(NAME, shared_prefix_attention)


@contextmanager
def attention_implementation(language_model: Any) -> Iterator[None]:
    """Have a model use the attention of this module for the time of a call."""
    before = language_model.config._attn_implementation
    language_model.config._attn_implementation = NAME
    try:
        yield
    finally:
        language_model.config._attn_implementation = before


def _prompt_blocks(
    state: SharedPrefix,
    layer: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    groups: int,
) -> torch.Tensor:
    """Attend from prompts' own tokens to the prefix and, causally, to themselves."""
    state.suffix[layer] = (key, value)
    length = key.shape[2]
    causal = torch.ones(length, length, dtype=torch.bool, device=key.device).tril()
    visible = causal & state.suffix_mask[:, None, :]
    # The same for every head of a group: (B, 1, groups * S, S).
    visible = visible.repeat(1, groups, 1)[:, None]
    own = (query @ key.transpose(2, 3)).masked_fill(~visible, float("-inf"))
    to_prefix, prefix_value = _prefix_scores(state, layer, query)
    weights = torch.cat([to_prefix, own], dim=-1).softmax(-1, dtype=torch.float32).to(query.dtype)
    split = to_prefix.shape[-1]
    return _added(_prefix_sum(weights[..., :split], prefix_value), weights[..., split:] @ value)


def _decode_blocks(
    state: SharedPrefix,
    layer: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    groups: int,
) -> torch.Tensor:
    """Attend from each beam's newest token to the prefix, its prompt and its own new tokens."""
    if layer in state.new:
        key = torch.cat([state.new[layer][0], key], dim=2)
        value = torch.cat([state.new[layer][1], value], dim=2)
    state.new[layer] = (key, value)
    suffix_key, suffix_value = state.suffix[layer]
    prompts, key_heads, suffix_length, size = suffix_key.shape
    rows = query.shape[0]
    beams = rows // prompts
    # A prompt's beams are queries to its suffix, which is stored once: (B, Hk, K * groups, D).
    by_prompt = query.view(prompts, beams, key_heads, groups, size).transpose(1, 2)
    by_prompt = by_prompt.reshape(prompts, key_heads, beams * groups, size)
    to_suffix = (by_prompt @ suffix_key.transpose(2, 3)).masked_fill(
        ~state.suffix_mask[:, None, None, :], float("-inf")
    )
    to_suffix = to_suffix.view(prompts, key_heads, beams, groups, suffix_length).transpose(1, 2)
    to_suffix = to_suffix.reshape(rows, key_heads, groups, suffix_length)
    to_prefix, prefix_value = _prefix_scores(state, layer, query)
    scores = torch.cat([to_prefix, to_suffix, query @ key.transpose(2, 3)], dim=-1)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    start, stop = to_prefix.shape[-1], to_prefix.shape[-1] + suffix_length
    on_suffix = weights[..., start:stop].reshape(prompts, beams, key_heads, groups, suffix_length)
    on_suffix = on_suffix.transpose(1, 2).reshape(prompts, key_heads, beams * groups, suffix_length)
    from_suffix = (on_suffix @ suffix_value).view(prompts, key_heads, beams, groups, size)
    from_suffix = from_suffix.transpose(1, 2).reshape(rows, key_heads, groups, size)
    from_prefix = _prefix_sum(weights[..., :start], prefix_value)
    return _added(from_prefix, from_suffix, weights[..., stop:] @ value)


def _added(*parts: torch.Tensor) -> torch.Tensor:
    """Add the blocks' outputs in float32, so that low precision is rounded once."""
    return torch.stack([part.float() for part in parts]).sum(0).to(parts[0].dtype)


def _prefix_scores(
    state: SharedPrefix, layer: int, query: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores to the prefix, (rows, Hk, n, P), by one product a head, and its values."""
    key, value = state.prefix[layer]
    rows, key_heads, count, size = query.shape
    flat = query.transpose(0, 1).reshape(key_heads, rows * count, size)
    scores = torch.bmm(flat, key.transpose(1, 2))
    return scores.view(key_heads, rows, count, key.shape[1]).transpose(0, 1), value


def _prefix_sum(weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return the weighted sum of the prefix's values, (rows, Hk, n, D)."""
    rows, key_heads, count, length = weights.shape
    flat = weights.transpose(0, 1).reshape(key_heads, rows * count, length)
    return torch.bmm(flat, value).view(key_heads, rows, count, value.shape[2]).transpose(0, 1)
