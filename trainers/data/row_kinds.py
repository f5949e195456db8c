"""What rows of training data are made of: how their records are read, and their columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from verbalizer_bench.io.conversation_files import AnyParse
from verbalizer_bench.trainers.conversations import preferences

_IDS, _MASK = pa.list_(pa.int32()), pa.list_(pa.bool_())


@dataclass(frozen=True)
class RowKind:
    """A kind of rows.

    Attributes:
        name: Tells builds of the same files in different kinds apart.
        parse: Makes records of what JSON holds.
        columns: Of the Arrow file, in the order of what the encoder returns before the length.
        renamed: What columns are called when they are read, where that is not their name there.
    """

    name: str
    parse: AnyParse
    columns: Mapping[str, pa.DataType]
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def schema(self) -> pa.Schema:
        """Return the Arrow file's columns."""
        numbers = [("record", pa.int64()), *self.columns.items(), ("length", pa.int32())]
        return pa.schema([*numbers, ("images", pa.list_(pa.string()))])


_ANSWERS: tuple[Mapping[str, pa.DataType], Mapping[str, str]] = (
    {"input_ids": _IDS, "answer": _MASK},
    {"answer": "assistant_mask"},
)
CONVERSATIONS = RowKind("conversations", preferences.answered, *_ANSWERS)
BEST = RowKind("best", preferences.best, *_ANSWERS)
STEERED = RowKind("steered", preferences.steered, *_ANSWERS)
# TRL 1.16 refuses stored reference log-probabilities where a column is called `images`.
PAIRS = RowKind(
    "pairs",
    preferences.pair,
    {"prompt_ids": _IDS, "chosen_ids": _IDS, "rejected_ids": _IDS},
    {"images": "pictures"},
)


def with_texts(kind: RowKind) -> RowKind:
    """Return a kind of rows that keep their texts, for a checkpoint's own processor."""
    texts = ("chosen_text", "rejected_text") if kind is PAIRS else ("text",)
    columns = {**kind.columns, **dict.fromkeys(texts, pa.string())}
    return replace(kind, name=f"{kind.name} with texts", columns=columns)
