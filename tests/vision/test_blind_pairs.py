"""`blind-pairs`: from a folder of images to pairs, whatever files are in it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.helpers.kills import killed_inside
from verbalizer_bench.cli import main
from verbalizer_bench.vision import extraction
from verbalizer_bench.vision.blind_pairs import read_pairs
from verbalizer_bench.vision.features import Store
from verbalizer_bench.vision.search import HIT
from verbalizer_bench.vision.selection import Choice, choose
from verbalizer_bench.vision.towers import Tower

Run = Callable[..., int]


def draw(file: Path, seed: int) -> Path:
    """Draw a picture of a few shapes."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (48, 48), tuple(random.integers(256, size=3).tolist()))
    for _ in range(3):
        left, top, wide, high = random.integers(2, 24, size=4).tolist()
        colour = tuple(random.integers(256, size=3).tolist())
        ImageDraw.Draw(image).rectangle((left, top, left + wide, top + high), colour)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)
    return file


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(12):
        draw(tmp_path / "images" / f"{number % 3}" / f"{number}.png", number)
    return tmp_path / "images"


@pytest.fixture
def run(images: Path, tmp_path: Path, clip: Path, dinov2: Path) -> Run:
    def start(*words: str, output: str = "out", similar: Path = clip) -> int:
        command = ["blind-pairs", str(images), "--similar", str(similar), "--different"]
        command += [str(dinov2), "-o", str(tmp_path / output), "--above", "0.5", "--below", "0.9"]
        return main([*command, "--batch-size", "4", *words])

    return start


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def written(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_pairs_are_those_of_the_features(run: Run, tmp_path: Path) -> None:
    assert run("--cap", "0", "--crowd", "0") == 0
    out = tmp_path / "out"
    one, other = (
        Store(out / "features" / role, 12).take(np.arange(12)).astype(float)
        for role in ("similar", "different")
    )
    one, other = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (one, other))
    near, far = one @ one.T > 0.5, other @ other.T < 0.9
    wanted = {(i, j) for i, j in np.argwhere(near & far) if i < j}
    index = [row["path"] for row in rows(out / "images.jsonl")]
    found = rows(out / "pairs.jsonl")
    assert {tuple(index.index(path) for path in pair["images"]) for pair in found} == wanted
    assert len(wanted) > 5
    assert [pair["different"] for pair in found] == sorted(pair["different"] for pair in found)
    assert read_pairs(out).record["counts"]["pairs"] == len(wanted)
    page = (out / "contact_sheet.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 * len(wanted) and "://" not in page
    # A white image does not end where the page begins.
    assert re.search(r"\.pair img \{[^}]*border: 1px", page)


def test_it_goes_on_where_it_was_killed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run() == 0

    def work(here: Callable[[], None]) -> None:
        make, made = extraction._batch, []

        def third(*arguments: Any) -> Any:
            made.append(1)
            if len(made) == 3:
                here()
            return make(*arguments)

        monkeypatch.setattr(extraction, "_batch", third)
        run(output="killed")

    killed_inside(work)
    log = tmp_path / "killed" / "features" / "similar" / "00000000-00000012.jsonl"
    assert len(rows(log)) == 3
    assert run(output="killed") == 0
    assert written(tmp_path / "killed") == written(tmp_path / "out")


def test_shards_make_what_one_command_makes(run: Run, tmp_path: Path) -> None:
    assert run("--batch-size", "1") == 0
    for stage in ("features", "search"):
        for shard in range(1, 6):
            words = ["--stage", stage, "--shard", f"{shard}/5", "--batch-size", "1"]
            assert run(*words, output="shards") == 0
    assert run("--stage", "pairs", output="shards") == 0
    for name in ("images.jsonl", "pairs.jsonl", "left_out.jsonl", "duplicates.jsonl"):
        assert (tmp_path / "shards" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize("killed", [False, True])
def test_a_plain_command_takes_what_shards_have_made(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    assert run("--batch-size", "1") == 0
    make, made = extraction._batch, list[int]()

    def counted(*arguments: Any) -> Any:
        made.append(1)
        return make(*arguments)

    monkeypatch.setattr(extraction, "_batch", counted)
    for shard in ("1/2", "2/2")[: 1 if killed else 2]:
        words = ["--stage", "features", "--shard", shard, "--batch-size", "1"]
        assert run(*words, output="shards") == 0
    before = written(tmp_path / "shards" / "features")
    assert len(made) == (12 if killed else 24)
    if killed:
        log = tmp_path / "shards" / "features" / "different" / "00000000-00000006.jsonl"
        log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:4]))
    assert run("--batch-size", "1", output="shards") == 0
    # Of the killed one three images of a tower are lost.
    assert len(made) == (27 if killed else 24)
    after = written(tmp_path / "shards" / "features")
    assert {name: after[name] for name in before} == before
    for name in ("images.jsonl", "pairs.jsonl", "left_out.jsonl", "duplicates.jsonl"):
        assert (tmp_path / "shards" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_every_odd_file_is_said(
    run: Run, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = images / "0" / "0.png"
    Image.open(plain).convert("RGBA").save(images / "rgba.png")
    Image.open(plain).convert("P").save(images / "palette.gif")
    Image.open(plain).convert("CMYK").save(images / "cmyk.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(images / "1" / "1.png").save(images / "turned.jpg", exif=turned)
    (images / "cut off.png").write_bytes(plain.read_bytes()[:-60])
    (images / "empty.jpg").touch()
    (images / "text.webp").write_text("no image")
    (images / "notes.txt").write_text("no image by name")
    (images / "new\nline.png").symlink_to(plain)
    (images / "to nothing.png").symlink_to(images / "nothing.png")
    (images / "round").symlink_to(images)
    raw = bytes(images) + b"/\xff.png"
    shutil.copy(images / "2" / "2.png", raw)
    assert run() == 0
    printed = capsys.readouterr().out
    assert "no images by their name: 2 files or links to folders, such as 'notes.txt'" in printed
    assert "22 images, 16 searched (left out: 4 without features, 2 copies of others)" in printed
    left = {row["image"]: row["why"] for row in rows(tmp_path / "out" / "left_out.jsonl")}
    assert {name: why for name, why in left.items() if "bytes of" not in why} == {
        "cut off.png": left["cut off.png"],
        "empty.jpg": "is no image that can be read: cannot identify image file",
        "text.webp": "is no image that can be read: cannot identify image file",
        "to nothing.png": "cannot be read: No such file or directory",
    }
    assert "truncated" in left["cut off.png"]
    assert left["new\nline.png"] == "has the bytes of 0/0.png"
    kinds = [row["kind"] for row in rows(tmp_path / "out" / "duplicates.jsonl")]
    assert kinds.count("copies") == 2 and "near" in kinds


def test_an_image_of_which_the_processor_makes_nothing_costs_itself_alone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Tower.inputs

    def refusing(tower: Tower, images: Any) -> Any:
        if images[0].getpixel((0, 0)) == refused:
            raise ValueError("too wide\nor too high")
        return given(tower, images)

    refused = Image.open(tmp_path / "images" / "1" / "4.png").getpixel((0, 0))
    monkeypatch.setattr(Tower, "inputs", refusing)
    assert run() == 0
    (left,) = rows(tmp_path / "out" / "left_out.jsonl")
    assert left["image"] == "1/4.png"
    assert left["why"].endswith("of which the processor makes nothing: too wide or too high")


def test_one_image_and_equal_images_give_no_pair(
    run: Run, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(images)
    draw(images / "1.png", 1)
    assert run() == 0
    assert "1 images, 1 searched" in capsys.readouterr().out
    for number in range(2, 6):
        shutil.copy(images / "1.png", images / f"{number}.png")
    assert run(output="equal") == 0
    assert "5 images, 1 searched (left out: 4 copies of others)" in capsys.readouterr().out
    assert "No pair was taken" in (tmp_path / "equal" / "contact_sheet.html").read_text()


def test_other_images_and_other_weights_are_refused(
    run: Run, images: Path, siglip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    assert run(similar=siglip) == 2
    error = capsys.readouterr().err
    assert "its features are of class=CLIPModel, and class=SiglipModel is asked for" in error
    assert run("--similar-embedding", "pooled") == 2
    assert "of embedding=projected, and embedding=pooled is asked for" in capsys.readouterr().err
    draw(images / "new.png", 99)
    assert run() == 2
    assert "its images are others than those in" in capsys.readouterr().err


def test_an_image_that_changes_between_the_towers_is_seen(
    run: Run, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = draw(images / "plain.bmp", 20)
    assert run("--stage", "features") == 0
    shutil.rmtree(tmp_path / "out" / "features" / "different")
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 255]))
    assert run() == 2
    assert (
        "1 images were changed between the towers, such as 'plain.bmp'" in capsys.readouterr().err
    )


def test_another_tower_than_the_features_are_of_is_refused_in_every_stage(
    run: Run, siglip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    for stage in ("search", "pairs"):
        assert run("--stage", stage, similar=siglip) == 2
        assert "features are of weights=" in capsys.readouterr().err
        assert run("--stage", stage, "--different-embedding", "patches") == 2
        assert "of embedding=cls, and embedding=patches is asked" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--shard", "2/3"), "--shard 2/3: of one stage alone"),
        (("--stage", "search", "--shard", "4/3"), "--shard 4/3: give the number of a part"),
        (("--stage", "all"), "--stage all: give one of features, search, pairs"),
        (("--above", "1.5"), "--above 1.5: a cosine is expected"),
        (("--above", "nan"), "--above nan: a cosine is expected"),
        (("--duplicate", "0.1"), "--duplicate 0.1: a duplicate would be a pair"),
        (("--cap", "-1"), "--cap: too small"),
        (("--dtype", "int8"), "--dtype int8: give one of float32, bfloat16, float16"),
        (("--device", "quantum"), "--device quantum: "),
        (("--batch-size", "0"), "--batch-size: too small"),
        (("--similar-embedding", "x"), "--similar-embedding x: give one of projected, pooled"),
    ],
)
def test_a_wrong_option_is_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], error: str
) -> None:
    assert run(*words) == 2
    assert error in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_said_before_towers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = [str(tmp_path / name) for name in ("photographs", "clip", "dino")]
    command = ["blind-pairs", nowhere[0], "--similar", nowhere[1], "--different", nowhere[2]]
    assert main([*command, "-o", str(tmp_path / "out")]) == 2
    assert "photographs: no such folder; give the folder of the images" in capsys.readouterr().err


