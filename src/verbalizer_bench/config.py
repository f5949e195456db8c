"""Read a recipe's YAML into a frozen dataclass, whose fields say which keys there are.

`key=value` on the command line replaces a key; a dot goes into a block (`lora.r=64`). Paths are
from the working folder; in a recipe, one that begins with `./` is from the recipe's own. A wrong
key or type is an error of one line.
"""

import difflib
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, SkipValidation, TypeAdapter, ValidationError

from verbalizer_bench.io.yaml_reading import CoreLoader, parse_yaml, read_yaml

Kind = TypeVar("Kind")
Item = TypeVar("Item")
# The place of a wrong value, and what pydantic says of it.
Fault = tuple[tuple[int | str, ...], Mapping[str, Any]]
# A list, or its only item.
OneOrMore = Annotated[
    tuple[Item, ...],
    BeforeValidator(lambda value: tuple(value if isinstance(value, list) else [value])),
]
# A text that is one of some: the dataclass itself checks it, and names them whatever was given.
Choice = Annotated[str, SkipValidation]
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
# What an error of pydantic's means: what is expected, and the fix.
_EXPECTED = {
    "int_type": "a whole number is expected",
    "float_type": "a number is expected",
    "finite_number": "a number is expected",
    "bool_type": "true or false is expected",
    "string_type": "text is expected; quote it",
    "dict_type": "a block of keys is expected",
    "dataclass_type": "a block of keys is expected",
}


def read(
    kind: type[Kind],
    path: str | Path,
    overrides: Sequence[str] = (),
    renamed: Mapping[str, str] = MappingProxyType({}),
    refused: Mapping[str, str] = MappingProxyType({}),
) -> Kind:
    """Read and check a recipe.

    Args:
        kind: The dataclass.
        path: A YAML file, or the name of a shipped one (`paper/llm_foit`).
        overrides: `key=value`; the value is YAML.
        renamed: New names of keys by their old ones, which are errors.
        refused: Why there are no such keys, where others have them.

    Raises:
        FileNotFoundError: There is no such recipe.
        ValueError: A key or value is wrong, in one line.
    """
    file = find(Path(path))
    values = read_yaml(file, CoreLoader)
    if not isinstance(values, dict):
        raise ValueError(f"{file}: keys and values are expected, this is {type(values).__name__}")
    values = _placed(values, file.parent)
    for text in overrides:
        override(values, text)
    try:
        if old := [key for key in values if key in renamed]:
            raise ValueError("; ".join(f"{key} is called {renamed[key]} now" for key in old))
        if unfit := next((key for key in values if key in refused), None):
            raise ValueError(f"{unfit}={values[unfit]}: {refused[unfit]}")
        return build(kind, values, overrides)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def find(path: Path) -> Path:
    """Return a recipe's file: the one named, or the shipped one of that name.

    Raises:
        FileNotFoundError: There is neither.
    """
    if path.is_file():
        return path
    known = shipped()
    name = path.with_suffix("")
    for candidate in (str(name), str(Path(*name.parts[1:]))):
        if candidate in known:
            return known[candidate]
    near = difflib.get_close_matches(str(name), known, n=1)
    groups = sorted({f"{Path(one).parts[0]}/" for one in known})
    hint = f"did you mean {near[0]}?" if near else f"shipped ones are in {', '.join(groups)}"
    raise FileNotFoundError(f"recipe {path}: no such file; {hint}")


def shipped() -> dict[str, Path]:
    """Return the shipped recipes by name: `paper/llm_foit`; `miniature/tower` of an experiment."""
    recipes = Path(str(files("verbalizer_bench.recipes")))
    experiments = Path(str(files("verbalizer_bench.experiments")))
    recipe_files = {file.relative_to(recipes): file for file in recipes.rglob("*.yaml")}
    recipe_files |= {Path(f.parts[-3], f.name): f for f in experiments.glob("*/recipes/*.yaml")}
    return {
        str(name.with_suffix("")): recipe_files[name]
        for name in sorted(recipe_files)
        if name.parts[-2] not in ("accelerate", "prompts")
    }


