"""Records of both layouts, good and bad, read as a stream."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from verbalizer_bench.io import json_reading
from verbalizer_bench.io.conversation_files import read_prompts, read_records
from verbalizer_bench.io.conversations import BadRecordError, Conversation, Message


def llava(*values: str, **keys: Any) -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[n % 2], "value": v} for n, v in enumerate(values)]
    return {"id": "x", "conversations": turns} | keys


def read(tmp_path: Path, *rows: Any) -> list[Conversation | BadRecordError]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_records(path))


@pytest.mark.parametrize(
    "question",
    ["<image>\nWhat?", "What?\n<image>", "<image>What?", " What?<image> ", "<image>\n\n What? "],
)
def test_an_image_moves_to_the_front_of_its_turn(tmp_path: Path, question: str) -> None:
    (found,) = read(tmp_path, llava(question, " A cat.\n", "Sure?", "Yes.", image="a.jpg"))
    turns = (
        Message("user", "What?", 1),
        Message("assistant", "A cat."),
        Message("user", "Sure?"),
        Message("assistant", "Yes."),
    )
    assert found == Conversation(0, "x", turns, ("a.jpg",))
    assert turns[0].content() == [{"type": "image"}, {"type": "text", "text": "What?"}]
    assert turns[2].content() == "Sure?"


def test_several_images_go_to_their_own_turns_in_order(tmp_path: Path) -> None:
    row = llava("A<image> and <image>", "b", "<image>", "d", image=["1.jpg", "2.jpg", "3.jpg"])
    (found,) = read(tmp_path, row)
    assert isinstance(found, Conversation)
    assert found.images == ("1.jpg", "2.jpg", "3.jpg")
    assert [message.images for message in found.messages] == [2, 0, 1, 0]
    assert found.messages[0].text == "A and"
    assert found.messages[2].content() == [{"type": "image"}]


def test_text_records_and_system_messages(tmp_path: Path) -> None:
    system = {"from": "system", "value": "Be kind."}
    row = llava("q", "a")
    row["conversations"].insert(0, system)
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    first, second, third = read(
        tmp_path, row, {"messages": messages, "images": []}, llava("q", "a", id=12, image=None)
    )
    turns = (Message("user", "q"), Message("assistant", "a"))
    assert first == Conversation(0, "x", (Message("system", "Be kind."), *turns), ())
    assert second == Conversation(1, "", turns, ())
    assert third == Conversation(2, "12", turns, ())


BAD = [
    (llava("q", "a", image="a.jpg"), "placeholders", "0 <image> for 1 image;"),
    (llava("<image>q", "a"), "placeholders", "1 <image> for 0 images"),
    (llava("the <image> tag", "a"), "placeholders", "1 <image> for 0 images"),
    (llava("<image><image>", "a", image="a.jpg"), "placeholders", "2 <image> for 1 image;"),
    (llava("q", "<image>a", image="a.jpg"), "placeholders", "not the user's"),
    (llava("q"), "turn order", "the last of 1 turns is not an answer"),
    (llava("q", "a", "r"), "turn order", "the last of 3 turns is not an answer"),
    (llava(), "turn order", "the last of 0 turns is not an answer"),
    (llava("q", " \n"), "empty turn", "conversations[1] (assistant) has no text"),
    (llava("", "a"), "empty turn", "conversations[0] (user) has no text"),
    (
        {"messages": [{"role": r, "content": "c"} for r in ("user", "user", "assistant")]},
        "turn order",
        "messages[1] is user, expected assistant",
    ),
    (
        {"messages": [{"role": r, "content": "c"} for r in ("assistant", "user")]},
        "turn order",
        "messages[0] is assistant, expected user",
    ),
    (
        {"messages": [{"role": r, "content": "c"} for r in ("system", "user", "system")]},
        "turn order",
        "messages[2] is system, expected assistant",
    ),
    (
        {"id": "x", "conversations": "hello"},
        "malformed turns",
        "conversations='hello'; give a list of turns, each {from, value}",
    ),
    ({"messages": ["hi"]}, "malformed turns", "messages[0]='hi'; give {role, content}"),
    (
        {"conversations": [{"from": "tool", "value": "v"}]},
        "malformed turns",
        "conversations[0].from='tool'; give human, gpt or system",
    ),
    (
        {"conversations": [{"from": "human", "value": 3}]},
        "malformed turns",
        "conversations[0].value=3; give a text, or a list of",
    ),
    (
        {"conversations": [{"from": ["human"], "value": "v"}]},
        "malformed turns",
        "conversations[0].from=['human']; give human",
    ),
    ({"messages": [{"content": "v"}]}, "malformed turns", "messages[0].role=None; give user,"),
    (
        llava("<image>", "a", image="data:image/png;base64," + "iVBO" * 99),
        "malformed images",
        "iVBOiV...: a data URL; write it to a file",
    ),
    (
        llava("<image>", "a", image="https://a.b/c.png"),
        "malformed images",
        "image='https://a.b/c.png': an address; write it to a file",
    ),
    (
        {"messages": [{"from": "human", "value": "v"}]},
        "malformed turns",
        "messages[0] has from and value: such turns belong under the key conversations",
    ),
    (
        {"conversations": [{"role": "user", "content": "v"}]},
        "malformed turns",
        "conversations[0] has role and content: such turns belong under the key messages",
    ),
    (
        {**llava("<image>", "a"), "picture": {"bytes": "b"}, "source": "s"},
        "placeholders",
        "1 <image> for 0 images; the key picture is not read; if it holds the image, call it image",
    ),
    (
        {**llava("<image>", "a"), "picture": "a.png", "score": 3},
        "placeholders",
        "the keys picture, score are not read; call the one of the image image or images",
    ),
    (llava("<image>", "a", image=[3]), "malformed images", "image=[3]; give a file name or a list"),
    (
        {"id": 5, "text": "t"},
        "unknown layout",
        "it has id, text; give it the key conversations or messages",
    ),
    (["q", "a"], "unknown layout", "['q', 'a'] is no object; give it the key"),
    ({}, "unknown layout", "it has no key; give it the key"),
    ({"conversations": [], "messages": []}, "two layouts", "conversations and messages"),
    ({"conversations": [], "image": "a", "images": ["b"]}, "two layouts", "image and images"),
    ({"conversations": None}, "unknown layout", "give it the key"),
]


@pytest.mark.parametrize(("row", "reason", "detail"), BAD)
def test_bad_records_say_why(tmp_path: Path, row: Any, reason: str, detail: str) -> None:
    good, bad = read(tmp_path, llava("q", "a"), row)
    assert isinstance(good, Conversation)
    assert isinstance(bad, BadRecordError)
    assert (bad.index, bad.reason) == (1, reason)
    assert detail in bad.detail
    where = f"{tmp_path / 'rows.jsonl'}, line 2"
    assert str(bad).startswith(f"{where} (id {bad.id!r}): {reason}: ")
    assert "\n" not in str(bad)


def test_indices_go_on_from_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([llava("q", "a"), llava("q")]))
    assert [found.index for found in read_records(path, 40)] == [40, 41]


def test_files_that_hold_no_records(tmp_path: Path) -> None:
    contents = {
        "data.json": ('{"data": []}', "a .json file is a list of records"),
        "cut.json": ('[{"id": 1}, {"id"', "not JSON"),
        "comma.json": ('[{"id": 1},]', "row 2: not JSON"),
        "more.json": ('[{"id": 1}] []', "more stands behind the list"),
        "none.json": ('[{"id": 1} {"id": 2}]', "row 1: not JSON .no comma"),
        "empty.json": ("", "a .json file is a list"),
        "lines.json": ('{"id": 1}\n{"id": 2}\n', "one a line is .jsonl"),
        "cut.jsonl": ('{"id": 1}\n{"id"\n', "line 2: not JSON"),
        "rows.csv": ("id\n1\n", "records are read from .json"),
    }
    for name, (text, message) in contents.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(ValueError, match=message) as caught:
            list(read_records(path))
        assert name in str(caught.value)
    with pytest.raises(FileNotFoundError):
        list(read_records(tmp_path / "gone.json"))


GOOD = json.dumps(llava("q", "caf\u00e9"), ensure_ascii=False)
LATIN = GOOD.encode("latin-1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%s%s" % (GOOD.encode(), LATIN), "2: byte 0xe9 is not UTF-8 (Latin-1?)"),
        (f"{GOOD}%s{GOOD}".encode("utf-16"), "1: UTF-16 or UTF-32"),
        (f"[{GOOD}]".encode("utf-16-le"), "1: UTF-16 or UTF-32"),
        (f"{GOOD}%s{GOOD}".encode("utf-32"), "1: UTF-16 or UTF-32"),
        (GOOD.replace("q", "\ud83d").encode("utf-8", "surrogatepass"), "1: byte 0xed is not"),
        (f"{GOOD}%s{GOOD[:-9]}".encode(), "2: not JSON"),
        (f'{GOOD}%s{{"n": {"9" * 5000}}}'.encode(), "2: Exceeds the limit"),
        (b"\x1f\x8b\x08\0rest", "1: "),
        (("[" * 100_000).encode(), "1: not JSON (nested too deeply)"),
    ],
)
@pytest.mark.parametrize(("name", "between"), [("r.json", b","), ("r.jsonl", b"\n")])
def test_a_file_that_is_not_utf8_or_not_json_names_its_row(
    tmp_path: Path, content: bytes, message: str, name: str, between: bytes
) -> None:
    file = tmp_path / name
    if content.startswith(GOOD.encode() + LATIN):
        content = GOOD.encode() + between + LATIN
    content = content.replace(b"%s", between)
    file.write_bytes(b"[%s]" % content if name == "r.json" and content[:1] == b"{" else content)
    with pytest.raises(ValueError) as caught:
        list(read_records(file))
    place = "row" if name == "r.json" else "line"
    assert str(caught.value).startswith(f"{file}, {place} {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["r.json", "r.jsonl"])
@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        (
            '{"image": NaN, "id": "x", %s',
            "not JSON",
            "NaN stands in it (of 'image'); write null, or leave the key",
        ),
        ('{"extra": [-Infinity], "id": "x", %s', "not JSON", "-Infinity stands in it; write null"),
        ('{"id": "y", "id": "x", %s', "key twice", "'id' stands twice; leave one out"),
        ('{"a": {"b": 1, "b": 1}, "id": "x", %s', "key twice", "'b' stands twice"),
        ('{"note": "\\ud83d", "id": "x", %s', "half a character", "'\\ud83d' is half of"),
        ('{"\\ude00": 1, "id": "x", %s', "half a character", "'\\ude00' is half of"),
    ],
)
def test_a_row_that_is_not_what_it_seems_is_bad(
    tmp_path: Path, name: str, row: str, reason: str, detail: str
) -> None:
    file = tmp_path / name
    turns = '"conversations": [{"from": "human", "value": "\\ud83d\\ude00"}, '
    turns += '{"from": "gpt", "value": "a"}]}'
    rows = [row % turns, '{"id": "z", ' + turns]
    file.write_text("[" + ", ".join(rows) + "]" if name == "r.json" else "\n".join(rows))
    bad, good = read_records(file)
    assert isinstance(good, Conversation) and good.messages[0].text == "\U0001f600"
    assert isinstance(bad, BadRecordError)
    assert (bad.index, bad.id, bad.reason) == (0, "x", reason)
    assert bad.detail.startswith(detail)
    assert bad.place == f"{file}, {'row' if name == 'r.json' else 'line'} 1"


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    for name, text in (("r.json", f"[{GOOD}]"), ("r.jsonl", f"{GOOD}\r\n\ufeff{GOOD}\r\n")):
        (tmp_path / name).write_bytes(("\ufeff" + text).encode())
        for found in read_records(tmp_path / name):
            assert isinstance(found, Conversation) and found.messages[1].text == "caf\u00e9"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_a_list_is_read_alike_however_its_file_is_cut(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [12345, -0.5, True, None, '\u00e9\\"\U0001f600', {"k": [1, {"a": "]"}]}, [], {}, "", 7]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(values, ensure_ascii=False, indent=1), encoding="utf-8")
    monkeypatch.setattr(json_reading, "_BLOCK", size)
    assert [row.value for row in json_reading.read_list(file)] == values
    file.write_text(json.dumps(values), encoding="utf-8")
    assert [row.value for row in json_reading.read_list(file)] == values


def test_a_json_list_is_not_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    path.write_text(json.dumps([llava("q" * 1000, "a" * 1000)] * 3000))
    tracemalloc.start()
    assert sum(1 for _ in read_records(path)) == 3000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 6_000_000
    assert peak < 1_000_000


def test_real_files() -> None:
    folder = SHARED / "data" / "llava"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    bench = list(read_records(folder / "llava_instruct_style_90.json"))
    assert len(bench) == 90
    assert all(isinstance(found, Conversation) and len(found.images) == 1 for found in bench)
    assert len({found.images for found in bench if isinstance(found, Conversation)}) == 30
    demo = list(read_records(folder / "llamafactory_mllm_demo.json"))
    assert [len(found.images) for found in demo if isinstance(found, Conversation)] == [
        2,
        1,
        1,
        2,
        1,
        1,
    ]
    assert isinstance(demo[0], Conversation)
    assert demo[0].messages[2] == Message("user", "What are they doing?", 1)


def prompts(tmp_path: Path, *rows: Any) -> list[Conversation | BadRecordError]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_prompts(path))


@pytest.mark.parametrize(
    "row",
    [
        llava("What?\n<image>", "A cat.", image="a.jpg"),
        llava("What?", image="a.jpg"),
        {"id": "x", "image": "a.jpg", "question": "What?", "answer": "A cat."},
        {"id": "x", "images": ["a.jpg"], "messages": [{"role": "user", "content": "What?"}]},
    ],
)
def test_a_prompt_ends_with_the_user_and_has_its_image_in_front(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    (found,) = prompts(tmp_path, row)
    assert found == Conversation(0, "x", (Message("user", "What?", 1),), ("a.jpg",))


def test_earlier_turns_stay_and_the_image_goes_to_the_first(tmp_path: Path) -> None:
    turns = ("One?", "Two.", "<image>Three?", "Four.")
    system = {"from": "system", "value": "Be kind."}
    row = llava(*turns, image="a.jpg")
    row["conversations"].insert(0, system)
    (found,) = prompts(tmp_path, row)
    assert isinstance(found, Conversation)
    assert [(message.role, message.text, message.images) for message in found.messages] == [
        ("system", "Be kind.", 0),
        ("user", "One?", 1),
        ("assistant", "Two.", 0),
        ("user", "Three?", 0),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "<image> What?"}, "placeholders"),
        ({"question": " "}, "empty turn"),
        ({"question": 7}, "unknown layout"),
        ({"messages": []}, "turn order"),
        ({"messages": [{"role": "assistant", "content": "Hello."}]}, "turn order"),
        ({"question": "What?", "image": 7}, "malformed images"),
        (7, "unknown layout"),
    ],
)
def test_what_asks_nothing_is_no_prompt(tmp_path: Path, row: Any, reason: str) -> None:
    (found,) = prompts(tmp_path, row)
    assert isinstance(found, BadRecordError) and found.reason == reason
