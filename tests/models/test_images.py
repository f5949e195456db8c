from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verbalizer_bench.models.images import image_sha256, make_image, tower_size


@pytest.mark.parametrize(("mode", "level"), [("white", 255), ("gray", 128), ("black", 0)])
def test_blank_images(mode: str, level: int) -> None:
    image = make_image(mode, (6, 4))
    assert image is not None and image.size == (6, 4)
    assert np.asarray(image).shape == (4, 6, 3) and (np.asarray(image) == level).all()


def test_noise_is_always_the_same_and_uniform() -> None:
    first, second = make_image("noise", (64, 64)), make_image("noise", (64, 64))
    assert first is not None and second is not None
    assert image_sha256(first) == image_sha256(second)
    # Fixed here, so that a library cannot change what models were shown.
    assert image_sha256(first).startswith("6cf3796ca121c607")
    assert 120 < np.asarray(first).mean() < 135


def test_none_and_files(tmp_path: Path) -> None:
    assert make_image("none", (6, 4)) is None
    Image.new("L", (3, 2), 7).save(tmp_path / "x.png")
    image = make_image(str(tmp_path / "x.png"), (6, 4))
    assert image is not None and (image.mode, image.size) == ("RGB", (3, 2))
    with pytest.raises(ValueError, match="image=withe: neither white, gray"):
        make_image("withe", (6, 4))


def test_tower_size() -> None:
    from transformers import CLIPVisionConfig, LlavaConfig

    assert tower_size(LlavaConfig(vision_config=CLIPVisionConfig(image_size=224))) == (224, 224)
    assert tower_size(object()) == (336, 336)
