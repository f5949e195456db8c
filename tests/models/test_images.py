import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.image_transforms import convert_to_rgb

from verbalizer_bench.io.images import as_rgb, image_sha256, read_image, with_8_bits
from verbalizer_bench.models.images import make_image, tower_size


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


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def seen(path: Path) -> Image.Image:
    """Read a file as trainers do, once adapters are known to see the same."""
    image, shown = read_image(path), make_image(str(path), (6, 4))
    assert shown is not None and image_sha256(image) == image_sha256(shown)
    return image


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    files = {
        save(tmp_path / "p.png", palette): (200, 100, 50),
        save(tmp_path / "pt.png", palette, transparency=b"\xff\x80"): (227, 177, 152),
        save(tmp_path / "a.png", Image.new("RGBA", (2, 2), (9, 8, 7, 0))): (255, 255, 255),
        save(tmp_path / "la.png", Image.new("LA", (2, 2), (6, 255))): (6, 6, 6),
        save(tmp_path / "t.png", Image.new("RGB", (2, 2)), transparency=(0, 0, 0)): (255,) * 3,
        save(tmp_path / "1.png", Image.new("1", (2, 2), 1)): (255, 255, 255),
        save(tmp_path / "c.tif", Image.new("CMYK", (2, 2), (0, 255, 255, 0))): (255, 0, 0),
        save(tmp_path / "b.tif", Image.new("I;16B", (2, 2), 0)): (0, 0, 0),
    }
    for path, colour in files.items():
        image = seen(path)
        assert image.mode == "RGB"
        assert image.getpixel((0, 0)) == colour, path.name
        # What a stock processor makes of the file, as a task shows it.
        with Image.open(path) as shown:
            assert (convert_to_rgb(with_8_bits(shown), return_numpy=True) == colour).all()


LEVELS = np.array([[0, 255, 256, 32768, 65535]])


def deep_images() -> dict[str, Image.Image]:
    return {
        "16.png": Image.fromarray(LEVELS.astype(np.uint16)),
        "16.tif": Image.fromarray(LEVELS.astype(np.uint16)),
        "16.pgm": Image.fromarray(LEVELS.astype(np.uint16)),
        "32.tif": Image.fromarray(LEVELS.astype(np.int32)),
        "big_endian.tif": Image.frombytes("I;16B", (5, 1), LEVELS.astype(">u2").tobytes()),
    }


@pytest.mark.parametrize("name", deep_images())
def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path, name: str) -> None:
    """PIL's own `convert` makes 255 of all of them but 0."""
    image = seen(save(tmp_path / name, deep_images()[name]))
    assert np.asarray(image)[0].tolist() == [[level] * 3 for level in (0, 0, 1, 128, 255)]


def tiff(path: Path, bits: int, photometric: int, data: bytes) -> Path:
    """Write a TIFF of four grey levels, such as PIL does not write."""
    tags = [(256, 3, 4), (257, 3, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 3, 1), (279, 4, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    path.write_bytes(head + data + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


def test_a_tiff_says_how_many_bits_it_has_and_which_end_is_white(tmp_path: Path) -> None:
    levels = np.array([0, 65535, 256, 32768], "<u2").tobytes()
    found = {
        # 0, 2048, 4095 and 1 of 4095.
        (12, 1): (bytes.fromhex("000800fff001"), [0, 128, 255, 0]),
        (16, 1): (levels, [0, 255, 1, 128]),
        (16, 0): (levels, [255, 0, 254, 127]),
    }
    for (bits, photometric), (data, expected) in found.items():
        image = seen(tiff(tmp_path / f"{bits}-{photometric}.tif", bits, photometric, data))
        assert np.asarray(image)[0, :, 0].tolist() == expected


def test_a_dark_file_of_sixteen_bits_stays_dark(tmp_path: Path) -> None:
    for name in ("x.png", "x.pgm", "x.tif"):
        dark = Image.fromarray(np.array([[0, 200]], np.uint16))
        assert not np.asarray(seen(save(tmp_path / name, dark))).any()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.fromarray(np.array([[0, 200]], np.int32)), "levels from 0 to 200 in 32 bits"),
        (Image.fromarray(np.array([[0, 70000]], np.int32)), "levels from 0 to 70000 in 32 bits"),
        (Image.fromarray(np.array([[-5, 300]], np.int32)), "levels from -5 to 300 in 32 bits"),
        (Image.fromarray(np.array([[0, 0.5]], np.float32)), "floating levels"),
    ],
)
def test_levels_whose_white_nobody_states_are_refused(
    image: Image.Image, message: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "x.tif", image)
    with pytest.raises(ValueError, match=f"{message}.*save it with 8 or 16 bits"):
        read_image(path)
    with pytest.raises(ValueError, match=rf"image={path}: neither .*{message}"):
        make_image(str(path), (6, 4))


def test_premultiplied_colours() -> None:
    assert as_rgb(Image.new("RGBa", (1, 1), (64, 32, 0, 128))).getpixel((0, 0)) == (191, 159, 127)


def test_images_of_eight_bits_are_left_to_the_processor() -> None:
    for mode in ("RGBA", "L", "P", "CMYK"):
        image = Image.new(mode, (2, 2))
        assert with_8_bits(image) is image


def test_an_orientation_is_not_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2))
    exif = image.getexif()
    exif[0x0112] = 6
    path = save(tmp_path / "turned.jpg", image, exif=exif)
    assert seen(path).size == (4, 2)
