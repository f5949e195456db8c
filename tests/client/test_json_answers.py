"""The repairing parser: what is beyond doubt is repaired, the rest is no answer."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verbalizer_bench.client.json_answers import parse

QUESTION: dict[str, Any] = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}
RIGHT = {"question": "What is it?", "answer": "A cat."}
TEXT = json.dumps(RIGHT)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}```",
        f"Sure! Here it is:\n\n{TEXT}\n\nLet me know if you need more.",
        f"<think>A {{question}} about {{'it'}}.</think>{TEXT}",
        '{"question": "What is it?", "answer": "A cat.",}',
        "{'question': 'What is it?', 'answer': 'A cat.'}",
        "{'question': \"What is it?\", \"answer\": 'A cat.' , }",
        f"[{TEXT}]",
        '{"question": "draft", "answer": "draft"} No, better: ' + TEXT,
        TEXT + ' An empty object is {}, and {"x": 1} is another.',
        '\n{\n "question"\n:"What is it?"\n,"answer":"A cat."\n}',
    ],
)
def test_what_is_repaired(text: str) -> None:
    assert parse(text, QUESTION).value == RIGHT


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("{'question': 'it', 'answer': 'It's the dog's.'}", "It's the dog's."),
        ('{"question": "it", "answer": "a "good" dog"}', 'a "good" dog'),
        ('{"question": "it", "answer": "two\nlines\tand tabs"}', "two\nlines\tand tabs"),
        (r'{"question": "it", "answer": "\u00e4\n\"\/"}', 'ä\n"/'),
        (r'{"question": "it", "answer": "\(x\) \d"}', r"\(x\) \d"),
        (r'{"question": "it", "answer": "\ud83d\ude00 \ud83d"}', "😀 \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_strings(text: str, answer: str) -> None:
    assert parse(text, QUESTION).value == {"question": "it", "answer": answer}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no JSON object in it"),
        ("I cannot help with that.", "no JSON object in it"),
        ("{question: What is it?}", "no JSON object in it"),
        ('["question", "answer"]', "no JSON object in it"),
        *((TEXT[:end], "its JSON object is cut off") for end in (1, 5, 12, 20, 40, len(TEXT) - 1)),
        # A draft before it, or an object within it, is not the answer.
        (TEXT + "\n" + TEXT[:-1], "its JSON object is cut off"),
        ('{"all": ' + TEXT + ', "more": tru', "its JSON object is cut off"),
        ('{"all": ' + TEXT + ', "more": 12', "its JSON object is cut off"),
        ('{"question": "it"}', "the object has no answer"),
        ('{"question": "it", "answer": 3}', "answer is no string"),
        ('{"question": "it", "answer": "a", "x": 1}', "a key that is not wanted: x"),
        ('{"question": "it", "answer": "a", "answer": "b"}', "no JSON object in it"),
        ('{"question": "he said "x", then "y", so", "answer": "a"}', "no JSON object in it"),
        ('{"question": NaN, "answer": "a"}', "no JSON object in it"),
        ('{"question": 1e999, "answer": "a"}', "no JSON object in it"),
        ('{"question": ' + "9" * 5000 + ', "answer": "a"}', "no JSON object in it"),
        ('{"a": ' * 2000, "its JSON object is cut off"),
        ('{"a": ' + "[" * 100_000, "no JSON object in it"),
    ],
)
def test_what_is_no_answer(text: str, problem: str) -> None:
    answer = parse(text, QUESTION)
    assert answer.value is None
    assert answer.problem is not None and problem in answer.problem


def test_numbers_and_literals() -> None:
    text = "{'a': [1, -2.5e3, 0, True, False, None, true, null,], 'b': {}, 'c': []}"
    wanted = {"a": [1, -2500.0, 0, True, False, None, True, None], "b": {}, "c": []}
    assert parse(text, {}).value == wanted
    assert parse('{"a": 01}', {}).value is None


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=5)
# Text around an object: anything but what begins another.
NOISE = st.text(st.characters(exclude_characters="{", exclude_categories=["Cs"]), max_size=60)


@settings(deadline=None)
@given(OBJECTS, NOISE, NOISE, st.booleans(), st.sampled_from([None, 2]))
def test_an_object_in_noise(
    value: dict[str, Any], before: str, after: str, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert parse(before + text + after, {}).value == value
    assert parse(f"{before}\n```json\n{text}\n```\n{after}", {}).value == value


@settings(deadline=None, max_examples=30)
@given(OBJECTS)
def test_a_cut_off_object_is_none(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    for end in range(len(text)):
        assert parse(text[:end], {}).value is None


@settings(deadline=None)
@given(st.text(st.sampled_from("{}[]\"':,\\u tTnN10eE.-a\n"), max_size=200) | st.text())
def test_it_never_raises(text: str) -> None:
    value, problem = parse(text, QUESTION)
    assert (value is None) != (problem is None)


@settings(deadline=None)
@given(OBJECTS)
def test_pythons_own_notation(value: dict[str, Any]) -> None:
    plain = {name: inner for name, inner in value.items() if isinstance(inner, (int, type(None)))}
    if all(name.isalnum() for name in plain):
        assert parse(repr(plain), {}).value == plain
