"""Read a recipe's YAML into a frozen dataclass, whose fields say which keys there are.

`key=value` on the command line replaces a key; a dot goes into a block (`lora.r=64`). Paths are
from the working folder; in a recipe, one that begins with `./` is from the recipe's own. A wrong
key or type is an error of one line.
"""

import dataclasses
import datetime
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from verbalizer_bench.io.yaml_reading import parse_yaml, read_yaml

Kind = TypeVar("Kind")


def read(kind: type[Kind], path: str | Path, overrides: Sequence[str] = ()) -> Kind:
    """Read and check a recipe.

    Args:
        kind: The dataclass.
        path: A YAML file, or the name of a shipped one (`paper/llm_foit`).
        overrides: `key=value`; the value is YAML.

    Raises:
        FileNotFoundError: There is no such recipe.
        ValueError: A key or value is wrong, in one line.
    """
    file = find(Path(path))
    found = read_yaml(file)
    if not isinstance(found, dict):
        raise ValueError(f"{file}: keys and values are expected, this is {type(found).__name__}")
    found = _placed(found, file.parent)
    for override in overrides:
        _override(found, override)
    try:
        return typing.cast(Kind, _build(kind, found, ""))
    except ValueError as error:
        place = f"{file} with {' '.join(overrides)}" if overrides else file
        raise ValueError(f"{place}: {error}") from error


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
    found = {file.relative_to(recipes): file for file in recipes.rglob("*.yaml")}
    found |= {Path(f.parts[-3], f.name): f for f in experiments.glob("*/recipes/*.yaml")}
    return {
        str(name.with_suffix("")): found[name]
        for name in sorted(found)
        if name.parts[-2] not in ("accelerate", "prompts")
    }


def _placed(value: Any, folder: Path) -> Any:
    """Turn texts that begin with ./ into paths from the recipe's own folder."""
    if isinstance(value, dict):
        return {key: _placed(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_placed(inner, folder) for inner in value]
    return str(folder / value) if isinstance(value, str) and value.startswith("./") else value


class _Written(typing.NamedTuple):
    """A number, truth value or date of the command line, and how it was written: a name?"""

    value: int | float | datetime.date
    text: str


def _override(found: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ValueError(f"{override}: give key=value, such as seed=1 or lora.r=64")
    *blocks, last = key.split(".")
    for block in blocks:
        inner = found.get(block) or {}
        if not isinstance(inner, dict):
            raise ValueError(f"{override}: {block} is {inner!r}, no block of keys")
        found[block] = inner
        found = inner
    try:
        read = parse_yaml(value, override)
    except ValueError as error:
        raise ValueError(f"{error}; quote the value if it is a text") from error
    found[last] = _Written(read, value) if isinstance(read, (int, float, datetime.date)) else read


def _build(kind: type, found: Mapping[str, Any], prefix: str) -> Any:
    """Make a dataclass of a block of the YAML; the fields' types say what its values must be."""
    hints = typing.get_type_hints(kind)
    required = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    for key in found:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(hints)}"
            raise ValueError(f"{prefix}{key}: no such key; {hint}")
    if missing := sorted(required - set(found)):
        raise ValueError(f"missing: {', '.join(prefix + name for name in missing)}")
    return kind(**{key: _value(hints[key], value, prefix + key) for key, value in found.items()})


def _value(hint: Any, value: Any, key: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    (kind,) = (option for option in options if option is not type(None))
    if isinstance(value, _Written):
        is_name = kind in (str, Path) or typing.get_args(kind)[:1] in ((str,), (Path,))
        value = value.text if is_name else value.value
    if kind is Any:
        return value
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{key}={value!r}: a block of keys is expected")
        (_, inner) = typing.get_args(kind)
        return {str(name): _value(inner, item, f"{key}.{name}") for name, item in value.items()}
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{key}={value!r}: a block of keys is expected")
        return _build(typing.cast(type, kind), value, f"{key}.")
    if typing.get_origin(kind) is tuple:
        items = value if isinstance(value, list) else [value]
        return tuple(_value(typing.get_args(kind)[0], item, key) for item in items)
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    # YAML 1.1 reads 2e-5 as text.
    if (
        kind in (int, float)
        and isinstance(value, (int, float, str))
        and not isinstance(value, bool)
    ):
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if math.isfinite(number) and (kind is float or number == int(number)):
            return kind(number)
    elif type(value) is kind:
        return value
    wanted, _, fix = _NAMES[kind].partition("; ")
    raise ValueError(f"{key}={value!r}: {wanted} is expected{fix and f'; {fix}'}")


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text; quote it",
    Path: "a path; quote it",
}


def check(name: str, value: object, right: bool, wanted: str) -> None:
    """Raise ValueError, with the key, the value and what is wanted, unless it is right."""
    if not right:
        raise ValueError(f"{name}={value}: {wanted}")


def plain(value: Any) -> Any:
    """Return a recipe's values as its YAML has them: paths are texts, tuples lists."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
