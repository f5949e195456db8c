"""Files of safetensors: which tensors they hold, and where, without mapping or loading them."""

import json
from pathlib import Path
from typing import NamedTuple

# What reading a damaged file raises.
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_LENGTH = 8  # bytes that say how long the header is


class StoredTensor(NamedTuple):
    """Where a tensor lies.

    Attributes:
        file: The file.
        dtype: Its type by the name that safetensors gives it: `BF16`.
        shape: Its shape.
        start: Its first byte in the file.
        stop: The byte behind its last one.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(file: Path) -> dict[str, StoredTensor]:
    """Return a file's tensors by name, in the order of their bytes.

    Raises:
        ValueError: The file is damaged.
        OSError: It cannot be read.
    """
    try:
        start, size = header_size(file), file.stat().st_size
        if start > size:
            raise ValueError("its header ends beyond the file")
        with file.open("rb") as stream:
            header = json.loads(stream.read(start)[_LENGTH:])
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            if not 0 <= first <= last <= size - start:
                raise ValueError(f"{name} ends beyond the file")
            place = (start + first, start + last)
            tensors[name] = StoredTensor(file, entry["dtype"], tuple(entry["shape"]), *place)
    except DAMAGED as error:
        raise damaged(file, error) from error
    return dict(sorted(tensors.items(), key=lambda item: item[1].start))


def header_size(file: Path) -> int:
    """Return how many bytes stand before the first tensor's."""
    with file.open("rb") as stream:
        return _LENGTH + int.from_bytes(stream.read(_LENGTH), "little")


def damaged(file: Path, error: Exception) -> ValueError:
    """Return the line for a file of weights that is none."""
    text = " ".join(str(error).split())[:150]
    return ValueError(f"{file}: damaged: {text}; copy or save it again")
