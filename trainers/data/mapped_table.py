"""An Arrow file that is mapped into memory, and gives back the pages that were read."""

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets.table import MemoryMappedTable

# Rows that are read before pages go back. A row of some columns touches a megabyte: the kernel maps
# 64 KiB around each place.
_AT_ONCE = 4


class MappedTable(MemoryMappedTable):
    """A mapped Arrow file that gives its pages back after a few rows.

    Pages that were read count as memory of the process until the kernel wants them back: after an
    epoch of random batches that would be the whole file. Python's map can let go of them, Arrow's
    cannot; rows are copied before.
    """

    def __init__(self, path: Path, without: Sequence[str], renamed: Mapping[str, str]):
        with path.open("rb") as file:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.without, self.renamed = without, renamed
        table = pa.ipc.open_stream(pa.py_buffer(self.map)).read_all()
        table = table.drop_columns(list(without))
        names = [renamed.get(name, name) for name in table.column_names]
        super().__init__(table.rename_columns(names), str(path))

    def fast_gather(self, indices: Sequence[int]) -> pa.Table:
        """Return rows as `datasets` asks for them, in memory."""
        rows = [super(MappedTable, self).fast_slice(int(index), 1) for index in indices]
        return pa.concat_tables(
            self._copy(pa.concat_tables(rows[start : start + _AT_ONCE]))
            for start in range(0, len(rows), _AT_ONCE)
        )

    def fast_slice(self, offset: int = 0, length: int | None = None) -> pa.Table:
        """Return a row in memory, or several as they are mapped."""
        rows = super().fast_slice(offset, length)
        return self._copy(rows) if length == 1 else rows

    def _copy(self, rows: pa.Table) -> pa.Table:
        """Return rows in memory, and release the pages they were read from."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return rows
        # Several chunks are copied into one; a single one would stay where it is.
        copy = rows.combine_chunks() if len(rows) > 1 else rows.take([0])
        self.map.madvise(mmap.MADV_DONTNEED)
        return copy

    def replace_schema_metadata(self, *_: Any, **__: Any) -> "MappedTable":
        """Return the table as it is: `datasets` keeps its features elsewhere too."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "without": self.without, "renamed": self.renamed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(Path(state["path"]), state["without"], state["renamed"])  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any]) -> "MappedTable":
        return self
