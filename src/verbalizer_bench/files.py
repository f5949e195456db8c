"""Write files that a kill leaves as they were, or whole."""

from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write a text under another name, and rename it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
