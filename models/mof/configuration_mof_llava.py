"""Configuration of a LLaVA that sees by two vision towers (mixture of features, arXiv 2401.06209).

This file travels with a checkpoint and imports nothing but transformers.
"""

from typing import Any

from transformers import AutoConfig, LlavaConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

MIXTURES = ("additive", "interleaved", "channel")
GRIDS = ("resize_pixels", "resize_features")
_DINOV2_LARGE = {
    "model_type": "dinov2",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 518,
    "patch_size": 14,
}


class MofLlavaConfig(LlavaConfig):
    """A `LlavaConfig` with a second tower and how its features are mixed with the first one's.

    Attributes:
        second_vision_config: The second tower's configuration.
        second_vision_feature_layer: Which of its hidden states is taken; -1 of a DINOv2 is the last
            before its norm. The first tower's is `vision_feature_layer`.
        mixture: `additive`: alpha x first + (1 - alpha) x second, one connector. `interleaved`: a
            connector for each tower; tokens alternate in spatial order, the first tower's at even
            places. `channel`: both vectors of a patch one after the other, one connector.
        alpha: The first tower's share, from 0 to 1; of `additive` alone.
        normalize_features: Each patch's vector of either tower is brought to mean 0 and variance 1
            before they are mixed.
        grid: How the second tower comes to the first one's grid of patches where it would have
            another. `resize_pixels`: it sees the pixels resized (bicubic) to as many patches of its
            own size. `resize_features`: it sees them resized to the size of its configuration, and
            its features are resized (bilinear).
        second_normalization: None: both towers see the same normalised pixels. Else `first_mean`,
            `first_std`, `mean` and `std`: pixels are as the first two made them, and the second
            tower sees them as the other two would have.
    """

    model_type = "mof_llava"
    sub_configs = {  # noqa: RUF012
        "text_config": AutoConfig,
        "vision_config": AutoConfig,
        "second_vision_config": AutoConfig,
    }

    second_vision_config: Any = None
    second_vision_feature_layer: int = -1
    mixture: str = "interleaved"
    alpha: float | None = None
    normalize_features: bool = False
    grid: str = "resize_pixels"
    second_normalization: dict[str, list[float]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Make the second tower's configuration, and check what is said of the mixture."""
        second = self.second_vision_config
        if not isinstance(second, PreTrainedConfig):
            values = dict(second or _DINOV2_LARGE)
            kind = values.setdefault("model_type", "dinov2")
            if kind not in CONFIG_MAPPING:
                raise ValueError(f"second_vision_config: transformers has no model_type={kind}")
            self.second_vision_config = CONFIG_MAPPING[kind](**values)
        super().__post_init__(**kwargs)
        self._check_mixture()

    def _check_mixture(self) -> None:
        """Raise ValueError, in one line, for a mixture that there is not."""
        for key, known in (("mixture", MIXTURES), ("grid", GRIDS)):
            if getattr(self, key) not in known:
                raise ValueError(f"{key}={getattr(self, key)}: one of {', '.join(known)}")
        additive, alpha = self.mixture == "additive", self.alpha
        if additive and not (isinstance(alpha, int | float) and 0 <= alpha <= 1):
            raise ValueError(f"alpha={alpha}: mixture=additive takes a share from 0 to 1")
        if not additive and alpha is not None:
            raise ValueError(f"alpha={alpha}: mixture={self.mixture} has no share; leave it out")
        widths = [tower.hidden_size for tower in (self.vision_config, self.second_vision_config)]
        if additive and len(set(widths)) > 1:
            raise ValueError(
                "mixture=additive takes towers of one width, and these have "
                f"{widths[0]} and {widths[1]}; take interleaved or channel"
            )
        for key, tower in (
            ("vision_feature_layer", self.vision_config),
            ("second_vision_feature_layer", self.second_vision_config),
        ):
            layer, last = getattr(self, key), tower.num_hidden_layers
            if not isinstance(layer, int) or not -last - 1 <= layer <= last:
                raise ValueError(
                    f"{key}={layer}: {tower.model_type} has hidden states {-last - 1} to {last}"
                )
        given, keys = self.second_normalization, ("first_mean", "first_std", "mean", "std")
        if given is not None and sorted(given) != sorted(keys):
            raise ValueError(
                f"second_normalization has {', '.join(sorted(given))}; give {', '.join(keys)}"
            )
