"""Models and records for the training benchmark: those of the tiny recipes, and larger ones."""

import json
import random
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import verbalizer_bench.recipes

RECIPES = Path(verbalizer_bench.recipes.__file__).parent / "tiny"


class Shape(NamedTuple):
    """Sizes of a Llama and of the CLIP tower before it.

    Attributes:
        name: What the table calls it.
        pixels: Height and width that the tower takes; its patches have 8.
        picture: Width and height of the image files.
    """

    name: str
    width: int
    inner: int
    layers: int
    heads: int
    words: int
    vision_width: int
    vision_layers: int
    pixels: int
    picture: tuple[int, int]

    @property
    def image_tokens(self) -> int:
        """Return how many tokens an image takes."""
        return (self.pixels // 8) ** 2


# As recipes/tiny has it, with two heads of keys and values.
TINY = Shape("tiny", 64, 160, 2, 4, 512, 32, 2, 32, (32, 32))
LARGER = Shape("larger", 256, 688, 6, 8, 4096, 128, 4, 96, (320, 240))


def write_architecture(shape: Shape, folder: Path) -> None:
    """Write `llama` and `llava`, folders of configurations and tokenizers without weights."""
    for name in ("llama", "llava"):
        shutil.copytree(RECIPES / name, folder / name)
    if shape == TINY:
        return
    text = {
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.width // shape.heads,
        "vocab_size": shape.words,
        "initializer_range": 0.02,
    }
    vision = {
        "hidden_size": shape.vision_width,
        "intermediate_size": 2 * shape.vision_width,
        "num_hidden_layers": shape.vision_layers,
        "num_attention_heads": 4,
        "image_size": shape.pixels,
    }
    size = {"crop_size": {"height": shape.pixels, "width": shape.pixels}}
    _change(folder / "llama" / "config.json", lambda found: found.update(text))

    def change(found: Any) -> None:
        found["text_config"].update(text)
        found["vision_config"].update(vision)
        found["image_seq_length"] = shape.image_tokens

    _change(folder / "llava" / "config.json", change)
    _change(
        folder / "llava" / "processor_config.json",
        lambda found: found["image_processor"].update(size, size={"shortest_edge": shape.pixels}),
    )


def _change(file: Path, change: Any) -> None:
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))


def write_records(data: str, shape: Shape, count: int, folder: Path) -> dict[str, int]:
    """Write `records.json` and `images`; return how many have an image and how many have none.

    Those of the tiny recipes, or for a mixed set made ones: two in three with an image.
    """
    write_images(shape, folder / "images")
    if data.endswith("mixed"):
        rows = mixed(count, sorted(path.name for path in (folder / "images").iterdir()))
    elif data.startswith("sft"):
        lines = (RECIPES / "data" / "text.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines][:count]
    else:
        found = json.loads((RECIPES / "data" / "instruct.json").read_text())
        rows = [row for row in found if "image" in row][:count]
    assert len(rows) == count
    (folder / "records.json").write_text(json.dumps(rows))
    images = sum("image" in row for row in rows)
    return {"images": images, "text": count - images}


def write_images(shape: Shape, folder: Path) -> None:
    """Copy the tiny recipes' images; a larger shape gets them as smooth pictures with noise."""
    folder.mkdir()
    noise = np.random.default_rng(0)
    for path in sorted((RECIPES / "data" / "images").iterdir()):
        picture = Image.open(path).convert("RGB")
        if shape.picture != picture.size:
            pixels = np.asarray(picture.resize(shape.picture), np.int16)
            pixels = pixels + noise.integers(-20, 20, pixels.shape, np.int16)
            picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        picture.save(folder / path.name)


def mixed(count: int, images: list[str], seed: int = 0) -> list[dict[str, Any]]:
    """Make conversations of widely differing lengths, two in three of them on an image.

    Answers have a log-normal number of words: median 15 in one to three turns on an image, median
    40 in one to four turns without, as people's chats with assistants are longer than questions on
    pictures; 300 at most in all.
    """
    draw = random.Random(seed)
    words = sorted({w for line in _texts() for w in line.split() if w.isalpha()})
    rows: list[dict[str, Any]] = []
    for number in range(count):
        image = number % 3 < 2
        turns, left = [], 300
        for turn in range(draw.randint(1, 3 if image else 4)):
            length = min(left, max(1, round(draw.lognormvariate(0, 1) * (15 if image else 40))))
            left -= length
            question = " ".join(draw.choices(words, k=draw.randint(4, 12)))
            answer = " ".join(draw.choices(words, k=max(1, length)))
            start = "<image>\n" if image and not turn else ""
            turns += [
                {"from": "human", "value": f"{start}{question}?"},
                {"from": "gpt", "value": f"{answer}."},
            ]
        row = {"id": str(number), "conversations": turns}
        rows.append(row | ({"image": draw.choice(images)} if image else {}))
    draw.shuffle(rows)
    return rows


def _texts() -> list[str]:
    found = json.loads((RECIPES / "data" / "instruct.json").read_text())
    return [turn["value"] for row in found for turn in row["conversations"]]
