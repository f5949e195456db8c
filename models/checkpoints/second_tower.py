"""A second vision tower beside a LLaVA's: which, and how it is mixed. See `mixtures`."""

from dataclasses import dataclass

from verbalizer_bench.models.checkpoints.choices import FEATURE_LAYER

PIXELS = ("first", "own")


@dataclass(frozen=True)
class SecondTower:
    """A second vision tower and how its features are mixed with the first one's.

    Attributes:
        tower: A folder or hub id; DINOv2, DINOv3, CLIP, SigLIP or another with patch features.
        mixture: `additive`, `interleaved` or `channel` (`MofLlavaConfig`).
        alpha: The first tower's share, of `additive` alone.
        normalize: Bring each patch's vector of either tower to mean 0 and variance 1 first.
        layer: Which hidden state of it is taken; None: -1 of a DINO, which is before its last norm,
            and -2 of others.
        first_layer: Which hidden state of the first tower is taken.
        grid: `resize_pixels` or `resize_features` (`MofLlavaConfig`).
        pixels: `first`: it sees the pixels that the first tower's processor made, as in Tong et al.
            2024. `own`: by its own processor's mean and deviation.
    """

    tower: str
    mixture: str
    alpha: float | None = None
    normalize: bool = False
    layer: int | None = None
    first_layer: int = FEATURE_LAYER
    grid: str = "resize_pixels"
    pixels: str = "first"

    def __post_init__(self) -> None:
        # The file travels with checkpoints and imports transformers, which takes seconds.
        from verbalizer_bench.models.mof.configuration_mof_llava import GRIDS, MIXTURES

        for name, known in (("mixture", MIXTURES), ("grid", GRIDS), ("pixels", PIXELS)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name}={value}: one of {', '.join(known)}")
        if (self.mixture == "additive") != (self.alpha is not None):
            raise ValueError(
                f"mixture={self.mixture}, alpha={self.alpha}: additive takes alpha, the first "
                "tower's share from 0 to 1, and no other mixture does"
            )
