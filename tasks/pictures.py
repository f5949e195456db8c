"""Images of tasks that bring their own: where they are, and their pixels as RGB."""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from verbalizer_bench.io.images import IMAGE_ERRORS, read_image


class Picture(NamedTuple):
    """An image that is read when it is asked for.

    Attributes:
        name: What messages call it: its file's path, or a place in one.
        content: The file, or its content.
    """

    name: str
    content: Path | bytes

    def rgb(self) -> Image.Image:
        """Return the pixels; what is transparent is white, and no EXIF orientation is applied.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no image that can be read.
        """
        try:
            content = self.content
            return read_image(content if isinstance(content, Path) else io.BytesIO(content))
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.name}: no such file; give the image") from None
        except IMAGE_ERRORS as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{self.name}: cannot be read as an image ({type(error).__name__}: {reason}); "
                "give a PNG or JPEG"
            ) from error

    def same_as(self, other: "Picture") -> bool:
        """Say whether both files have the same content."""
        return self._bytes() == other._bytes() and self.sha256() == other.sha256()

    def _bytes(self) -> int:
        content = self.content
        return content.stat().st_size if isinstance(content, Path) else len(content)

    def sha256(self) -> str:
        """Return the hash of the file's content."""
        content = self.content
        return hashlib.sha256(
            content.read_bytes() if isinstance(content, Path) else content
        ).hexdigest()
