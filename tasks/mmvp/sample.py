"""Draw the sample: twelve made pairs of the nine patterns, in MMVP's layout (CC0).

python -m verbalizer_bench.tasks.mmvp.sample
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from verbalizer_bench.tasks.mmvp.patterns import PATTERNS
from verbalizer_bench.tasks.mmvp.questions import COLUMNS, FILE, IMAGES
from verbalizer_bench.tasks.spec import TASKS_FOLDER

SAMPLE = TASKS_FOLDER / "samples" / "mmvp"
PIXELS = 96
_INK, _RED, _BLUE = (30, 30, 30), (210, 40, 40), (40, 70, 200)
Draw = Callable[[ImageDraw.ImageDraw], None]


class MadePair(NamedTuple):
    """A question on two drawings.

    Attributes:
        pattern: Its code in `PATTERNS`.
        question: What is asked of both.
        options: What (a) and (b) say.
        answers: The letters that are right of the first drawing and of the second.
        drawings: The first and the second.
    """

    pattern: str
    question: str
    options: tuple[str, str]
    answers: str
    drawings: tuple[Draw, Draw]


def _polygon(*points: tuple[int, int], fill: tuple[int, int, int] = _INK) -> Draw:
    return lambda draw: draw.polygon(points, fill=fill)


def _boxes(*boxes: tuple[int, int, int, int], fill: tuple[int, int, int] = _INK) -> Draw:
    def drawn(draw: ImageDraw.ImageDraw) -> None:
        for box in boxes:
            draw.rectangle(box, fill=fill)

    return drawn


def _discs(*centres: tuple[int, int], radius: int = 8, fill: tuple[int, int, int] = _INK) -> Draw:
    def drawn(draw: ImageDraw.ImageDraw) -> None:
        for x, y in centres:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)

    return drawn


def _all(*parts: Draw) -> Draw:
    def drawn(draw: ImageDraw.ImageDraw) -> None:
        for part in parts:
            part(draw)

    return drawn


_SHAFT, _HOUSE = _boxes((24, 42, 72, 54)), _boxes((24, 48, 72, 84), fill=_RED)
_ROOF = _polygon((18, 48), (48, 24), (78, 48))
_BOX, _LETTER = _boxes((24, 48, 72, 84), fill=_BLUE), _boxes((32, 20, 40, 76), (32, 20, 64, 28))
_BAR = _boxes((32, 44, 58, 52))
_ROW = [(20, 48), (48, 48), (76, 48)]

PAIRS = (
    MadePair(
        *("od", "Does the arrow point left or right?", ("Left", "Right"), "ab"),
        (
            _all(_SHAFT, _polygon((24, 28), (24, 68), (6, 48))),
            _all(_SHAFT, _polygon((72, 28), (72, 68), (90, 48))),
        ),
    ),
    MadePair(
        *("od", "Does the triangle point up or down?", ("Down", "Up"), "ab"),
        (_polygon((16, 24), (80, 24), (48, 80)), _polygon((16, 76), (80, 76), (48, 20))),
    ),
    MadePair(
        *("pf", "Does the house have a chimney?", ("Yes", "No"), "ba"),
        (_all(_HOUSE, _ROOF), _all(_boxes((58, 20, 66, 44)), _HOUSE, _ROOF)),
    ),
    MadePair(
        *("sc", "Is the box open or closed?", ("Open", "Closed"), "ab"),
        (
            _all(_BOX, _polygon((24, 48), (72, 16), (78, 22), (30, 54))),
            _all(_BOX, _boxes((20, 42, 76, 50))),
        ),
    ),
    MadePair(
        *("qc", "How many dots are in the image?", ("Three", "Four"), "ab"),
        (_discs(*_ROW), _discs(*_ROW, (48, 76))),
    ),
    MadePair(
        *("qc", "Are there two or five stripes?", ("Two", "Five"), "ba"),
        (
            _boxes(*((8 + 18 * n, 12, 16 + 18 * n, 84) for n in range(5))),
            _boxes((26, 12, 34, 84), (62, 12, 70, 84)),
        ),
    ),
    MadePair(
        *("pr", "Is the ball above or below the line?", ("Above", "Below"), "ab"),
        (
            _all(_boxes((8, 46, 88, 50)), _discs((48, 24), radius=12, fill=_RED)),
            _all(_boxes((8, 46, 88, 50)), _discs((48, 72), radius=12, fill=_RED)),
        ),
    ),
    MadePair(
        *("pr", "Is the red ball left or right of the blue one?", ("Left", "Right"), "ba"),
        (
            _all(_discs((28, 48), fill=_BLUE), _discs((68, 48), fill=_RED)),
            _all(_discs((28, 48), fill=_RED), _discs((68, 48), fill=_BLUE)),
        ),
    ),
    MadePair(
        *("ca", "Is the disc red or blue?", ("Red", "Blue"), "ab"),
        (_discs((48, 48), radius=30, fill=_RED), _discs((48, 48), radius=30, fill=_BLUE)),
    ),
    MadePair(
        *("sh", "Is the shape round or angular?", ("Round", "Angular"), "ba"),
        (_boxes((20, 20, 76, 76)), _discs((48, 48), radius=28)),
    ),
    MadePair(
        *("tx", "Which letter is in the image?", ("E", "F"), "ab"),
        (_all(_LETTER, _BAR, _boxes((32, 68, 64, 76))), _all(_LETTER, _BAR)),
    ),
    MadePair(
        *("vp", "Is the tin seen from the side or from above?", ("The side", "Above"), "ba"),
        (
            _all(_discs((48, 48), radius=30), _discs((48, 48), radius=24, fill=_BLUE)),
            _all(_boxes((24, 16, 72, 80)), _boxes((28, 24, 68, 72), fill=_BLUE)),
        ),
    ),
)


def picture(drawing: Draw) -> Image.Image:
    """Return a drawing on white, square."""
    image = Image.new("RGB", (PIXELS, PIXELS), "white")
    drawing(ImageDraw.Draw(image))
    return image


def write(folder: Path = SAMPLE) -> None:
    """Write the sample's table and images."""
    images = folder / IMAGES
    images.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow((*COLUMNS, "Pattern"))
        for number, pair in enumerate(PAIRS):
            first, second = pair.options
            for place in (0, 1):
                index = 2 * number + place + 1
                row = (index, pair.question, f"(a) {first} (b) {second}")
                table.writerow((*row, f"({pair.answers[place]})", PATTERNS[pair.pattern]))
                picture(pair.drawings[place]).save(images / f"{index}.png", optimize=True)


if __name__ == "__main__":
    write()
