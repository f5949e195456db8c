"""Every verifier on an answer that obeys and on one that does not."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from tests.helpers.obeying import defy, obey
from verbalizer_bench.builders.filters.verifiers import (
    NEED_PUNKT,
    RandomInstruction,
    describe,
    has_punkt,
    registry,
    verify,
)
from verbalizer_bench.builders.kinds.instructions import draw, read_ifeval
from verbalizer_bench.builders.pipeline.blocks import Instructions

EXAMPLES: dict[str, dict[str, Any]] = {
    "keywords:existence": {"keywords": ["dog", "park"]},
    "keywords:frequency": {"keyword": "dog", "frequency": 3, "relation": "at least"},
    "keywords:forbidden_words": {"forbidden_words": ["cat", "mouse"]},
    "keywords:letter_frequency": {"letter": "q", "let_frequency": 4, "let_relation": "at least"},
    "language:response_language": {"language": "hi"},
    "length_constraints:number_paragraphs": {"num_paragraphs": 3},
    "length_constraints:number_words": {"num_words": 20, "relation": "at least"},
    "length_constraints:nth_paragraph_first_word": {
        "num_paragraphs": 2,
        "nth_paragraph": 2,
        "first_word": "dog",
    },
    "detectable_content:number_placeholders": {"num_placeholders": 2},
    "detectable_content:postscript": {"postscript_marker": "P.S."},
    "detectable_format:number_bullet_lists": {"num_bullets": 3},
    "detectable_format:constrained_response": {},
    "detectable_format:number_highlighted_sections": {"num_highlights": 2},
    "detectable_format:multiple_sections": {"section_spliter": "SECTION", "num_sections": 2},
    "detectable_format:json_format": {},
    "detectable_format:title": {},
    "combination:two_responses": {},
    "combination:repeat_prompt": {"prompt_to_repeat": "IFEval's own prompt"},
    "startend:end_checker": {"end_phrase": "That is all."},
    "startend:quotation": {},
    "change_case:english_capital": {},
    "change_case:english_lowercase": {},
    "punctuation:no_comma": {},
}
QUESTION = "What does the dog do?"


def test_these_are_all_types_but_two() -> None:
    assert len(EXAMPLES) == 23
    assert set(EXAMPLES) | set(NEED_PUNKT) == set(registry())


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_answer_passes_and_another_fails(kind: str) -> None:
    arguments = EXAMPLES[kind]
    assert verify(kind, arguments, QUESTION, obey(kind, arguments, QUESTION))
    assert not verify(kind, arguments, QUESTION, defy(kind, arguments))
    assert not verify(kind, arguments, QUESTION, " \n")


@pytest.mark.parametrize("relation", ["less than", "at least"])
def test_relations(relation: str) -> None:
    for kind, name, others in (
        ("keywords:frequency", "relation", {"keyword": "dog", "frequency": 2}),
        ("keywords:letter_frequency", "let_relation", {"letter": "q", "let_frequency": 2}),
        ("length_constraints:number_words", "relation", {"num_words": 5}),
    ):
        arguments = {**others, name: relation}
        assert relation in describe(kind, arguments)
        assert verify(kind, arguments, QUESTION, obey(kind, arguments, QUESTION))
        assert not verify(kind, arguments, QUESTION, defy(kind, arguments))


def test_the_prompt_to_repeat_is_the_records_question() -> None:
    kind, arguments = "combination:repeat_prompt", EXAMPLES["combination:repeat_prompt"]
    assert not verify(kind, arguments, QUESTION, "IFEval's own prompt\nIt runs.")
    assert verify(kind, arguments, QUESTION, f"{QUESTION}\nIt runs.")


def test_the_same_answer_has_the_same_verdict_every_time() -> None:
    # Too short to be told: without a seed langdetect says now this and now that.
    text = "die hand in arm"
    verdicts = {
        verify("language:response_language", {"language": "en"}, "", text) for _ in range(30)
    }
    assert len(verdicts) == 1


@pytest.mark.skipif(has_punkt(), reason="NLTK's punkt_tab is here")
@pytest.mark.parametrize("kind", NEED_PUNKT)
def test_types_without_their_data_are_refused_by_name(kind: str, ifeval: Path) -> None:
    with pytest.raises(ValueError, match=f"{kind}: its verifier needs NLTK's punkt_tab"):
        verify(kind, {}, "", "So.")
    with pytest.raises(ValueError, match=f"{kind}.*leave the type out of instructions.filter"):
        draw(str(ifeval), Instructions(n=1, filter=(kind.partition(":")[0],)))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("detectable_format:number_bullet_lists", {}),
        (
            "keywords:letter_frequency",
            {"letter": "#", "let_frequency": 4, "let_relation": "at least"},
        ),
        ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 5}),
    ],
)
def test_what_a_verifier_would_draw_at_random_is_refused(
    kind: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(RandomInstruction, match="at random; give all arguments"):
        describe(kind, arguments)


def test_arguments_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"detectable_format:title with .*num_bullets"):
        describe("detectable_format:title", {"num_bullets": 2})
    with pytest.raises(ValueError, match="no such type"):
        verify("detectable_format:haiku", {}, "", "")


def test_the_random_numbers_of_others_are_left_alone() -> None:
    random.seed(7)
    state = random.getstate()
    describe("detectable_format:title", {})
    verify("language:response_language", {"language": "en"}, "", "So it is.")
    assert random.getstate() == state


@pytest.fixture
def ifeval() -> Path:
    path = SHARED / "data/ifeval/input_data.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


def test_a_hundred_are_drawn_of_ifeval_whatever_the_order_of_its_rows(
    ifeval: Path, tmp_path: Path
) -> None:
    drawn = draw(str(ifeval), Instructions())
    assert len(drawn) == len({one.source for one in drawn}) == 100
    assert {one.type.partition(":")[0] for one in drawn} == {"detectable_format"}
    assert len({one.type for one in drawn}) == 6
    assert all(one.text == describe(one.type, one.arguments) for one in drawn)
    other = tmp_path / "reversed.jsonl"
    other.write_text("\n".join(reversed(ifeval.read_text().splitlines())))
    assert draw(str(other), Instructions()) == drawn
    assert draw(str(ifeval), Instructions(n=40)) == drawn[:40]
    assert draw(str(ifeval), Instructions(seed=1)) != drawn


def test_every_ifeval_row_can_be_described_but_those_left_to_chance(ifeval: Path) -> None:
    rows = [
        (kind, {name: value for name, value in arguments.items() if value is not None})
        for row in read_ifeval(str(ifeval))
        for kind, arguments in zip(row["instruction_id_list"], row["kwargs"], strict=True)
    ]
    assert len(rows) == 834
    refused = []
    for kind, arguments in rows:
        try:
            assert describe(kind, arguments)
        except RandomInstruction:
            refused.append(arguments["letter"])
    assert sorted(refused) == ["!", "#"]


def test_all_answerable_ifeval_rows_have_an_answer_that_passes(ifeval: Path) -> None:
    """Ours obeys all instructions of the default filter, which the build's tests rely on."""
    for one in draw(str(ifeval), Instructions(n=157)):
        assert verify(one.type, one.arguments, QUESTION, obey(one.type, one.arguments, QUESTION))
        assert not verify(one.type, one.arguments, QUESTION, defy(one.type, one.arguments))


