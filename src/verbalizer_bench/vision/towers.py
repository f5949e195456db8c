"""Vision towers with their image processors, loaded strictly, and what is recorded of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import transformers
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from verbalizer_bench.models.adapters.fingerprints import settings_sha256
from verbalizer_bench.models.checkpoints.strict_loading import load_whole, reading
from verbalizer_bench.models.checkpoints.weight_hash import weights_sha256
from verbalizer_bench.vision.embedding import Embedding, embed

DTYPES = ("float32", "bfloat16", "float16")


def check_computing(device: str, dtype: str) -> None:
    """Raise ValueError for a device that is not there, or a precision that is none."""
    if dtype not in DTYPES:
        raise ValueError(f"--dtype {dtype}: give one of {', '.join(DTYPES)}")
    try:
        torch.zeros(1, device=device)
    # torch without CUDA asserts.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"--device {device}: {reason}; give cpu, or one that is there") from error


class Tower(NamedTuple):
    """A vision tower.

    Attributes:
        name: Its folder, or its id at the hub.
        model: The model; of CLIP-like ones both halves, if they are there.
        processor: The checkpoint's image processor.
        embedding: Which vector of an image is taken.
    """

    name: str
    model: Any
    processor: Any
    embedding: Embedding

    def inputs(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Return what the model is given of RGB images."""
        return dict(self.processor(images=list(images), return_tensors="pt"))

    def features(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return float32 features of images, shape (images, width), on the CPU."""
        placed = {name: self._placed(value) for name, value in inputs.items()}
        with torch.inference_mode():
            return embed(self.model, placed, self.embedding).float().cpu()

    def width(self) -> int:
        """Return how many numbers a vector has."""
        return self.features(self.inputs([Image.new("RGB", (64, 64))])).shape[1]

    def _placed(self, value: torch.Tensor) -> torch.Tensor:
        kind = self.model.dtype if value.is_floating_point() else value.dtype
        return value.to(self.model.device, kind)

    def record(self) -> dict[str, Any]:
        """Return what features depend on."""
        return {
            "model": self.name,
            "class": type(self.model).__name__,
            "weights": weights_sha256(self.name),
            "processor": settings_sha256(self.processor.to_dict()),
            "embedding": str(self.embedding),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.model.device.type,
            "transformers": transformers.__version__,
        }


def rates_both(config: Any) -> bool:
    """Say whether a configuration is of a model as CLIP, which has features of images and texts."""
    kind = transformers.MODEL_MAPPING.get(type(config), None)
    return hasattr(kind, "get_text_features") and hasattr(kind, "get_image_features")


def check_tower(name: str, embedding: Embedding, option: str) -> None:
    """Check that a checkpoint is a vision tower with such vectors; loads no weights.

    Args:
        name: A folder or a hub id.
        embedding: Which vector of an image is taken.
        option: The option that named it, for errors.

    Raises:
        ValueError: It is none.
    """
    what = f"{option} {name}"
    with reading(what):
        config = AutoConfig.from_pretrained(name)
    if rates_both(config) or _class(config) is not AutoModel:
        return
    if hasattr(config, "text_config"):
        raise ValueError(
            f"{what}: a checkpoint of the type {config.model_type} is no CLIP or SigLIP, and no "
            "vision tower by itself; give its vision tower"
        )
    if embedding.kind == "projected":
        raise ValueError(
            f"{what}: a checkpoint of the type {config.model_type} is no CLIP or SigLIP, and has "
            f"no projected vector; give one, or {option}-embedding cls, pooled or patches"
        )


def load_tower(
    name: str, embedding: Embedding, option: str, device: str = "cpu", dtype: str = "float32"
) -> Tower:
    """Load a tower and its image processor.

    Args:
        name: A folder or a hub id.
        embedding: Which vector of an image is taken.
        option: The option that named it, for errors.
        device: Where it computes.
        dtype: In which precision.

    Raises:
        ValueError: It cannot be loaded whole.
    """
    what = f"{option} {name}"
    with reading(what):
        config = AutoConfig.from_pretrained(name)
        processor = AutoImageProcessor.from_pretrained(name)
    model = load_whole(_class(config), name, what, part=True, dtype=getattr(torch, dtype))
    return Tower(name, model.to(device).eval(), processor, embedding)


def _class(config: Any) -> Any:
    """Return the class that loads a checkpoint; of a half that projects, AutoModel's does not."""
    for name in getattr(config, "architectures", None) or ():
        if name.endswith("VisionModelWithProjection"):
            return getattr(transformers, name)
    return AutoModel
