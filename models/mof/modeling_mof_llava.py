"""A LLaVA that sees by two vision towers (mixture of features, arXiv 2401.06209).

This file travels with a checkpoint and imports nothing but torch and transformers.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate, layer_norm
from transformers import AutoModel, LlavaForConditionalGeneration, LlavaModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
from transformers.utils.generic import can_return_tuple

from .configuration_mof_llava import MofLlavaConfig

Size = tuple[int, int]


class MofLlavaProjector(LlavaMultiModalProjector):
    """LLaVA's connector, for features of any width."""

    def __init__(self, config: MofLlavaConfig, width: int) -> None:
        """Take the configuration and how wide the features are."""
        super().__init__(config)
        self.linear_1 = nn.Linear(
            width, config.text_config.hidden_size, bias=config.multimodal_projector_bias
        )


class MofLlavaModel(LlavaModel):
    """A LLaVA's model with a second vision tower; `MofLlavaConfig` says what is mixed how."""

    config_class = MofLlavaConfig
    config: MofLlavaConfig

    def __init__(self, config: MofLlavaConfig) -> None:
        """Make both towers, the connectors and the language model."""
        super().__init__(config)
        width, second = config.vision_config.hidden_size, config.second_vision_config
        self.second_vision_tower = AutoModel.from_config(second)
        if config.mixture == "interleaved":
            self.second_multi_modal_projector = MofLlavaProjector(config, second.hidden_size)
        elif config.mixture == "channel":
            self.multi_modal_projector = MofLlavaProjector(config, width + second.hidden_size)
        self.post_init()

    def train(self, mode: bool = True) -> "MofLlavaModel":
        """Set training mode; the towers stay as they are asked, without dropout.

        A DINOv3 would move its positions at random.
        """
        super().train(mode)
        self.vision_tower.eval()
        self.second_vision_tower.eval()
        return self

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        vision_feature_layer: int | None = None,
        vision_feature_select_strategy: str | None = None,
        image_sizes: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Return the mixed features behind the connectors, (tokens, width) an image.

        Args:
            pixel_values: As the first tower's processor makes them, (images, channels, height,
                width).
            vision_feature_layer: Must be left out: the configuration has both towers' layers.
            vision_feature_select_strategy: The same.
            image_sizes: The same: all images have one size.
            kwargs: Not used.

        Raises:
            ValueError: An argument is given that has to be left out, or a tower makes other tokens
                than its patches and, before them, a class token and register tokens.
        """
        for name, value in (
            ("vision_feature_layer", vision_feature_layer),
            ("vision_feature_select_strategy", vision_feature_select_strategy),
            ("image_sizes", image_sizes),
        ):
            if value is not None:
                raise ValueError(f"{name}={value}: MofLlava's configuration decides; leave it out")
        features = self._mixed(pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=features, pooler_output=list(features))

    def _mixed(self, pixels: torch.Tensor) -> torch.Tensor:
        mixture = self.config.mixture
        alpha: Any = self.config.alpha
        # A tower without a share is not asked: alpha=1 is a plain LLaVA bit for bit.
        if mixture == "additive" and alpha in (0, 1):
            alone = self._first(pixels) if alpha else self._second(pixels)
            return self.multi_modal_projector(alone)
        first, second = self._first(pixels), self._second(pixels)
        if mixture == "interleaved":
            first = self.multi_modal_projector(first)
            second = self.second_multi_modal_projector(second)
            return torch.stack([first, second.to(first)], dim=2).flatten(1, 2)
        second = second.to(first)
        if mixture == "channel":
            return self.multi_modal_projector(torch.cat([first, second], dim=-1))
        return self.multi_modal_projector(alpha * first + (1 - alpha) * second)

    def _first(self, pixels: torch.Tensor) -> torch.Tensor:
        config = self.config
        patches = _patches(self.vision_tower, pixels, config.vision_feature_layer)
        return self._normalized(patches)

    def _second(self, pixels: torch.Tensor) -> torch.Tensor:
        config = self.config
        wanted = _grid(config.vision_config, pixels)
        pixels = _resized(_renormalized(pixels, config.second_normalization), wanted, config)
        tower, grid = self.second_vision_tower, _grid(config.second_vision_config, pixels)
        patches = _patches(tower, pixels, config.second_vision_feature_layer)
        if grid != wanted:
            planes = patches.transpose(1, 2).unflatten(2, grid).float()
            planes = interpolate(planes, wanted, mode="bilinear", align_corners=False)
            patches = planes.flatten(2).transpose(1, 2).to(patches.dtype)
        return self._normalized(patches)

    def _normalized(self, patches: torch.Tensor) -> torch.Tensor:
        if not self.config.normalize_features:
            return patches
        return layer_norm(patches.float(), patches.shape[-1:]).to(patches.dtype)


class MofLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """A LLaVA with a second vision tower, to generate with."""

    config_class = MofLlavaConfig
    config: MofLlavaConfig

    def __init__(self, config: MofLlavaConfig) -> None:
        """Make the model and its output layer."""
        # Past LlavaForConditionalGeneration's own, which would make a LLaVA for nothing.
        super(LlavaForConditionalGeneration, self).__init__(config)
        self.model = MofLlavaModel(config)
        text = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()


def _pair(size: Any) -> Size:
    """Return a height and a width, of which configurations write one if they are the same."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _grid(config: Any, pixels: torch.Tensor) -> Size:
    """Return how many patches a tower makes of images, down and across; a rest is cut off."""
    height, width = _pair(config.patch_size)
    return pixels.shape[-2] // height, pixels.shape[-1] // width


def _patches(tower: Any, pixels: torch.Tensor, layer: int) -> torch.Tensor:
    """Return a hidden state of a tower's patches, without class token and register tokens."""
    config = tower.config
    hidden = tower(pixels, output_hidden_states=True, return_dict=True).hidden_states[layer]
    height, width = _grid(config, pixels)
    others = hidden.shape[1] - height * width
    registers = getattr(config, "num_register_tokens", 0)
    if others not in (registers, registers + 1):
        raise ValueError(
            f"{config.model_type} makes {hidden.shape[1]} tokens of {height}x{width} patches and "
            f"{registers} register tokens; at most a class token may stand beside them"
        )
    return hidden[:, others:]


def _renormalized(pixels: torch.Tensor, rule: dict[str, Any] | None) -> torch.Tensor:
    """Return pixels as another mean and deviation would have made them."""
    if rule is None:
        return pixels
    first_mean, first_std, mean, std = (
        torch.tensor(rule[key], device=pixels.device, dtype=torch.float32)[:, None, None]
        for key in ("first_mean", "first_std", "mean", "std")
    )
    return ((pixels.float() * first_std + first_mean - mean) / std).to(pixels.dtype)


def _resized(pixels: torch.Tensor, wanted: Size, config: MofLlavaConfig) -> torch.Tensor:
    """Return pixels in the size that the second tower sees them in."""
    second = config.second_vision_config
    size = _pair(pixels.shape[-2:])
    if config.grid == "resize_features":
        size = _pair(second.image_size)
    elif _grid(second, pixels) != wanted:
        height, width = _pair(second.patch_size)
        size = wanted[0] * height, wanted[1] * width
    if size == _pair(pixels.shape[-2:]):
        return pixels
    resized = interpolate(pixels.float(), size, mode="bicubic", align_corners=False, antialias=True)
    return resized.to(pixels.dtype)