def test_too_few_or_unknown_types_are_said_in_a_line(ifeval: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"instructions.n=158: .* has 157 of the types"):
        draw(str(ifeval), Instructions(n=158))
    with pytest.raises(ValueError, match="did you mean detectable_format"):
        draw(str(ifeval), Instructions(filter=("detectable_formats",)))
    with pytest.raises(FileNotFoundError, match="give hub or a file"):
        draw(str(tmp_path / "none.jsonl"), Instructions())
    with pytest.raises(ConnectionError, match="without a network give ifeval=FILE"):
        draw("hub", Instructions())
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"key": 1}\n')
    with pytest.raises(ValueError, match=r"bad.jsonl, line 1: not a row of IFEval"):
        draw(str(bad), Instructions())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"key": 1, "kwargs": [{}]}', "it has no instruction_id_list"),
        ('{"key": 1, "instruction_id_list": "a:b", "kwargs": [{}]}', "instruction_id_list='a:b'"),
        ('{"key": 1, "instruction_id_list": ["a:b"], "kwargs": null}', "kwargs=None: a list"),
        ('{"key": 1, "instruction_id_list": ["a:b"], "kwargs": [null]}', "kwargs=[None]: a list"),
        ('{"key": 1, "instruction_id_list": ["a:b"], "kwargs": []}', "1 types and 0 kwargs"),
        ("[1]", "list in place of an object"),
        ('{"key": 1, "key": 2}', "'key' stands twice"),
    ],
)
def test_a_row_of_ifeval_that_is_none(row: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "ifeval.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(ValueError) as error:
        list(read_ifeval(str(path)))
    assert f"{path}, line 1: " in str(error.value) and message in str(error.value)
    assert "\n" not in str(error.value)
