"""The rows of a data set: from the hub, from a local folder, or from the embedded samples.

`data` is `hub`, `sample`, or a folder that holds `<data set>/<split>.jsonl` (or `.parquet`) in the
hub's columns. A file `sources.yaml` in the folder says where rows are not the hub's split:
`<data set>: {split: <file to read instead>, source: <name that results carry>}`.

A document is a dictionary of the prompt's fields, stripped, and `label`, the class name. It is the
same whatever the source, so documents of two runs can be paired by their hash.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.yaml_reading import read_yaml
from verbalizer_bench.tasks.rows import LeftOut, select
from verbalizer_bench.tasks.spec import ARCHIVE_READERS, TASKS_FOLDER, Archive, DatasetSpec

ENVIRONMENT = "VERBALIZER_BENCH_DATA"
SAMPLES = TASKS_FOLDER / "samples"
# What to do without a network.
OFFLINE = (
    'give --data sample or --data DIR, in plain lm_eval --metadata \'{"data": "DIR"}\', or set '
    f"{ENVIRONMENT}"
)


@dataclasses.dataclass(frozen=True)
class TaskDocuments:
    """The documents of one split.

    Attributes:
        docs: The documents.
        split: The split (file stem) they came from.
        source: Its source's name.
        left_out: The labels of other classes, whose rows are left out, and how many have each.
    """

    docs: tuple[dict[str, str], ...]
    split: str
    source: str
    left_out: tuple[LeftOut, ...]

    @property
    def others(self) -> int:
        """Return the number of rows of other classes, which are left out."""
        return sum(label.rows for label in self.left_out)


def resolve_data(option: str | None) -> str:
    """Return the data source: the option, else `VERBALIZER_BENCH_DATA`, else the hub."""
    return option or os.environ.get(ENVIRONMENT) or "hub"


@cache
def test_documents(spec: DatasetSpec, data: str) -> TaskDocuments:
    """Return the documents that are scored, in the order that the protocol fixes.

    Data sets with `sample` in their YAML: rows of the two classes, ordered by the sha256 of their
    canonical JSON, the first `sample` of them in that order. No random generator takes part, so no
    library version can change the choice. Others: all rows of the two classes in the file's order.

    Raises:
        FileNotFoundError: The folder or file is not there.
        ValueError: A column, a class or a row is not as the YAML says.
    """
    documents = _documents(spec, _stems(spec, data)[0], data)
    docs = list(documents.docs)
    if spec.sample is not None:
        docs = sorted(docs, key=document_hash)[: spec.sample]
    return dataclasses.replace(documents, docs=tuple(docs))


def fewshot_documents(spec: DatasetSpec, data: str) -> TaskDocuments:
    """Return the pool that few-shot examples are drawn from: all rows of the two classes."""
    return _documents(spec, _stems(spec, data)[1], data)


def fewshot_shares_test_rows(spec: DatasetSpec, data: str) -> bool:
    """Return whether few-shot examples come from the test rows, minus the document itself."""
    test, fewshot = _stems(spec, data)
    return test == fewshot


def canonical(doc: Mapping[str, str]) -> str:
    """Return a document as canonical JSON: sorted keys, no spaces, no ASCII escapes."""
    return json.dumps(doc, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def document_hash(doc: Mapping[str, str]) -> str:
    """Return the sha256 of a document's canonical JSON in UTF-8, in hexadecimal."""
    return hashlib.sha256(canonical(doc).encode()).hexdigest()


def read_rows(spec: DatasetSpec, split: str, data: str) -> list[dict[str, Any]]:
    """Return the rows of a split unchanged: all classes, the hub's columns."""
    if spec.loader.data_files or data == "hub":
        return _read_hub(spec, split)
    return _read_file(_file(_folder(data) / spec.name, split))


@cache
def _documents(spec: DatasetSpec, split: str, data: str) -> TaskDocuments:
    if spec.loader.data_files:
        where = spec.loader.data_files[split]
    elif data == "hub":
        where = f"the hub's {split}"
    else:
        where = str(_file(_folder(data) / spec.name, split))
    rows = read_rows(spec, split, data)
    docs, left_out = select(spec, rows, where)
    return TaskDocuments(docs, split, source_name(spec, data), left_out)


def source_name(spec: DatasetSpec, data: str) -> str:
    """Return the name of the source, which every result records.

    `hub`, `sample`, `files` (the YAML names its own files), the name in the folder's
    `sources.yaml`, or `local` for a folder that names none.
    """
    if spec.loader.data_files:
        return "files"
    if data in ("hub", "sample"):
        return data
    return _sources(_folder(data)).get(spec.name, {}).get("source", "local")


def check_data(data: str) -> None:
    """Raise FileNotFoundError where `data` is neither `hub`, `sample` nor a folder."""
    if data != "hub":
        _folder(data)


def _stems(spec: DatasetSpec, data: str) -> tuple[str, str]:
    """Return the file stems (on the hub, the splits) of the test and the few-shot rows."""
    if data == "hub" or spec.loader.data_files:
        return spec.test_split, spec.fewshot_split
    entry = _sources(_folder(data)).get(spec.name, {})
    return entry.get("split", spec.test_split), spec.fewshot_split


def _folder(data: str) -> Path:
    folder = SAMPLES if data == "sample" else Path(data).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"--data {data}: no such folder; give hub, sample or a folder")
    return folder


@cache
def _sources(folder: Path) -> dict[str, dict[str, str]]:
    return read_sources(folder)