def test_too_little_memory_is_said_before_features_are_made(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--memory", "1") == 2
    assert "--memory 1: too little for vectors of" in capsys.readouterr().err
    assert not (tmp_path / "out" / "features").exists()
    assert run("--memory", "1", "--stage", "features") == 0


def hits(*table: tuple[int, int, float]) -> np.ndarray:
    return np.array([(i, j, 0.97, d) for i, j, d in table], HIT)


def test_the_cap_takes_the_most_different_first() -> None:
    found = choose(
        hits((0, 1, 0.3), (0, 2, 0.1), (0, 3, 0.2), (1, 2, 0.5), (2, 3, 0.1), (4, 5, 0.99)),
        Choice(cap=2),
    )
    pairs = [(int(hit["first"]), int(hit["second"])) for hit in found.pairs]
    # 1 has one pair; 0, 2 and 3 have two.
    assert pairs == [(0, 2), (2, 3), (0, 3)]
    assert (found.blind, found.capped, len(found.duplicates)) == (5, 2, 1)


def test_a_placeholder_is_near_to_many_and_in_no_pair() -> None:
    found = choose(hits(*((0, n, 0.2) for n in range(1, 6)), (1, 2, 0.3)), Choice(crowd=4))
    assert found.placeholders == {0: 5} and (found.crowded, len(found.pairs)) == (5, 1)
    assert len(choose(hits((0, 1, 0.2)), Choice(cap=0, crowd=0)).pairs) == 1
