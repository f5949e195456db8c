"""LLaVA-style data from captions and boxes, and response-format data from existing records."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.data_recipes import COCO
from tests.helpers.endpoint_server import Server, prompt
from verbalizer_bench.builders.build import build
from verbalizer_bench.builders.filters import verifiers
from verbalizer_bench.builders.kinds.response_format import make_sample, read_records
from verbalizer_bench.builders.pipeline.recipe import DataRecipe, read_recipe
from verbalizer_bench.io.conversation_files import read_records as training_records
from verbalizer_bench.io.conversations import Conversation

BOXES = COCO / "llava_caps_boxes_coco2014_val_80.jsonl"


def turn(number: int, about: str) -> dict[str, str]:
    return {"question": f"What is number {number} of {about}?", "answer": f"It is {about}."}


def speak(body: dict[str, Any]) -> Any:
    """Answer each kind of prompt; some answers speak of boxes until they are told not to."""
    first = next(one["content"] for one in body["messages"] if one["role"] == "user")
    about = " ".join(first.splitlines()[0].split()[:12]).replace(".", "")
    told = 'has the words "' in prompt(body)
    if '"turns"' in first:
        turns = [turn(number, about) for number in range(3)]
        if len(about) % 3 == 0 and not told:
            turns[1]["answer"] = "By the bounding box it is at the left."
        return {"turns": turns}
    if '"question" and "answer"' in first:
        return turn(9, about)
    return "The description says so." if len(about) % 4 == 0 and not told else f"One sees {about}."


def llava(folder: Path, server: Server, *overrides: str) -> DataRecipe:
    if not BOXES.is_file():
        pytest.skip(f"{BOXES} is not there")
    return read_recipe(
        "data/llava_style",
        [
            f"output={folder / 'out'}",
            f"images.folder={folder / 'images'}",
            f"images.annotations={BOXES}",
            "images.boxes=null",
            "images.n=40",
            "leakage.data=sample",
            "endpoints.default.requests_per_minute=null",
            "endpoints.default.tokens_per_minute=null",
            f"endpoints.default.base_url={server.url}",
            *overrides,
        ],
    )


def test_llava_style_data_is_made_of_captions_and_boxes(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(speak)
    recipe = llava(tmp_path, server)
    built = build(recipe)
    assert built.sets
    assert len(built.sets.accepted) + len(built.sets.rejected) == 120
    assert {sample.rejection.reason for sample in built.sets.rejected if sample.rejection} <= {
        "duplicate"
    }
    assert any(
        "mention" in str(one.problem) for sample in built.sets.accepted for one in sample.attempts
    )
    names = {"conversation": 3, "detail": 1, "complex": 1}
    for name, turns in names.items():
        records = list(training_records(recipe.output / f"{name}.json"))
        assert len(records) > 30
        for record in records:
            assert isinstance(record, Conversation) and len(record.images) == 1
            assert len(record.messages) == 2 * turns and record.id.endswith(f"_{name}")
            assert "bounding box" not in str(record.messages)
            assert "description" not in str(record.messages)
    together = json.loads((recipe.output / "llava_style.json").read_text())
    assert len(together) == len(built.sets.accepted)
    asked = [prompt(one.body) for one in server.requests]
    assert any(
        re.search(r"^person: \[0\.\d+, 0\.\d+, \d\.\d+, \d\.\d+\]$", one, re.M) for one in asked
    )
    details = {sample.turns[0].question for sample in built.sets.accepted if sample.arm == "detail"}
    assert len(details) > 5  # of ten questions, by the image
    assert "LLaVA-Instruct" in (recipe.output / "README.md").read_text()


def test_mentions_can_be_dropped(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(speak)
    built = build(llava(tmp_path, server, "mentions=drop"))
    assert built.sets
    dropped = [
        sample
        for sample in built.sets.rejected
        if sample.rejection and sample.rejection.reason == "mention"
    ]
    assert dropped and all(len(sample.attempts) == 1 for sample in dropped)
    assert built.usage.calls == 120


def test_llava_style_data_needs_captions(tmp_path: Path, serve: Callable[..., Server]) -> None:
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"image": "a.jpg"}\n')
    recipe = llava(tmp_path, serve(speak), f"images.annotations={bare}", "images.n=1")
    with pytest.raises(ValueError, match=r"images.annotations: no image has a caption"):
        build(recipe)


RECORDS = [
    {"id": 1, "image": "a.jpg", "question": "What colour?", "answer": "red"},
    {"question_id": 2, "image": "b.jpg", "question": "How many?", "answers": ["2", "two", "two"]},
    {"image": "c.jpg", "question": "How?", "answers": [{"answer": "so"}, {"answer": "thus"}]},
    {"id": "x", "image": "d.jpg", "question": "Which?", "choices": ["cat", "dog"], "answer": "dog"},
    {"id": "x", "image": "d.jpg", "question": "Who?", "choices": ["he", "she"], "answer": 0},
    {"image": "e.jpg", "question": "Where?", "choices": ["in", "out"], "answer": "B"},
    {"image": "e.jpg", "question": "Where?", "choices": ["in", "out"], "correct_choice_idx": 1},
    {"image": "f.jpg", "question": "When?", "choices": ["now"], "answer": "then"},
    {"image": "g.jpg", "question": "", "answer": "x"},
    {"question": "No image?", "answer": "x"},
    {"image": "h.jpg", "question": "What?", "answers": []},
    {"image": "i.jpg", "question": "What is <image>?", "answer": "x"},
]


def test_response_format_data_is_made_of_records(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    overrides = [f"output={tmp_path / 'out'}", f"records={file}", "leakage.data=sample"]
    recipe = read_recipe("data/response_format", overrides)
    built = build(recipe)
    assert built.sets and built.usage.calls == 0
    records_read = list(training_records(recipe.output / "response_format.json"))
    assert all(isinstance(record, Conversation) for record in records_read)
    turns = [
        tuple(m.text for m in record.messages)
        for record in records_read
        if isinstance(record, Conversation)
    ]
    short = "Answer the question using a single word or phrase."
    letter = "Answer with the option's letter from the given choices directly."
    assert turns == [
        (f"What colour?\n{short}", "red"),
        (f"How many?\n{short}", "two"),
        (f"How?\n{short}", "so"),
        (f"Which?\nA. cat\nB. dog\n{letter}", "B"),
        (f"Who?\nA. he\nB. she\n{letter}", "A"),
        (f"Where?\nA. in\nB. out\n{letter}", "B"),
        (f"Where?\nA. in\nB. out\n{letter}", "B"),
    ]
    ids = [record.id for record in records_read]
    assert ids == ["1", "2", "000002", "x-000003", "x-000004", "000005", "000006"]
    rejected = [sample.rejection.reason for sample in built.sets.rejected if sample.rejection]
    assert rejected == ["answer", "empty", "empty", "answer", "placeholder"]
    assert "No model was asked" in (recipe.output / "report.md").read_text()


def test_records_of_either_layout_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(RECORDS))
    assert read_records(tmp_path / "a.json") == RECORDS
    for name, content in (("b.jsonl", "[1"), ("c.json", "{}"), ("d.jsonl", "3\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=f"{name}.*(not JSON|a list of objects)"):
            read_records(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none.json: no such file"):
        read_records(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image": 5}, "empty: record 5 image=5: a text is expected"),
        ({"question": ["Which?"]}, "empty: record 5 question=['Which?']: a text is expected"),
        ({"choices": "cat"}, "answer: record 5: choices='cat': a list is expected"),
        ({"choices": ["cat", "cat"], "answer": "cat"}, "answer: record 5: answer='cat' may be any"),
        ({"choices": [1, 2], "answer": 1}, "answer: record 5: answer=1 may be any of A, B"),
        ({"choices": ["a", "b"], "answer": True}, "answer: record 5: answer=True is none"),
        ({"choices": [None, "b"], "answer": "b"}, "answer: record 5: choices=[None, 'b']: None is"),
        ({"choices": ["a", " "], "answer": "a"}, "answer: record 5: choices=['a', ' ']: ' ' is no"),
        ({"choices": [["a"], "b"], "answer": "b"}, "answer: record 5: choices=[['a'], 'b']: ['a']"),
        ({"choices": ["a</s>", "b"], "answer": "b"}, "control_tokens: </s> is in it"),
        ({"choices": ["<image>", "b"], "answer": "b"}, "placeholder: <image>"),
        ({"answer": "\u200b"}, "empty: the answer is empty"),
        ({"answer": ["x"]}, "answer: record 5: answer=['x']: a text is expected"),
        ({"answer": "red</s>"}, "control_tokens: </s> is in it"),
        ({"answer": "<think>Red?</think>red"}, "thoughts: <think> is in it"),
    ],
)
def test_a_record_that_cannot_be_used_says_why(changes: dict[str, Any], reason: str) -> None:
    sample = make_sample({"image": "a", "question": "?", "answer": "x"} | changes, 5)
    assert sample.rejection
    assert ": ".join(sample.rejection[1:]).startswith(reason)


def test_captions_that_come_in_are_checked(serve: Callable[..., Server], tmp_path: Path) -> None:
    captions = {
        "good": "A dog lies on a bench",
        "refusal": "I'm sorry, but I can't help with that.",
        "thoughts": "<think>A dog?</think>A dog lies on a bench.",
        "control_tokens": "A dog lies on a bench.<|im_end|>",
        "placeholder": "A dog <image> lies on a bench.",
        "cut_off": "A dog lies on a bench and looks at the",
        "too_long": "A dog lies on a bench. " * 300,
        "empty": "  ",
    }
    file = tmp_path / "captions.jsonl"
    lines = [
        json.dumps({"image": f"{name}.jpg", "captions": [text]}) for name, text in captions.items()
    ]
    file.write_text("".join(f"{line}\n" for line in lines))
    server = serve(speak)
    changes = [f"images.annotations={file}", "images.n=null", "answers=detail"]
    built = build(llava(tmp_path, server, *changes))
    assert built.sets and [sample.image for sample in built.sets.accepted] == ["good.jpg"]
    rejections = {str(sample.image): sample.rejection for sample in built.sets.rejected}
    assert {
        name: rejected.reason + ".jpg" for name, rejected in rejections.items() if rejected
    } == {name: name for name in rejections}
    assert len(rejections) == 7 and len(server.requests) == 1


def test_an_option_is_a_line() -> None:
    choices = ["a dog\nB. a cat", 2, True]
    sample = make_sample({"image": "a", "question": "?", "choices": choices, "answer": "C"}, 5)
    assert sample.rejection is None and sample.context == "A. a dog B. a cat\nB. 2\nC. True"


def test_an_option_that_is_none_of_the_choices_is_rejected() -> None:
    sample = make_sample({"image": "a", "question": "?", "choices": ["x"], "answer": 3}, 5)
    assert sample.rejection == ("records", "answer", "record 5: answer=3 is none of its choices")


def paired(number: int, formatted: str, kind: str, **arguments: Any) -> dict[str, Any]:
    sums = {"question": f"What is {number} and {number} in all?", "answer": f"It is {2 * number}."}
    asked = {"type": f"{kind}", "arguments": arguments}
    return {"id": number, **sums, "formatted": formatted, "instruction": asked}


PAIRS = [
    paired(1, '{"answer": 2}', "detectable_format:json_format"),
    paired(20, "IT IS 40.", "change_case:english_lowercase"),
    paired(300, "It is 600. Done.", "startend:end_checker", end_phrase="Done."),
    paired(4000, "8000", "length_constraints:no_such"),
    {"id": 5, "question": "And then?", "formatted": "x", "instruction": {"type": "a:b"}},
    {"id": 6, "question": "And now?", "answer": "y", "formatted": "x", "instruction": "capitals"},
]


def test_text_with_formats_makes_two_sets_of_the_same_items(tmp_path: Path) -> None:
    """And pairs of both answers, whose prompt is the set's."""
    PAIRS[0]["instruction"]["text"] = "Answer in JSON."
    file = tmp_path / "records.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in PAIRS))
    screened = ["leakage.data=sample"]
    where = [f"output={tmp_path / 'out'}", f"records={file}"]
    built = build(read_recipe("data/response_format", [*where, *screened]))
    assert built.sets
    reasons = [sample.rejection and sample.rejection.reason for sample in built.sets.rejected]
    assert reasons == ["format", "pair", *["instruction"] * 2, *["empty"] * 2, *["instruction"] * 2]

    def turns(name: str) -> list[tuple[str, ...]]:
        rows = json.loads((tmp_path / "out" / name).read_text())
        return [tuple(turn["value"] for turn in row["conversations"]) for row in rows]

    ending = verifiers.describe("startend:end_checker", {"end_phrase": "Done."})
    questions = [str(record["question"]) for record in (PAIRS[0], PAIRS[2])]
    asked = [f"Answer in JSON.\n\n{questions[0]}", f"{ending}\n\n{questions[1]}"]
    assert turns("format.json") == [(asked[0], '{"answer": 2}'), (asked[1], "It is 600. Done.")]
    assert turns("plain.json") == [(questions[0], "It is 2."), (questions[1], "It is 600.")]
    where = [f"output={tmp_path / 'pairs'}", "prompted=text"]
    where.append(f"samples={tmp_path / 'out' / 'response_format' / 'accepted.jsonl'}")
    build(read_recipe("data/format_pairs", [*where, *screened]))
    lines = (tmp_path / "pairs" / "pairs_text.jsonl").read_text().splitlines()
    pairs = [json.loads(line) for line in lines]
    assert [(p["prompt"][0]["content"], p["images"]) for p in pairs] == [(q, []) for q in asked]
    assert [p["rejected"][0]["content"] for p in pairs] == ["It is 2.", "It is 600."]


def test_prompts_of_text_with_formats_need_their_texts(tmp_path: Path) -> None:
    file, prompts = tmp_path / "records.jsonl", tmp_path / "prompts.yaml"
    file.write_text(json.dumps(PAIRS[0]) + "\n")
    texts = {"short": "{question}", "letter": "{question} {context}", "format": "{question}"}
    prompts.write_text(json.dumps({"version": "1", "records": texts}))
    where = [f"output={tmp_path / 'out'}", f"records={file}", f"prompts={prompts}"]
    recipe = read_recipe("data/response_format", [*where, "leakage.data=sample"])
    with pytest.raises(ValueError, match=r"records.format: {instruction} is missing"):
        build(recipe)
