"""Records in parquet, as a stream: what JSON would hold of each row.

Columns are those of a JSON record's keys. Images may be names, or stand in the rows themselves: as
bytes, or as `datasets` writes them, {bytes, path}. Those are written to a folder, each under the
hash of its bytes, and the record names that file.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verbalizer_bench.io.json_reading import Parsed

if TYPE_CHECKING:
    import pyarrow

# Rows that become Python values at once.
_ROWS = 16
# Bytes that are read of a column at once. What is decoded at once is a page, which has 1,024 rows
# at most, and no more than a row group.
_BUFFER = 1 << 20
# Columns of which a record must have one set whole.
_LAYOUTS = (
    {"conversations"},
    {"messages"},
    {"question"},
    {"prompt", "chosen", "rejected"},
    {"prompt", "completions"},
)
_FOLDER, _NOT_WRITTEN = "embedded-images", "embedded:"


def parsed(path: Path, written: Path | None) -> Iterator[Parsed]:
    """Yield a file's rows as values of JSON, each with its problem if it has one.

    Args:
        path: The file.
        written: A folder in which images that stand in the rows are written; None: they are named
            by their hash, and written nowhere.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not parquet, it lacks the columns of every layout, or a column is of a
            type that no record has.
        OSError: An image cannot be written.
    """
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        # Buffered before, the whole file would be in memory.
        with parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            _check_columns(path, file.schema_arrow)
            for batch in file.iter_batches(batch_size=_ROWS, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    problem = _name_images(row, written)
                    yield Parsed(f"row {number}", row, problem)
    # A file that was cut off or changed is an OSError without a number.
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise _unreadable(path, number, error) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _unreadable(path, number, error) from error


def _unreadable(path: Path, number: int, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())
    return ValueError(f"{path}, behind row {number}: cannot be read as parquet: {reason}")


def is_written_nowhere(name: str) -> bool:
    """Tell whether a name is of an image that stands in a row and was not written."""
    return name.startswith(_NOT_WRITTEN)


def portable_name(name: str) -> str:
    """Return an image's name, without the folder where it is one that was written."""
    path = Path(name)
    return path.name if path.parent.parent.name == _FOLDER else name


def _check_columns(path: Path, schema: "pyarrow.Schema") -> None:
    from pyarrow import types

    if not any(layout <= {*schema.names} for layout in _LAYOUTS):
        raise ValueError(
            f"{path}: its columns are {', '.join(schema.names) or 'none'}; needed are "
            "conversations or messages (of preference data prompt, chosen and rejected, or prompt "
            "and completions; of what is only asked question): rename them, or write them anew"
        )
    for name in ("conversations", "messages", "prompt", "chosen", "rejected", "completions"):
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        if not (_is_list(kind) and types.is_struct(kind.value_type)) and not types.is_null(kind):
            raise ValueError(
                f"{path}: column {name} is {kind}; a list of turns or answers, each a struct, is "
                "needed"
            )
    for name in ("image", "images"):
        kind = schema.field(name).type if name in schema.names else None
        inner = kind.value_type if kind is not None and _is_list(kind) else kind
        if inner is not None and not _is_image(inner):
            raise ValueError(
                f"{path}: column {name} is {kind}; a name, bytes, a struct of bytes and path, or "
                "a list of them, is needed"
            )


def _is_list(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def _is_image(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return {"bytes", "path"} & {field.name for field in kind} != set()
    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return types.is_null(kind) or any(test(kind) for test in tests)


def _name_images(row: dict[str, Any], written: Path | None) -> tuple[str, str] | None:
    """Put names in place of a row's images; return its problem, if it has one."""
    for key in ("image", "images"):
        value = row.get(key)
        if value is None:
            continue
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            row[key] = _named(value, written)
            continue
        names = [_named(one, written) for one in value]
        if None in names:
            return "malformed images", f"{key}: image {names.index(None) + 1} is null; leave it out"
        row[key] = names
    return None


def _named(value: Any, written: Path | None) -> str | None:
    """Return the name of an image, which may be a name already; None without one."""
    content = value
    if isinstance(value, Mapping):
        content = value.get("bytes")
        content = value.get("path") if content is None else content
    if content is None or isinstance(content, str):
        return content
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    if written is None:
        return f"{_NOT_WRITTEN}{digest}"
    file = (written / _FOLDER / digest[:2] / digest).absolute()
    # A file of another size is what a crash has left.
    if not file.is_file() or file.stat().st_size != len(content):
        _write(file, content)
    return str(file)


def _write(file: Path, content: bytes) -> None:
    """Write an image as a whole, without waiting for the disk: its size tells a torn one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(file)
    except OSError as error:
        error.filename, error.filename2 = str(file), None
        part.unlink(missing_ok=True)
        raise
