"""Conversations of completions: the best of several, and all with their attributes."""

import json
from pathlib import Path
from typing import Any

import pytest

from verbalizer_bench.io.conversation_files import read_files
from verbalizer_bench.io.conversations import BadRecordError, Conversation, Message
from verbalizer_bench.io.preferences import ATTRIBUTES
from verbalizer_bench.trainers.conversations.preferences import (
    CutOffPairs,
    Selection,
    answered,
    best,
    cut_off_pairs,
    pair,
    selection,
    steered,
)

ASKED = (
    "What is it?\nPlease answer the question such that your response is in the following "
    "attributes in 5-point Likert scale:\nHelpfulness:"
)


def rated(*completions: tuple[str, tuple[int, ...] | None], **more: Any) -> dict[str, Any]:
    found = [
        {"text": text, "scores": dict(zip(ATTRIBUTES, n, strict=True)) if n else None}
        for text, n in completions
    ]
    prompt = [{"role": "user", "content": "What is it?"}]
    rows = [one | {"ending": "stop"} for one in found]
    return {
        "id": "7",
        "prompt": prompt,
        "images": ["a.png"],
        "source": "x",
        "completions": rows,
    } | more


FOUR = rated(
    ("a", (4, 1, 4, 0, 0)),
    ("b ", (4, 4, 3, 4, 4)),
    ("c", None),
    ("d", (4, 3, 4, 0, 0)),
)


def test_the_best_is_that_of_the_first_three_and_of_equals_the_first() -> None:
    (found,) = best(3, FOUR)
    answer = Message("assistant", "b")
    asked = Message("user", "What is it?", images=1)
    assert found == Conversation(3, "7", (asked, answer), ("a.png",), last_only=True)


def test_what_is_chosen_is_counted(tmp_path: Path) -> None:
    """FOUR has two best ones, and one without scores."""
    one = rated(("a", (4, 1, 4, 0, 0)), ("b", (1, 1, 4, 4, 4)))
    cut = rated(("a", (4, 4, 4, 0, 0)), ("b", (1, 1, 4, 4, 4)), ("c", (1, 1, 1, 1, 1)), ("d", None))
    for completion in cut["completions"]:
        completion["ending"] = "length"
    file = tmp_path / "completions.jsonl"
    file.write_text("\n".join(map(json.dumps, (FOUR, one, cut, FOUR, {"id": "no record"}))))
    assert selection([file], best) == Selection(unrated=3, cut_off=1, tied=2)
    assert selection([file, file], steered) == Selection(unrated=6, cut_off=6, tied=4)


def test_every_completion_that_was_judged_is_a_conversation_with_its_attributes() -> None:
    found = steered(3, FOUR)
    assert [one.index for one in found] == [3, 4, 5]
    texts = [
        (one.messages[0].text, one.messages[0].images, one.messages[1].text)
        for one in found
        if isinstance(one, Conversation)
    ]
    assert texts == [
        (f"{ASKED}4,Correctness:1,Coherence:4,Complexity:0,Verbosity:0", 1, "a"),
        (f"{ASKED}4,Correctness:4,Coherence:3,Complexity:4,Verbosity:4", 1, "b"),
        (f"{ASKED}4,Correctness:3,Coherence:4,Complexity:0,Verbosity:0", 1, "d"),
    ]


@pytest.mark.parametrize("parse", [best, steered])
def test_what_cannot_be_used_is_refused_by_record(parse: Any, tmp_path: Path) -> None:
    file = tmp_path / "completions.jsonl"
    rows = [FOUR, rated(("a", None)), FOUR | {"prompt": []}, FOUR]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = [record for _, record in read_files([file], parse)]
    bad = [str(one) for one in found if isinstance(one, BadRecordError)]
    assert bad == [
        f"{file}, line 2 (id '7'): no scores: no completion was judged; judge "
        "them, or leave the record out",
        f"{file}, line 3 (id '7'): turn order: prompt: no turn; a system "
        "turn if any, then user and assistant in turn, the user's last",
    ]
    assert [one.index for one in found] == list(range(len(found)))


def test_a_record_of_the_other_kind_is_named_as_one() -> None:
    with pytest.raises(BadRecordError, match="other kind: rated completions, which method=rej"):
        pair(0, FOUR)
    with pytest.raises(BadRecordError, match="other kind: a pair, which method=dpo trains"):
        best(0, {"id": "7", "chosen": [], "rejected": []})
    with pytest.raises(
        BadRecordError,
        match=r"layout: it lacks id, images, source, .*_pairs\.yaml",
    ):
        pair(0, {"prompt": "Why?", "chosen": "So.", "rejected": "No."})


def test_pairs_that_were_cut_off_are_counted(tmp_path: Path) -> None:
    turns = {name: [{"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    pair = {name: FOUR[name] for name in ("id", "prompt", "images", "source")} | turns
    pair |= {"score_chosen": None, "score_rejected": None}
    endings = [("length", "stop"), ("length", "length"), ("stop", "stop"), ("length", "unknown")]
    rows = [pair | {"ending_chosen": one, "ending_rejected": other} for one, other in endings]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, [*rows, pair, {"id": "no record"}])))
    assert cut_off_pairs([file]) == CutOffPairs(chosen=3, rejected=1, not_known=2)


def test_sft_takes_a_pairs_preferred_answer_beside_conversations() -> None:
    turns = {name: [{"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    pair = {name: FOUR[name] for name in ("id", "prompt", "images", "source")} | turns
    (found,) = answered(0, pair | {"score_chosen": 1, "score_rejected": 0})
    assert found.messages[-1] == Message("assistant", "chosen") and found.images == ("a.png",)
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (plain,) = answered(0, {"messages": messages})
    assert plain.messages[-1].text == "Hello" and not plain.last_only
