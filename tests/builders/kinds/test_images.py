"""Which images are chosen, and what annotations say of them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import SHARED
from verbalizer_bench.builders.kinds.images import (
    BoundingBox,
    describe,
    image_samples,
    look_at,
    read_annotations,
    select,
    select_captions,
)
from verbalizer_bench.builders.pipeline.blocks import Captions, Images


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


def coco(path: Path, **others: Any) -> Path:
    annotations = {
        "images": [
            {"id": 7, "file_name": "b.jpg", "width": 200, "height": 100},
            {"id": 5, "file_name": "a.jpg", "width": 10, "height": 10},
        ],
        "annotations": [
            {"id": 2, "image_id": 7, "caption": "second \n one"},
            {"id": 1, "image_id": 7, "caption": "first"},
        ],
    }
    path.write_text(json.dumps(annotations | others))
    return path


def test_the_choice_is_by_the_hash_of_seed_and_name(tmp_path: Path) -> None:
    from hashlib import sha256

    folder = make(tmp_path, *(f"{n}.png" for n in range(9)), "inner/x.jpg")
    (folder / "notes.txt").write_text("no image")
    chosen = [image.image for image in select(Images(folder))]
    names = [*(f"{n}.png" for n in range(9)), "inner/x.jpg"]
    assert chosen == sorted(names, key=lambda name: sha256(f"0\t{name}".encode()).hexdigest())
    # A greater n keeps what there was.
    assert [image.image for image in select(Images(folder, n=4))] == chosen[:4]
    assert [image.image for image in select(Images(folder), limit=3)] == chosen[:3]
    assert [image.image for image in select(Images(folder, seed=1))] != chosen
    assert chosen[:3] == ["3.png", "5.png", "1.png"]  # whatever the library


def test_coco(tmp_path: Path) -> None:
    boxes = coco(
        tmp_path / "instances.json",
        annotations=[{"id": 1, "image_id": 7, "category_id": 3, "bbox": [20, 10, 100, 50]}],
        categories=[{"id": 3, "name": "dog"}],
    )
    images = {one.image: one for one in read_annotations(coco(tmp_path / "captions.json"), boxes)}
    assert images["b.jpg"].captions == ("first", "second one")
    assert images["b.jpg"].boxes == (BoundingBox("dog", (0.1, 0.1, 0.6, 0.6)),)
    assert describe(images["b.jpg"]) == "first\nsecond one\n\ndog: [0.1, 0.1, 0.6, 0.6]"
    assert images["a.jpg"].captions == () and describe(images["a.jpg"]) == ""


def test_llavas_json_lines() -> None:
    path = SHARED / "data/coco/llava_caps_boxes_coco2014_val_80.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    images = read_annotations(path)
    assert len(images) == 80 and all(len(one.captions) >= 5 for one in images)
    assert images[0].image == "000000296284.jpg"
    assert images[0].boxes[0] == BoundingBox("donut", (0.37, 0.584, 0.504, 0.709))
    captions = SHARED / "data/coco/captions_val2014_subset.json"
    assert len(select_captions(Captions(captions))) == 580
    assert len(select_captions(Captions(captions, n=182))) == 182


def test_files_that_are_no_images_are_rejected(tmp_path: Path) -> None:
    make(tmp_path, "good.jpg", "torn.jpg")
    torn = (tmp_path / "good.jpg").read_bytes()[:40]
    (tmp_path / "torn.jpg").write_bytes(torn)
    (tmp_path / "text.png").write_text("no image")
    noise = Image.effect_noise((64, 64), 90)
    for suffix in ("jpg", "png", "gif", "webp"):
        whole = tmp_path / f"whole.{suffix}"
        noise.save(whole)
        (tmp_path / f"half.{suffix}").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    Image.new("RGB", (4, 4)).save(tmp_path / "other.jpg", format="BMP")
    samples = {
        sample.image: sample
        for sample in asyncio.run(image_samples(select(Images(tmp_path)), tmp_path))
    }
    assert (
        samples["good.jpg"].rejection is None and len(samples["good.jpg"].image_sha256 or "") == 64
    )
    for suffix in ("jpg", "png", "gif", "webp"):
        assert samples[f"whole.{suffix}"].rejection is None and samples[f"half.{suffix}"].rejection
    for name, reason in (("torn.jpg", "no image"), ("text.png", "no image"), ("other.jpg", "BMP")):
        rejection = samples[name].rejection
        assert rejection and rejection.reason == "image" and reason in rejection.detail, name


def test_mistakes_are_a_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"images.folder=.*nowhere: no such folder"):
        select(Images(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"images: .* has no image; give another source"):
        select(Images(tmp_path))
    make(tmp_path, "a.png")
    with pytest.raises(ValueError, match=r"images.n=2: .* has 1 images; lower n"):
        select(Images(tmp_path, n=2))
    with pytest.raises(FileNotFoundError, match=r"annotations .*x.json: no such file"):
        select(Images(tmp_path, annotations=tmp_path / "x.json"))
    for name, content in (
        ("x.json", "[1]"),
        ("y.jsonl", '{"picture": "a.png"}\n'),
        ("z.json", "{"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=f"{name}(, line 1)?: (neither COCO's|not) JSON"):
            select(Images(tmp_path, annotations=tmp_path / name))
    with pytest.raises(ValueError, match=r"images.captions=True: give images.annotations"):
        Images(tmp_path, captions=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "a.png", "captions": "A cat."}', "captions='A cat.': a list of texts"),
        ('{"image": "a.png", "caption": 5}', "caption=5: a text is expected"),
        ('{"image": "a.png", "captions": ["A cat.", null]}', "caption=None: a text"),
        ('{"image": null, "caption": "A cat."}', "image=None: a file's name"),
        ('{"image": "a.png", "instances": [{"category": "x", "bbox": [1, 2, 1e999, 3]}]}', "bbox="),
        ('{"image": "a.png", "image": "b.png"}', "'image' stands twice"),
        ('{"image": "a.png", "caption": "half \\ud83d"}', "half of a surrogate pair"),
        ('{"image": "a.png", "caption": NaN}', "NaN stands in it"),
        ('["a.png"]', "JSON lines with image: a list in place of an object"),
        ('{"caption": "A cat."}', "JSON lines with image: no 'file_name' in it"),
    ],
)
def test_a_wrong_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('\ufeff{"image": "z.png", "caption": "A dog."}\n' + line + "\n")
    with pytest.raises(ValueError) as error:
        read_annotations(path)
    assert f"{path}, line 2: " in str(error.value) and message in str(error.value)
    assert "\n" not in str(error.value)


def test_latin_1_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"image": "a.png"}\n{"image": "b.png", "caption": "caf\xe9"}\n')
    with pytest.raises(ValueError, match="line 2: byte 0xe9 is not UTF-8"):
        read_annotations(path)


def test_a_line_a_caption(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    samples = [("a.png", "One."), ("b.png", "Two."), ("a.png", "Three."), ("a.png", "One.")]
    path.write_text("".join(json.dumps({"image": i, "caption": c}) + "\n" for i, c in samples))
    captions = {one.image: one.captions for one in read_annotations(path)}
    assert captions == {"a.png": ("One.", "Three."), "b.png": ("Two.",)}


def test_a_size_of_nothing(tmp_path: Path) -> None:
    boxes = coco(
        tmp_path / "x.json",
        images=[{"id": 7, "file_name": "b.jpg", "width": 0, "height": 100}],
        annotations=[{"id": 1, "image_id": 7, "category_id": 3, "bbox": [20, 10, 100, 50]}],
        categories=[{"id": 3, "name": "dog"}],
    )
    with pytest.raises(ValueError, match=r"x.json: image 7: width=0, height=100: more than 0"):
        read_annotations(boxes)


def test_an_image_that_is_a_bomb_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    (sample,) = asyncio.run(image_samples(select(Images(tmp_path)), tmp_path))
    assert sample.rejection and "decompression bomb" in sample.rejection.detail


def test_a_file_that_is_no_image_is_said_in_the_same_words_each_time(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"no image at all")
    wanted = f"{file}: no image: in none of the formats that Pillow knows"
    assert look_at(file).problem == wanted
