"""Read published preference pairs: RLAIF-V's, LLaVA-RLHF's, LLaMA-Factory's and TRL's layouts.

rlaif_v       question, chosen, rejected; `image` with bytes and path (openbmb/RLAIF-V-Dataset,
Parquet), or `image` or `image_path` as a name; `text` with the three as JSON in
RLHF-V's
llava_rlhf    conversations, output_1 and output_2, preference 1 or 2, image
(zhiqings/LLaVA-Human-Preference-10K)
llama_factory conversations, chosen and rejected as turns, images
trl           prompt, chosen and rejected, as texts or as messages; without a prompt, or with one
that is repeated (HuggingFaceH4/ultrafeedback_binarized), chosen and rejected are whole
conversations that differ in the last answer; image or images by name
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.conversations import BadRecordError, Conversation, prompt_of
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.json_reading import read_list

# Rows of a Parquet file that are in memory at once: each has an image.
_ROWS = 64
_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp"}


class PublishedPair(NamedTuple):
    """A pair: what is asked, the answers, and the image if it is in the file itself."""

    prompt: Conversation
    chosen: str
    rejected: str
    image: bytes | None = None


def rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield place and value of each row of a file, or of a folder of Parquet files.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none of these, or cannot be read.
    """
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
        if not files:
            raise FileNotFoundError(f"{path}: no .parquet in it")
        for file in files:
            yield from rows(file)
    elif path.suffix == ".parquet":
        yield from _parquet(path)
    elif path.suffix == ".json":
        for place, value, problem in read_list(path):
            if problem:
                raise ValueError(f"{path}, {place}: {problem[0]}: {problem[1]}")
            yield f"{path}, {place}", value
    elif path.suffix == ".jsonl":
        for place, value in jsonl.read(path):
            yield f"{path}, {place}", value
    else:
        raise ValueError(f"{path}: pairs are read from .json, .jsonl or .parquet")


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except pyarrow.ArrowException as error:
        raise _no_parquet(path, error) from error


def count(path: Path) -> int:
    """Return how many rows there are.

    Raises:
        As `rows`.
    """
    import pyarrow
    import pyarrow.parquet

    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if files and all(file.suffix == ".parquet" for file in files):
        try:
            return sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)
        except pyarrow.ArrowException as error:
            raise _no_parquet(path, error) from error
    return sum(1 for _ in rows(path))


def _no_parquet(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})")


def parse(layout: str, index: int, row: Any) -> PublishedPair:
    """Return the pair in a row.

    Raises:
        BadRecordError: It is none of the layout.
    """
    if not isinstance(row, Mapping):
        raise BadRecordError(index, "", "unknown layout", f"a {type(row).__name__}, no object")
    return _PARSERS[layout](index, row)


def _rlaif_v(index: int, row: Mapping[str, Any]) -> PublishedPair:
    row = dict(row)
    if isinstance(row.get("text"), str) and "chosen" not in row:
        try:
            row |= json.loads(row["text"])
        except (ValueError, TypeError) as error:
            raise _bad(index, row, "unknown layout", f"text is no JSON object: {error}") from error
    image, name = row.get("image"), row.get("image_path")
    data = image.get("bytes") if isinstance(image, Mapping) else None
    if isinstance(image, str):
        name = image
    elif isinstance(image, Mapping):
        name = _name_of(data) if data else image.get("path") or name
    asked = {"id": str(row.get("idx", "")), "question": row.get("question")}
    prompt = prompt_of(index, {**asked, **({"image": name} if name else {})})
    chosen, rejected = (_text(index, row, key, row.get(key)) for key in ("chosen", "rejected"))
    return PublishedPair(prompt, chosen, rejected, data)


def _name_of(data: bytes) -> str:
    """Return the name of an image that is known by its content alone."""
    suffix = next((one for start, one in _SUFFIXES.items() if data.startswith(start)), ".jpg")
    return hashlib.sha256(data).hexdigest()[:32] + suffix


