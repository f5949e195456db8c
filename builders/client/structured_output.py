"""The part of JSON schema that answers are checked by; a schema with more of it is refused."""

import json
import re
from collections.abc import Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_CHECKED = {"type", "properties", "required", "additionalProperties", "items", "enum", "const"}
_CHECKED |= {"minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum", "pattern"}
_NOTES = {"title", "description", "default", "examples", "$schema", "$id"}


def mismatch(value: Any, schema: Mapping[str, Any], place: str = "the object") -> str | None:
    """Return how a value does not follow a schema; None if it does."""
    wanted = schema.get("type")
    kinds = [wanted] if isinstance(wanted, str) else wanted or list(_TYPES)
    if not any(_is(value, kind) for kind in kinds):
        return f"{place} is no {' or '.join(kinds)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{place} is none of {json.dumps(schema['enum'])}"
    if "const" in schema and value != schema["const"]:
        return f"{place} is not {json.dumps(schema['const'])}"
    if isinstance(value, dict):
        return _mismatch_in_object(value, schema, place)
    if isinstance(value, (str, list)):
        name = "Length" if isinstance(value, str) else "Items"
        if not schema.get(f"min{name}", 0) <= len(value) <= schema.get(f"max{name}", len(value)):
            return f"{place} has {len(value)} {'characters' if name == 'Length' else 'items'}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return f"{place} does not match {schema['pattern']}"
    if isinstance(value, list):
        items = (
            mismatch(item, schema.get("items", {}), f"{place}[{number}]")
            for number, item in enumerate(value)
        )
        return next((wrong for wrong in items if wrong), None)
    if _is(value, "number") and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        return f"{place} is {value}"
    return None


def _mismatch_in_object(value: dict[str, Any], schema: Mapping[str, Any], place: str) -> str | None:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            return f"{place} has no {name}"
    for name, inner in value.items():
        if name not in known and schema.get("additionalProperties") is False:
            return f"{place} has a key that is not wanted: {name}"
        if wrong := mismatch(inner, known.get(name, {}), name):
            return wrong
    return None


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise ValueError for a schema with what `mismatch` would not check."""
    kinds = schema.get("type", [])
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind not in _TYPES:
            raise ValueError(f"schema: type {kind}: one of {', '.join(_TYPES)}")
    for name in schema:
        if name not in _CHECKED | _NOTES:
            raise ValueError(f"schema: {name} is not checked; known: {', '.join(sorted(_CHECKED))}")
    for inner in schema.get("properties", {}).values():
        check_schema(inner)
    if "items" in schema:
        check_schema(schema["items"])
