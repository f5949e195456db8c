"""docs/recipe-keys.md: each key of a training recipe, as its class documents it.

python -m tests.helpers.recipe_keys docs/recipe-keys.md
"""

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verbalizer_bench.trainers.conversations.formats import FORMATS
from verbalizer_bench.trainers.evaluation_settings import STOPPING_METRICS
from verbalizer_bench.trainers.optimizers import OPTIMIZERS
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.recipe_settings import PAIR_LOSSES

# What docstrings call by the name that the code has.
_VALUES = {
    "`trainers.conversations.formats.FORMATS`": FORMATS,
    "`trainers.optimizers.OPTIMIZERS`": OPTIMIZERS,
    "`PAIR_LOSSES`": PAIR_LOSSES,
    "`STOPPING_METRICS`": STOPPING_METRICS,
}

_HEAD = """# Keys of a training recipe

Made by `make recipe-keys` of what the code says ([a test](../tests/trainers/test_recipe_keys.py)
holds it). [training.md](training.md) says what goes with what.
Paths are from the working folder; in a recipe one that begins with `./` is from the recipe's own
folder. `key=value` on the command line replaces a key, `lora.r=64` one of a block, and
`verbalizer-bench train` writes the resolved recipe beside the checkpoint.
"""


def page() -> str:
    """Return the page."""
    tables = [_table("", Recipe)]
    tables += [_table(f"## `{name}`\n\n", kind) for name, kind in _blocks(Recipe)]
    return "\n".join([_HEAD, *tables])


def _blocks(kind: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the blocks of a class by name, `model` before `model.second`."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if (block := _dataclass_in(hints[field.name])) is not None:
            yield above + field.name, block
            yield from _blocks(block, f"{above}{field.name}.")


def _dataclass_in(hint: Any) -> Any:
    """Return the dataclass that a type is or may be, None if it is none."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next((one for one in options if dataclasses.is_dataclass(one)), None)


def _table(heading: str, kind: Any) -> str:
    documented = _attributes(kind)
    rows = [
        f"| `{field.name}` | {_default(field)} | {documented[field.name]} |"
        for field in dataclasses.fields(kind)
    ]
    summary = "" if kind is Recipe else f"{(kind.__doc__ or '').split(chr(10) + chr(10))[0]}\n\n"
    return f"{heading}{summary}| key | default | |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return ""
    if field.default is dataclasses.MISSING:
        return "**needed**"
    if field.default is None or field.default == ():
        return ""
    value = field.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def _attributes(kind: Any) -> dict[str, str]:
    """Return what a class's docstring says of each attribute, in one line."""
    text = (kind.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^ {8}(\w+): (.+?)(?=^ {8}\w|\Z)", text, re.M | re.S)
    return {name: _plain(" ".join(line.split())) for name, line in found}


def _plain(text: str) -> str:
    """Return a docstring's sentence for people who write YAML."""
    for name, values in _VALUES.items():
        text = text.replace(name, ", ".join(f"`{value}`" for value in values))
    text = re.sub(r"\bNone\b", "null", text)
    return re.sub(r"`(io/\w+\.py)`", r"[\1](../src/verbalizer_bench/\1)", text).replace("|", r"\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
