"""Structured output: the JSON schema that an object in an answer must follow."""

import json
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from referencing.jsonschema import DRAFT202012

_NOTES = {"title", "description", "default", "examples", "$schema", "$id", "$defs", "then", "else"}
# A format is checked only with further packages, a reference is followed only once an answer was
# paid for, and with a pattern no key is unexpected by its name alone.
_REFUSED = {"format", "$ref", "$dynamicRef", "patternProperties"}
_CHECKED = set(Draft202012Validator.VALIDATORS) - _REFUSED


def mismatch(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return where and how a value first departs from a schema, in its own order; None if not.

    The text stands in the prompt of the next attempt and so in what responses are stored by: with
    another wording, whatever is stored would be asked for again.
    """
    errors = Draft202012Validator(schema).iter_errors(value)
    first = min(errors, key=partial(_position, value), default=None)
    return _words(first) if first else None


def _position(value: Any, error: ValidationError) -> list[int]:
    """Return where an error is: what a place lacks comes before what is wrong within it."""
    position = []
    for step in error.absolute_path:
        position.append(step if isinstance(step, int) else list(value).index(step))
        value = value[step]
    if error.validator == "required":
        position.append(-1)
    elif error.validator == "additionalProperties":
        position.append(list(value).index(_unexpected(error)))
    return position


def _words(error: ValidationError) -> str:
    place = "the object"
    for step in error.absolute_path:
        place = f"{place}[{step}]" if isinstance(step, int) else str(step)
    if error.validator == "type":
        types = error.validator_value
        return f"{place} is no {types if isinstance(types, str) else ' or '.join(types)}"
    if error.validator == "required":
        return f"{place} has no {next(n for n in error.validator_value if n not in error.instance)}"
    if error.validator == "additionalProperties":
        return f"{place} has a key that is not wanted: {_unexpected(error)}"
    return f"{place}: {error.message}"


def _unexpected(error: ValidationError) -> str:
    known = error.schema.get("properties", {})
    return next(name for name in error.instance if name not in known)


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise ValueError for what is no schema, or has more than `mismatch` would check."""
    _check(json.dumps(schema))


@cache
def _check(text: str) -> None:
    schema = json.loads(text)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"schema: {error.json_path}: {error.message}") from error
    _check_keywords(schema)


def _check_keywords(schema: Any) -> None:
    if isinstance(schema, dict):
        for name in set(schema) - _CHECKED - _NOTES:
            known = ", ".join(sorted(_CHECKED))
            raise ValueError(f"schema: {name} is not checked; known: {known}")
        for inner in DRAFT202012.subresources_of(schema):
            _check_keywords(inner)
