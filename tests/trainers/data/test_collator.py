"""Batches: ids, masks and labels by hand; images of every mode, padded, missing."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from transformers import CLIPImageProcessor

from verbalizer_bench.trainers.data.collator import Collator
from verbalizer_bench.trainers.data.image_check import ImageCheck

PAD, IMAGE, IGNORED = 0, 9, -100
MEAN = (0.5, 0.25, 0.0)


@pytest.fixture(scope="module")
def processor() -> Any:
    return CLIPImageProcessor(
        size={"shortest_edge": 4},
        crop_size={"height": 4, "width": 4},
        image_mean=MEAN,
        image_std=(1.0, 1.0, 1.0),
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "red.png")
    Image.new("RGB", (8, 4), (0, 0, 255)).save(tmp_path / "wide.png")
    return tmp_path


def row(record: int, ids: list[int], trained: int, *names: str) -> dict[str, Any]:
    answer = [False] * (len(ids) - trained) + [True] * trained
    return {"record": record, "input_ids": ids, "assistant_mask": answer, "images": list(names)}


def collator(processor: Any, images: Path | None) -> Collator:
    return Collator(processor, PAD, IMAGE, 3, images)


def test_a_mixed_batch_by_hand(processor: Any, images: Path) -> None:
    rows = [
        row(0, [1, 5, 6], 1),
        row(1, [1, IMAGE, 7, 2], 2, "red.png"),
        row(2, [1, IMAGE, IMAGE, 2], 1, "wide.png", "red.png"),
    ]
    batch = collator(processor, images)(rows)
    assert batch["input_ids"].tolist() == [
        [1, 5, 6, 0, 0, 0, 0, 0],
        [1, 9, 9, 9, 7, 2, 0, 0],
        [1, 9, 9, 9, 9, 9, 9, 2],
    ]
    assert batch["attention_mask"].tolist() == [[1] * 3 + [0] * 5, [1] * 6 + [0] * 2, [1] * 8]
    assert batch["labels"].tolist() == [
        [-100, -100, 6, -100, -100, -100, -100, -100],
        [-100, -100, -100, -100, 7, 2, -100, -100],
        [-100] * 7 + [2],
    ]
    assert all(
        batch[name].dtype == torch.long for name in ("input_ids", "attention_mask", "labels")
    )
    assert batch["pixel_values"].shape == (3, 3, 4, 4)
    # In the order of the tokens: red, blue, red; less the mean.
    levels = [[0.5, -0.25, 0.0], [-0.5, -0.25, 1.0], [0.5, -0.25, 0.0]]
    torch.testing.assert_close(batch["pixel_values"].mean((2, 3)), torch.tensor(levels))


def test_batches_without_images_have_no_pixels(processor: Any) -> None:
    rows = [row(0, [1, 5], 1), row(1, [1, 5, 6], 1)]
    without = [{key: value for key, value in r.items() if key != "images"} for r in rows]
    for batch in (
        collator(processor, None)(rows),
        collator(processor, None)(without),
        Collator(None, PAD, None, 1, None)(without),
    ):
        assert sorted(batch) == ["attention_mask", "input_ids", "labels"]
        assert batch["input_ids"].tolist() == [[1, 5, 0], [1, 5, 6]]


def test_padding_is_no_label_even_where_it_is_the_end_token(processor: Any) -> None:
    batch = Collator(processor, 2, IMAGE, 3, None)([row(0, [1, 2], 1), row(1, [1, 5, 2], 2)])
    assert batch["labels"].tolist() == [[-100, 2, -100], [-100, 5, 2]]


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_an_image_that_breaks_later_is_named(processor: Any, images: Path) -> None:
    collate = collator(processor, images)
    rows = [row(41, [1, IMAGE, 2], 1, "red.png")]
    whole = (images / "red.png").read_bytes()
    (images / "red.png").write_bytes(whole[:40])
    with pytest.raises(ValueError, match=r"record 42: image .*red\.png cannot be read any more"):
        collate(rows)
    (images / "red.png").unlink()
    with pytest.raises(ValueError, match=r"record 42: image .*red\.png cannot be read any more"):
        collate(rows)


def test_workers_can_have_it(processor: Any, images: Path) -> None:
    collate = collator(processor, images)
    rows = [row(n, [1, IMAGE, 5, 2], 2, "wide.png") for n in range(4)]
    again = pickle.loads(pickle.dumps(collate))(rows)
    loader: DataLoader[Any] = DataLoader(rows, batch_size=4, collate_fn=collate, num_workers=1)  # type: ignore[arg-type]
    (batch,) = loader
    for name, tensor in collate(rows).items():
        assert torch.equal(batch[name], tensor) and torch.equal(again[name], tensor)


def test_images_are_checked_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (images / "text.png").write_text("no image")
    (images / "cut.png").write_bytes((images / "red.png").read_bytes()[:50])
    opened: list[str] = []
    opening = Image.open

    def count(path: Path) -> Image.Image:
        opened.append(path.name)
        return opening(path)

    monkeypatch.setattr(Image, "open", count)
    check = ImageCheck(images)
    found = check.check(["red.png", "none.png", "red.png"])
    found += check.check(["wide.png", "text.png", "red.png", "cut.png", "none.png"])
    check.check(["wide.png"])
    check.check([])
    assert sorted(opened) == ["cut.png", "none.png", "red.png", "text.png", "wide.png"]
    assert {name: reason for name, (reason, _) in check.bad.items()} == {
        "none.png": "missing image",
        "text.png": "broken image",
        "cut.png": "broken image",
    }
    states = {one.name: one.state for one in found}
    assert list(states) == ["red.png", "none.png", "wide.png", "text.png", "cut.png"]
    assert states["none.png"] is None
    assert states["text.png"] and states["text.png"][0] == 8
    again = ImageCheck(images, found)
    assert again.check(states) == [] and again.bad == check.bad
    without = ImageCheck(None)
    without.check(["red.png"])
    assert without.bad["red.png"][0] == "images for a model of text"
