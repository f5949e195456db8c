"""What a recipe may name as a file of records: the files it stands for, and their hash.

    data.json  data.jsonl  data.parquet      a file
    data/train                               a folder of .parquet
    data/train-*.parquet                     all files of that name, in the order of their names
    hub:owner/name:config@revision/split     a hub's data set; see `hub_records`

Shards that say how many they are (`train-00000-of-00003.parquet`) must all be there.
"""

import hashlib
import re
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from verbalizer_bench.io import hub_records
from verbalizer_bench.io.files import file_sha256

FORMATS = (".json", ".jsonl", ".parquet")
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(.*)")


def is_records(name: str) -> bool:
    """Tell whether a name is that of records, and not of a recipe."""
    return (
        name.endswith(FORMATS)
        or hub_records.is_hub(Path(name))
        or has_magic(name)
        or Path(name).is_dir()
    )


def record_files(path: Path) -> list[Path]:
    """Return the files that a name stands for, in order; of a hub's data set they are downloaded.

    Raises:
        FileNotFoundError: There are none, or a shard is missing.
        ConnectionError: The hub cannot be reached, and the cache lacks the data set.
        ValueError: A file is of no format that records are read from.
    """
    if hub_records.is_hub(path):
        files = hub_records.downloaded(path)
    elif path.is_dir():
        files = sorted(path.glob("*.parquet"))
        if not files:
            raise FileNotFoundError(
                f"{path}: a folder without .parquet; give one with them, or a file of records"
            )
    elif has_magic(str(path)) and not path.exists():
        files = sorted(Path(name) for name in glob(str(path)))
        if not files:
            raise FileNotFoundError(f"{path}: no file of that name; give a file of records")
    else:
        files = [path]
    check_shards(path, [file.name for file in files])
    if other := [file for file in files if file.suffix not in FORMATS]:
        raise ValueError(
            f"{other[0]}: records are read from .json (a list), .jsonl (one a line) or .parquet"
        )
    return files


def check_shards(path: Path, names: Sequence[str]) -> None:
    """Raise FileNotFoundError unless all of numbered shards are there."""
    numbers: dict[tuple[str, ...], set[int]] = {}
    for match in filter(None, map(_SHARD.fullmatch, names)):
        start, number, count, end = match.groups()
        numbers.setdefault((start, count, end), set()).add(int(number))
    for (start, count, end), there in numbers.items():
        missing = sorted(set(range(int(count))) - there)
        # A single shard that was named is meant.
        if missing and len(names) > 1:
            name = f"{start}-{missing[0]:05}-of-{count}{end}"
            raise FileNotFoundError(
                f"{path}: {name} is missing, of {int(count)} shards {len(missing)}; bring it along"
            )


def lacking(path: Path) -> str | None:
    """Return why a name stands for no records; None if it does. Nothing is downloaded."""
    if hub_records.is_hub(path):
        try:
            hub_records.resolved(path)
        except (OSError, ValueError) as error:
            return str(error)
        return None
    if path.is_file():
        return None
    if not path.is_dir() and not has_magic(str(path)):
        return f"{path}: no such file"
    try:
        record_files(path)
    except FileNotFoundError as error:
        return str(error)
    return None


def record_name(path: Path) -> str:
    """Return what a name stands for as a record has it: a hub's with its commit."""
    return hub_records.resolved(path).name if hub_records.is_hub(path) else str(path)


def records_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes; of several, of a line with hash and name for each."""
    files = record_files(path)
    if files == [path]:
        return file_sha256(path)
    lines = "".join(f"{file_sha256(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def beside(path: Path) -> Path:
    """Return the folder that image names are relative to where none is given."""
    if hub_records.is_hub(path):
        return Path()
    return path if path.is_dir() else path.parent
