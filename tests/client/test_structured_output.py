"""Schemas: where an object departs from one, and which schemas are refused."""

from typing import Any

import pytest

from verbalizer_bench.client.structured_output import check_schema, mismatch


@pytest.mark.parametrize(
    ("schema", "right", "wrong", "problem"),
    [
        ({"type": "integer"}, 1, True, "the object is no integer"),
        (
            {"anyOf": [{"type": "null"}, {"minimum": 3}]},
            None,
            1,
            "the object: 1 is not valid under any of the given schemas",
        ),
        ({"type": ["string", "null"]}, None, 1, "the object is no string or null"),
        ({"enum": ["A", "B"]}, "A", "C", "the object: 'C' is not one of ['A', 'B']"),
        ({"const": 1}, 1, 2, "the object: 1 was expected"),
        ({"items": {"type": "string"}}, ["a"], ["a", 1], "the object[1] is no string"),
        ({"minItems": 2, "maxItems": 2}, [1, 2], [1], "the object: [1] is too short"),
        ({"minLength": 1}, "a", "", "the object: '' should be non-empty"),
        ({"maxLength": 1}, "a", "ab", "the object: 'ab' is too long"),
        ({"minimum": 0, "maximum": 1}, 0.5, 2, "the object: 2 is greater than the maximum of 1"),
        ({"pattern": "^a+$"}, "aa", "ab", "the object: 'ab' does not match '^a+$'"),
    ],
)
def test_schemas(schema: dict[str, Any], right: Any, wrong: Any, problem: str) -> None:
    check_schema(schema)
    assert mismatch(right, schema) is None
    assert mismatch(wrong, schema) == problem


ITEM = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}
TURNS = {"type": "object", "properties": {"turns": {"type": "array", "items": ITEM}}}


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        (ITEM, {"question": 3, "x": 1}, "the object has no answer"),
        (ITEM, {"answer": 3, "question": 4}, "answer is no string"),
        (ITEM, {"x": 1, "answer": 3, "question": 4}, "the object has a key that is not wanted: x"),
        (ITEM, {"question": 3, "answer": 4, "x": 1}, "question is no string"),
        (ITEM, [1], "the object is no object"),
        (TURNS, {"turns": "none"}, "turns is no array"),
        (TURNS, {"turns": [{"question": 3, "answer": "b"}, {}]}, "question is no string"),
        (
            TURNS,
            {"turns": [{"question": "a", "answer": "b"}, {"z": 1}]},
            "turns[1] has no question",
        ),
    ],
)
def test_the_first_departure_is_named(schema: dict[str, Any], value: Any, problem: str) -> None:
    """What is stored depends on it: the next attempt's prompt has this text."""
    assert mismatch(value, schema) == problem


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"anyOf": []}, r"schema: \$\.anyOf: \[\] should be non-empty"),
        ({"properties": {"a": {"format": "date"}}}, "schema: format is not checked; known: "),
        ({"items": {"anyOf": [{"propertis": {}}]}}, "schema: propertis is not checked"),
        ({"$ref": "#/$defs/a"}, r"schema: \$ref is not checked"),
        ({"type": "text"}, r"schema: \$\.type: 'text' is not valid"),
    ],
)
def test_schemas_that_are_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_schema(schema)
