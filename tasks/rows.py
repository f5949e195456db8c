"""Turn rows into documents: keep those of the two classes and count the others by label."""

import dataclasses
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from verbalizer_bench.tasks.spec import DatasetSpec

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A label that is neither of the two classes.

    Attributes:
        label: What stands in the label column.
        rows: How many rows have it.
        resembles: The class whose value it equals but for type, case or white space; None for a
            class of its own.
    """

    label: Any
    rows: int
    resembles: str | None = None


def select(
    spec: DatasetSpec, rows: Iterable[Mapping[str, Any]], where: str
) -> tuple[tuple[dict[str, str], ...], tuple[LeftOut, ...]]:
    """Keep the rows of the two classes and make documents of them.

    Returns:
        The documents, and the labels that were left out, the most frequent first.

    Raises:
        ValueError: A column is missing, a text is no text, or a class has no row.
    """
    docs: list[dict[str, str]] = []
    labels: Counter[Any] = Counter()
    for number, row in enumerate(rows, start=1):
        _check_columns(spec, row, where if number == 1 else f"row {number} of {where}")
        label = _label(spec, row, f"{where}: row {number}")
        labels[label] += 1
        if label not in spec.label_values:
            continue
        doc = {"label": spec.classes[spec.label_values.index(label)]}
        for field in spec.fields:
            doc[field] = _text(row[field], f"{where}: row {number}: {field}")
        docs.append(doc)
    left_out = tuple(
        LeftOut(label, count, _resembled(spec, label))
        for label, count in labels.most_common()
        if label not in spec.label_values
    )
    for name, value in zip(spec.classes, spec.label_values, strict=True):
        if value not in labels:
            raise ValueError(
                f"{spec.where}: classes: {name}={value!r} is in no row of {where}, "
                f"whose column {spec.label_column!r} has {sorted(labels, key=str)}"
            )
    return tuple(docs), left_out


def notices(spec: DatasetSpec, left_out: Sequence[LeftOut]) -> list[str]:
    """Return a line about labels that look like a class, and one about all other labels, if any."""
    lines = []
    if near := [label for label in left_out if label.resembles]:
        values = dict(zip(spec.classes, spec.label_values, strict=True))
        shown = ", ".join(
            f"{label.label!r} ({label.rows}; {near_to} is {values[near_to]!r})"
            for label in near[:_SHOWN]
            if (near_to := label.resembles)
        )
        lines.append(
            f"{spec.where}: {sum(label.rows for label in near)} rows are left out whose "
            f"{spec.label_column} resembles a class but is not equal to its value: "
            f"{shown}{_more(near)}; make rows and classes agree"
        )
    if others := [label for label in left_out if not label.resembles]:
        shown = ", ".join(f"{label.label!r} ({label.rows})" for label in others[:_SHOWN])
        lines.append(
            f"{spec.where}: {sum(label.rows for label in others)} rows of other classes are left "
            f"out: {shown}{_more(others)}"
        )
    return lines


def _more(labels: Sequence[LeftOut]) -> str:
    rest = len(labels) - _SHOWN
    return f" and {rest} other labels" if rest > 0 else ""


def _check_columns(spec: DatasetSpec, row: Mapping[str, Any], where: str) -> None:
    for column in (*spec.fields, spec.label_column):
        if column not in row:
            key = "label_column" if column == spec.label_column else "doc_to_text"
            raise ValueError(
                f"{spec.where}: {key} uses {column!r}, which is no column of {where}; "
                f"it has {', '.join(row)}"
            )
    for word in ("first", "second"):
        if word in row and word != spec.label_column:
            raise ValueError(
                f"{where}: a column is named {word!r}, and {{{{{word}}}}} in doc_to_text is a "
                "label word: the prompt would not show the column; rename it in the rows"
            )


def _label(spec: DatasetSpec, row: Mapping[str, Any], where: str) -> str | int | float:
    label = row[spec.label_column]
    if label is None or (isinstance(label, float) and math.isnan(label)):
        raise ValueError(f"{where}: {spec.label_column} is missing; give it a class")
    if not isinstance(label, (str, int, float)):
        raise ValueError(
            f"{where}: {spec.label_column}={label!r} is a {type(label).__name__}; "
            "a class is a text or a number"
        )
    return label


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}={value!r} is no text; write one, or take the row out")
    return value.strip()


def _resembled(spec: DatasetSpec, label: Any) -> str | None:
    """Return the class whose value differs from a label only in type, case or white space."""
    for name, value in zip(spec.classes, spec.label_values, strict=True):
        if _plain(label) == _plain(value):
            return name
    return None


def _plain(label: Any) -> str | float:
    """Normalise a label: a number if it reads as one, else lower case without outer white space."""
    text = unicodedata.normalize("NFC", str(label)).strip().casefold()
    try:
        return float({"true": "1", "false": "0"}.get(text, text))
    except ValueError:
        return " ".join(text.split())