def read_sources(folder: Path) -> dict[str, dict[str, str]]:
    """Return a data folder's `sources.yaml`, empty if there is none."""
    path = folder / "sources.yaml"
    if not path.is_file():
        return {}
    table = read_yaml(path) or {}
    for name, entry in table.items() if isinstance(table, dict) else [("", table)]:
        if not isinstance(entry, dict) or not set(entry) <= {"split", "source"}:
            raise ValueError(
                f"{path}: {name}: {entry!r}: give {{split: <file stem>, source: <name>}}"
            )
    sources: dict[str, dict[str, str]] = table
    return sources


def _file(folder: Path, split: str) -> Path:
    """Return the file that a split's rows are in."""
    lines, parquet = folder / f"{split}.jsonl", folder / f"{split}.parquet"
    if lines.is_file() and parquet.is_file():
        raise ValueError(f"{folder}: both {lines.name} and {parquet.name} are there; remove one")
    if parquet.is_file():
        return parquet
    if not lines.is_file():
        raise FileNotFoundError(
            f"{lines}: no such file (nor .parquet); "
            "`verbalizer-bench data fetch` writes this layout"
        )
    return lines


def _read_file(file: Path) -> list[dict[str, Any]]:
    return _read_parquet(file) if file.suffix == ".parquet" else _read_jsonl(file)


def _read_jsonl(file: Path) -> list[dict[str, Any]]:
    rows = []
    for place, row in jsonl.read(file):
        if not isinstance(row, dict):
            raise ValueError(f"{file}, {place}: a JSON object is needed, got {str(row)[:60]!r}")
        rows.append(row)
    if not rows:
        raise ValueError(f"{file}: no row in it; a JSON object a line is needed")
    return rows


def _read_parquet(parquet: Path) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(parquet).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise ValueError(f"{parquet}: cannot be read as parquet: {error}") from error
    return rows


def _read_hub(spec: DatasetSpec, split: str) -> list[dict[str, Any]]:
    loader = spec.loader
    if loader.path == "json" and loader.data_files:
        file = loader.data_files[split]
        if file.endswith(".jsonl") and "://" not in file:
            if not Path(file).is_file():
                raise FileNotFoundError(
                    f"{spec.where}: dataset_kwargs.data_files: {file}: no such file; "
                    "a relative path starts at the YAML's folder"
                )
            return _read_jsonl(Path(file))
    try:
        if spec.archive:
            return _read_archive(spec.archive, split)
        import datasets

        table = datasets.load_dataset(loader.path, loader.name, split=split, **loader.kwargs)
        _check_revision(table, loader.kwargs.get("revision"))
        return list(table)
    # The libraries below raise dozens of types when a network is away; each becomes the one line
    # that names the way out, and keeps its cause.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if spec.loader.data_files:
            raise ValueError(
                f"{spec.where}: dataset_kwargs.data_files: cannot read: {reason}"
            ) from error
        if isinstance(error, ValueError):
            raise ValueError(
                f"{spec.where}: dataset_path={loader.path}, name={loader.name}, "
                f"split={split}: {reason}"
            ) from error
        raise ConnectionError(
            f"{spec.name}: cannot load {loader.path} from the hub ({type(error).__name__}: "
            f"{reason}); without a network {OFFLINE}"
        ) from error


def _check_revision(table: Any, revision: str | None) -> None:
    """Raise LookupError if the rows are a cached revision other than the requested one.

    `datasets` takes any revision that its cache has when it cannot reach the hub.
    """
    for file in table.cache_files if revision else ():
        cached = Path(file["filename"]).parent.name
        if re.fullmatch("[0-9a-f]{40}", cached) and cached != revision:
            raise LookupError(f"the cache has revision {cached}, not {revision}")


def _read_archive(archive: Archive, split: str) -> list[dict[str, Any]]:
    """Read a raw file inside an archive, by its chained URL (`zip://member::https://…`)."""
    import fsspec

    readers = dict(zip(ARCHIVE_READERS, (_phrasebank_rows, _sick_rows), strict=True))
    with fsspec.open(archive.url, "rb") as file:
        return readers[archive.reader](file.read(), split)


def _phrasebank_rows(content: bytes, split: str) -> list[dict[str, Any]]:
    """Read `sentence@label` lines, latin-1, split at the last @; the only split is train."""
    labels = {"negative": 0, "neutral": 1, "positive": 2}
    rows = []
    for line in content.decode("latin-1").split("\n"):
        if line.strip():
            sentence, _, label = line.strip().rpartition("@")
            rows.append({"sentence": sentence, "label": labels[label]})
    return rows


def _sick_rows(content: bytes, split: str) -> list[dict[str, Any]]:
    """Read the tab-separated release, in the columns that the hub's script gives it."""
    labels = {"ENTAILMENT": 0, "NEUTRAL": 1, "CONTRADICTION": 2}
    part = {"train": "TRAIN", "validation": "TRIAL", "test": "TEST"}[split]
    header, *lines = content.decode("utf-8").replace("\r\n", "\n").split("\n")
    names = header.split("\t")
    rows = []
    for line in lines:
        row = dict(zip(names, line.split("\t"), strict=False))
        if row.get("SemEval_set", "").strip() != part:
            continue
        rows.append(
            {
                "id": row["pair_ID"],
                "sentence_A": row["sentence_A"],
                "sentence_B": row["sentence_B"],
                "label": labels[row["entailment_label"]],
                "entailment_label": row["entailment_label"],
                "relatedness_score": float(row["relatedness_score"]),
                "entailment_AB": row["entailment_AB"],
                "entailment_BA": row["entailment_BA"],
            }
        )
    return rows