def _placed(value: Any, folder: Path | None) -> Any:
    """Resolve texts that begin with ./ against a folder, if any, and those with ~/ against home."""
    if isinstance(value, dict):
        return {key: _placed(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_placed(inner, folder) for inner in value]
    if isinstance(value, str) and value.startswith("~/"):
        return str(Path(value).expanduser())
    return str(folder / value) if folder and str(value).startswith("./") else value


def override(values: dict[str, Any], text: str) -> None:
    """Replace a key by `key=value`, whose value is YAML; a dot goes into a block.

    Raises:
        ValueError: It is not of that form, or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"{text}: give key=value, such as seed=1 or lora.r=64")
    *blocks, last = key.split(".")
    for block in blocks:
        inner = values.get(block) or {}
        if not isinstance(inner, dict):
            raise ValueError(f"{text}: {block} is {inner!r}, no block of keys")
        values[block] = inner
        values = inner
    try:
        values[last] = _placed(parse_yaml(value, text, CoreLoader), None)
    except ValueError as error:
        raise ValueError(f"{error}; quote the value if it is a text") from error


def build(kind: type[Kind], values: dict[str, Any], overrides: Sequence[str] = ()) -> Kind:
    """Build a dataclass from a block of keys to which overrides have been applied.

    Raises:
        ValueError: A key or value is wrong, in one line.
    """
    try:
        # As JSON, in which pydantic takes no number for a text, but a list for a tuple.
        adapter = _adapter(kind)  # type: ignore[arg-type]
        made: Kind = adapter.validate_json(json.dumps([values], default=str))[0]
        return made
    except ValidationError as error:
        faults = [(fault["loc"][1:], fault) for fault in error.errors(include_url=False)]
        corrections = list(_corrections(faults, overrides))
        if not corrections:
            raise ValueError(_problem(kind, faults)) from error
    for correction in corrections:
        override(values, correction)
    return build(kind, values)


def _corrections(faults: Sequence[Fault], overrides: Sequence[str]) -> Iterator[str]:
    """Yield overrides for values of another type that mean what is expected."""
    given = {key: text for key, _, text in (one.partition("=") for one in overrides)}
    for place, fault in faults:
        key, value = _key(place), fault["input"]
        if fault["type"] == "int_type" and isinstance(value, float) and value.is_integer():
            yield f"{key}={int(value)}"
        # What reads as a number on the command line may be a name: of a model, of a folder.
        is_name = fault["type"] == "string_type" and isinstance(value, (int, float))
        if is_name and given.get(key, "[")[0] != "[":
            yield f"{key}='{given[key]}'"


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # Dataclasses take the configuration of what they stand in.
    return TypeAdapter(tuple[kind], config=_STRICT)


def _problem(kind: type, faults: Sequence[Fault]) -> str:
    """Describe the problem: an unknown key, else missing ones, else a wrong value."""
    by_type = {fault["type"]: (place, fault) for place, fault in reversed(faults)}
    if unknown := by_type.get("unexpected_keyword_argument"):
        return _unknown_key(kind, _key(unknown[0]))
    if missing := sorted(_key(place) for place, fault in faults if fault["type"] == "missing"):
        return f"missing: {', '.join(missing)}"
    place, fault = faults[0]
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    expected: str = _EXPECTED.get(fault["type"]) or fault["msg"]
    if fault["type"] in ("int_type", "float_type") and _is_number(fault["input"]):
        expected += "; take the quotes away"
    return f"{_key(place)}={fault['input']!r}: {expected}"


def _is_number(value: object) -> bool:
    """Tell whether a text would be a number without its quotes."""
    if not isinstance(value, str):
        return False
    try:
        return type(parse_yaml(value, "", CoreLoader)) in (int, float)
    except ValueError:
        return False


def _key(place: Sequence[int | str]) -> str:
    return ".".join(name for name in place if isinstance(name, str))


def _unknown_key(kind: Any, key: str) -> str:
    *blocks, name = key.split(".")
    for block in blocks:
        kind = (
            typing.get_type_hints(kind)[block] if is_dataclass(kind) else typing.get_args(kind)[1]
        )
        if isinstance(kind, types.UnionType):
            (kind,) = (option for option in typing.get_args(kind) if is_dataclass(option))
    known = [field.name for field in fields(kind)]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {'.'.join([*blocks, near[0]])}?" if near else f"known: {', '.join(known)}"
    return f"{key}: no such key; {hint}"


def check(name: str, value: object, right: object, wanted: str) -> None:
    """Raise ValueError with key, value and what is expected, unless it is right."""
    if not right:
        raise ValueError(f"{name}={_as_given(value)}: {wanted}")


def _as_given(value: object) -> str:
    """Return a value for a message; of a list of numbers the whole ones as they were written."""
    if not isinstance(value, (list, tuple)):
        return str(value)
    shown = (f"{one:.15g}" if isinstance(one, float) else repr(one) for one in value)
    return f"[{', '.join(shown)}]"


def plain(value: Any) -> Any:
    """Return a recipe's values as YAML has them: paths as texts, tuples as lists."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
