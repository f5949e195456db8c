"""YAML as users bring it: a fault is one line with file and place.

Files are UTF-8; a byte order mark in front of them is no fault. A key that stands twice is a fault:
parsers keep the last and say nothing.
"""

from pathlib import Path
from typing import Any

import yaml


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds; `!function` values stay strings.

    Raises:
        ValueError: It is not UTF-8, not YAML, or has a key twice in one mapping.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(_reason(path, error)) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8 "
            "(Latin-1 or UTF-16?); save the file as UTF-8"
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        # A date such as 2026-13-45, or a block as a key.
        raise ValueError(f"{path}: not YAML that can be read: {error}") from error


def _reason(path: Path, error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None:
        return f"{path}: not valid YAML: {' '.join(str(error).split())}"
    return f"{path}: not valid YAML at line {mark.line + 1}, column {mark.column + 1}: {problem}"


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which takes no key twice and leaves `!function` a string."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping; its keys are looked at before `<<` brings those of others."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice; remove one", key.start_mark
                )
            seen.add((key.tag, key.value))
        return node


_Loader.add_constructor("!function", lambda loader, node: str(node.value))
