"""What the suite's prompts say of a data set, taken from their own text."""

import re
from functools import cache
from typing import NamedTuple

from verbalizer_bench.tasks.spec import DatasetSpec, Verbalizer
from verbalizer_bench.tasks.suite import suite_datasets

_SHAPE = re.compile(
    r"(?P<role>You are .+?)\. If (?P<first>.+?), you need to output .+?\. "
    r"If (?P<second>.+?), you need to output .+?\n\n(?P<fields>.+)\nAnswer:",
    re.DOTALL,
)


class Wording(NamedTuple):
    """A data set and the parts of its prompt.

    Attributes:
        spec: The data set.
        verbalizers: Its label words.
        role: The first sentence, without its full stop.
        conditions: What holds of a document of the first class, and of the second.
        fields: A Jinja template of the texts.
    """

    spec: DatasetSpec
    verbalizers: tuple[Verbalizer, ...]
    role: str
    conditions: tuple[str, str]
    fields: str


@cache
def wordings() -> tuple[Wording, ...]:
    """Return the nine data sets of the suite.

    Raises:
        ValueError: A prompt has not the shape that they share.
    """
    read = []
    for spec, verbalizers in suite_datasets().values():
        parts = _SHAPE.fullmatch(spec.prompt)
        if parts is None:
            raise ValueError(f"{spec.where}: doc_to_text has not the shape of the suite's prompts")
        conditions = parts["first"], parts["second"]
        read.append(Wording(spec, verbalizers, parts["role"], conditions, parts["fields"]))
    return tuple(read)
