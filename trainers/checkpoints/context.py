"""How many tokens a model has positions for, and whether records have more.

A model of learned positions fails beyond them; one of rotations goes on, and learns what it was
never made for.
"""

from typing import Any

import numpy as np

_EXTENDED = ("linear", "dynamic")


def context(config: Any) -> int | None:
    """Return the tokens that a model has positions for; None where they are not limited.

    Where a configuration may be read in two ways the larger number is returned: rotations are
    scaled by a factor, and some configurations state the length before that.

    Args:
        config: A model's; of a model that sees, its language model's is asked.
    """
    text = config.get_text_config()
    stated = getattr(text, "max_position_embeddings", None)
    if not isinstance(stated, int) or stated < 1:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    factor, original = rope.get("factor"), rope.get("original_max_position_embeddings")
    if not factor:
        return stated
    if original:
        return max(stated, int(original * factor))
    return int(stated * factor) if rope.get("rope_type") in _EXTENDED else stated


def too_long(config: Any, lengths: np.ndarray) -> str | None:
    """Return that records have more tokens than a model has positions, and what to do; else None.

    Args:
        config: The model's.
        lengths: Tokens of each record, image tokens counted.
    """
    limit = context(config)
    if limit is None or not len(lengths) or lengths.max() <= limit:
        return None
    return (
        f"{int((lengths > limit).sum()):,} of {len(lengths):,} records have more tokens than the "
        f"{limit:,} that the model has positions for, the longest {int(lengths.max()):,}; give "
        f"max_length={limit}, which cuts them off, or a model of a longer context"
    )
