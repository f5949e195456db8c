"""The optimisers that a recipe may name, and what each keeps of a weight."""

from collections.abc import Iterable
from typing import Any, NamedTuple

# bitsandbytes' scale of a block of 8-bit values, and the size below which it keeps 32 bits.
_BLOCK, _SMALL = 256, 4_096


class Optimizer(NamedTuple):
    """What an optimiser keeps.

    Attributes:
        moments: Numbers it keeps of a weight; None: of a matrix one for each row and column.
        bits: Of such a number.
        betas: Whether `adam_beta2` is one of its settings.
        package: What it is from, if not torch or transformers.
        paged: Whether they move to the host's memory where the device's is full.
    """

    moments: int | None
    bits: int = 32
    betas: bool = True
    package: str | None = None
    paged: bool = False

    @property
    def spread(self) -> bool:
        """Tell whether it works on weights that FSDP2 spreads."""
        return self.package is None and self.moments is not None


def _bitsandbytes(moments: int, bits: int, paged: bool = False) -> Optimizer:
    return Optimizer(moments, bits, package="bitsandbytes", paged=paged)


# By transformers' names. Those that train other weights than they are given (GaLore, APOLLO, LOMO),
# or that have a schedule of their own, are not among them.
OPTIMIZERS = {
    "adamw_torch_fused": Optimizer(2),
    "adamw_torch": Optimizer(2),
    "adafactor": Optimizer(None, betas=False),
    "sgd": Optimizer(0, betas=False),
    "adamw_8bit": _bitsandbytes(2, 8),
    "adamw_bnb_8bit": _bitsandbytes(2, 8),
    "paged_adamw_8bit": _bitsandbytes(2, 8, paged=True),
    "paged_adamw_32bit": _bitsandbytes(2, 32, paged=True),
    "lion_8bit": _bitsandbytes(1, 8),
    "lion_32bit": _bitsandbytes(1, 32),
    "paged_lion_8bit": _bitsandbytes(1, 8, paged=True),
    "paged_lion_32bit": _bitsandbytes(1, 32, paged=True),
}


def state_bytes(optim: str, weights: Iterable[tuple[Any, bool]]) -> float:
    """Return the bytes that an optimiser keeps of trained weights.

    Args:
        optim: One of `OPTIMIZERS`.
        weights: The shape of each, and whether it is an embedding, of which transformers has
            bitsandbytes keep 32 bits.
    """
    kind, total = OPTIMIZERS[optim], 0.0
    for shape, embedding in weights:
        size = shape.numel()
        if kind.moments is None:
            # Of a matrix a mean for each row and each column.
            kept = size // shape[-1] + size // shape[-2] if len(shape) > 1 else size
            total += 4 * kept
        elif kind.bits == 32 or embedding or size < _SMALL:
            total += 4 * kind.moments * size
        else:
            total += kind.moments * size * (1 + 4 / _BLOCK)
    return total
