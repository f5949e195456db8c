"""The contact sheet of blind pairs: both images of each, with what the towers say of them."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.images import IMAGE_ERRORS, read_image
from verbalizer_bench.leaderboard.pages.html import render
from verbalizer_bench.vision.blind_pairs import ROLES, Found

PAGE = "contact_sheet.html"
_PIXELS = 224


class Shown(NamedTuple):
    """An image on the sheet.

    Attributes:
        path: Its name.
        source: A data URL of a small copy; "" where the file cannot be read any more.
    """

    path: str
    source: str


def write_contact_sheet(found: Found, images: Path, output: Path, most: int) -> Path:
    """Write the sheet as one file that needs no other; return it.

    Args:
        found: The pairs.
        images: The folder of the images.
        output: Where to.
        most: How many pairs, from the most different on.
    """
    shown = [(pair, [_shown(images, path) for path in pair.images]) for pair in found.pairs[:most]]
    page = render(
        "contact_sheet.html.jinja",
        scripts=(),
        pairs=shown,
        names={role: Path(found.record[role]["model"]).name for role in ROLES},
        record=found.record,
        lines=found.lines(),
    )
    write_whole(output / PAGE, page)
    return output / PAGE


def _shown(folder: Path, path: str) -> Shown:
    name = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        image = read_image(folder / path)
    except IMAGE_ERRORS:
        return Shown(name, "")
    # As the towers' processors do, no EXIF orientation is applied.
    image.thumbnail((_PIXELS, _PIXELS), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return Shown(name, f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}")
