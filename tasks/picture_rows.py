"""Rows with images: tables in parquet that hold them, and files beside a CSV, found by name."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from verbalizer_bench.io.csv_reading import check_columns
from verbalizer_bench.tasks.pictures import Picture

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def parquet_files(folder: Path) -> list[Path]:
    """Return the parquet files of a folder as the hub has them: in it, or in its `data`."""
    return sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])


def parquet_rows(
    file: Path, columns: Sequence[str], of: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and row of a parquet file.

    Raises:
        ValueError: It cannot be read, or lacks one of the columns that `of` has.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{file}: cannot be read as parquet: {error}") from error
    check_columns(file, table.column_names, columns, of)
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{file}, row {number}", row


def image_files(folder: Path) -> dict[str, list[Path]]:
    """Return the images of a folder by what stands before their suffix."""
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.suffix.lower() in SUFFIXES:
            files.setdefault(file.stem, []).append(file)
    return files


def found_picture(place: str, name: str, files: Mapping[str, list[Path]], folder: Path) -> Picture:
    """Return the image of a name.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: Two files have this name.
    """
    found = files.get(name, [])
    if not found:
        raise FileNotFoundError(
            f"{place}: {folder / name}.jpg (or .png) is not there; give each question the image of "
            "its Index"
        )
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise ValueError(f"{place}: {folder}: {names} are both there; remove one")
    return Picture(str(found[0]), found[0])


def stored_picture(place: str, column: str, value: Any) -> Picture:
    """Return an image that stands in a row.

    Raises:
        ValueError: There is none.
    """
    content = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(content, bytes) or not content:
        raise ValueError(f"{place}: {column} holds no file; give a parquet with images in it")
    return Picture(f"{place}, {column}", content)