def _llava_rlhf(index: int, row: Mapping[str, Any]) -> PublishedPair:
    turns = row.get("conversations")
    # Some rows have the list of turns within a list.
    if isinstance(turns, list) and len(turns) == 1 and isinstance(turns[0], list):
        turns = turns[0]
    prompt = prompt_of(index, {**_only(row, "id", "image"), "conversations": turns})
    answers = [_turn(index, row, key, "value") for key in ("output_1", "output_2")]
    preference = row.get("preference")
    if type(preference) is not int or preference not in (1, 2):
        detail = f"preference={preference!r}: 1 or 2 is expected"
        raise _bad(index, row, "no preference", detail)
    chosen, rejected = answers if preference == 1 else answers[::-1]
    return PublishedPair(prompt, chosen, rejected)


def _llama_factory(index: int, row: Mapping[str, Any]) -> PublishedPair:
    asked = _only(row, "id", "image", "images", "conversations", "messages")
    system, turns = row.get("system"), asked.get("conversations")
    if isinstance(system, str) and system and isinstance(turns, list):
        asked["conversations"] = [{"from": "system", "value": system}, *turns]
    text = "value" if "conversations" in asked else "content"
    prompt = prompt_of(index, asked)
    chosen, rejected = (_turn(index, row, key, text) for key in ("chosen", "rejected"))
    return PublishedPair(prompt, chosen, rejected)


def _trl(index: int, row: Mapping[str, Any]) -> PublishedPair:
    prompt, answers = row.get("prompt"), [row.get(key) for key in ("chosen", "rejected")]
    before = [turns[:-1] if isinstance(turns, list) else [] for turns in answers]
    if before[0] != before[1]:
        detail = "chosen and rejected differ before their last turn; they answer one prompt"
        raise _bad(index, row, "two prompts", detail)
    turns = before[0] or prompt
    if isinstance(turns, str):
        turns = [{"role": "user", "content": turns}]
    if before[0] and prompt is not None and not _asks(before[0], prompt):
        detail = f"prompt={prompt!r}"[:80] + ": no turn of chosen, which has turns of its own"
        raise _bad(index, row, "two prompts", detail)
    if not turns:
        detail = "it has no prompt, and chosen is no conversation; give it the key prompt"
        raise _bad(index, row, "no prompt", detail)
    asked = prompt_of(index, {**_only(row, "id", "image", "images"), "messages": turns})
    return PublishedPair(asked, _last(index, row, "chosen"), _last(index, row, "rejected"))


def _asks(turns: Sequence[Any], prompt: Any) -> bool:
    """Return whether a prompt beside a conversation is the conversation's, or a turn of it."""
    return prompt == turns or any(
        isinstance(turn, Mapping) and turn.get("content") == prompt for turn in turns
    )


def _last(index: int, row: Mapping[str, Any], key: str) -> str:
    """Return an answer that is a text, or the last of several messages."""
    answer = row.get(key)
    if not isinstance(answer, list):
        return _text(index, row, key, answer)
    turn = answer[-1] if answer else None
    if not isinstance(turn, Mapping) or turn.get("role") != "assistant":
        detail = f"the last turn of {key} is no assistant's"
        raise _bad(index, row, "malformed answer", detail)
    return _text(index, row, key, turn.get("content"))


_PARSERS: dict[str, Callable[[int, Mapping[str, Any]], PublishedPair]] = {
    "rlaif_v": _rlaif_v,
    "llava_rlhf": _llava_rlhf,
    "llama_factory": _llama_factory,
    "trl": _trl,
}


def _only(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names if row.get(name) is not None}


def _turn(index: int, row: Mapping[str, Any], key: str, text: str) -> str:
    turn = row.get(key)
    return _text(index, row, key, turn.get(text) if isinstance(turn, Mapping) else turn)


def _text(index: int, row: Mapping[str, Any], key: str, value: Any) -> str:
    if not isinstance(value, str):
        said = f"{key}={value!r}" if value is not None else f"it has no {key}"
        raise _bad(index, row, "malformed answer", f"{said[:80]}; a text is expected")
    return value.strip()


def _bad(index: int, row: Mapping[str, Any], reason: str, detail: str) -> BadRecordError:
    return BadRecordError(index, str(row.get("id", row.get("idx", ""))), reason, detail)


def unpack(data: bytes, path: Path) -> None:
    """Write an image that is in a file of pairs, unless it is there."""
    if not path.is_file() or path.read_bytes() != data:
        write_whole(path, data)
