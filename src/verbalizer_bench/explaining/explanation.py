"""All that is known of one answer, as an object that prints itself."""

from pathlib import Path
from typing import Any

from verbalizer_bench.explaining.facts import Facts
from verbalizer_bench.explaining.page import page
from verbalizer_bench.explaining.record import record


class Explanation(Facts):
    """One answer, from the prompt to its score; as a text it is a screen."""

    def __repr__(self) -> str:
        return f"<Explanation {self.title}>"

    def __str__(self) -> str:
        return self.text()

    def text(self, full: bool = False) -> str:
        """Return it as a text of at most 96 columns.

        Args:
            full: Whether long prompts are shown whole.
        """
        return page(self, full)

    def write_image(self, file: str | Path) -> list[Path]:
        """Write the images as PNG; of several, those behind the first get a number.

        Raises:
            ValueError: No image was shown, or it is not at hand.
            OSError: The file cannot be written.
        """
        if not self.images:
            raise ValueError(f"--image-out {file}: there is no image to write: {self.shown}")
        first = Path(file)
        names = [first.with_stem(f"{first.stem}-{n}") for n in range(2, len(self.images) + 1)]
        first.parent.mkdir(parents=True, exist_ok=True)
        for name, image in zip([first, *names], self.images, strict=True):
            image.save(name, "PNG")
        return [first, *names]

    def record(self) -> dict[str, Any]:
        """Return it as JSON's types, prompts whole."""
        return record(self)
