"""YAML files that users provide, with one-line errors that name file and position.

Files are UTF-8, with or without a byte order mark. A duplicate key is an error: parsers would
silently keep the last one.
"""

import re
from pathlib import Path
from typing import Any

import yaml


def read_yaml(path: Path, loader: type[yaml.SafeLoader] | None = None) -> Any:
    """Read a YAML file; `!function` values stay strings.

    Args:
        path: The file.
        loader: `CoreLoader`, or the default, which reads numbers and dates as lm-eval does.

    Raises:
        ValueError: It is not UTF-8, or not YAML that `parse_yaml` takes.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8 "
            "(Latin-1 or UTF-16?); save the file as UTF-8"
        ) from error
    return parse_yaml(text, str(path), loader)


def parse_yaml(text: str, where: str, loader: type[yaml.SafeLoader] | None = None) -> Any:
    """Parse YAML; `!function` values stay strings.

    Args:
        text: The YAML.
        where: Its file, or what else it comes from, for the error.
        loader: As in `read_yaml`.

    Raises:
        ValueError: It is not YAML, has a key twice in one mapping, half a character, a list or a
            block as a key, or a block that holds itself.
    """
    try:
        return yaml.load(text, Loader=loader or _Loader)
    except yaml.YAMLError as error:
        raise ValueError(_reason(where, error)) from error
    except (ValueError, TypeError, RecursionError) as error:
        # A date such as 2026-13-45.
        raise ValueError(f"{where}: not YAML that can be read: {error}") from error


def _reason(where: str, error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None:
        return f"{where}: not valid YAML: {' '.join(str(error).split())}"
    return f"{where}: not valid YAML at line {mark.line + 1}, column {mark.column + 1}: {problem}"


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which refuses duplicate keys and leaves `!function` a string."""

    def get_single_node(self) -> yaml.Node | None:
        """Compose the document, and check its keys before `<<` merges others in."""
        node = super().get_single_node()
        if node is not None:
            _check(node, ())
        return node


_Loader.add_constructor("!function", lambda loader, node: str(node.value))


class CoreLoader(_Loader):
    """A loader with YAML 1.2's numbers and dates: 2e-5 is a number, 2026-01-31 a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, form) for tag, form in forms if tag != "tag:yaml.org,2002:timestamp"]
        for first, forms in _Loader.yaml_implicit_resolvers.items()
    }


CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _check(node: yaml.Node, above: tuple[yaml.Node, ...]) -> None:
    """Raise YAMLError for what parsers accept silently but nobody intends."""
    if any(node is one for one in above):
        raise _fault(node, "a block that holds itself; write it out")
    if isinstance(node, yaml.ScalarNode) and any(
        "\ud800" <= char <= "\udfff" for char in node.value
    ):
        raise _fault(node, "half of a surrogate pair")
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check(item, (*above, node))
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        for _, value in node.value:
            _check(value, (*above, node))


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _fault(key, "a key is a word, no list or block")
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if (key.tag, key.value) in seen:
            raise _fault(key, f"the key {key.value!r} stands twice; remove one")
        seen.add((key.tag, key.value))


def _fault(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
