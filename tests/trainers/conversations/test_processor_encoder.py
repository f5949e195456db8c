"""Records by a checkpoint's own processor: where they are cut, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.helpers.family_training import RECORDS, as_row, write_images
from tests.helpers.own_processors import idefics3
from verbalizer_bench.io.conversations import BadRecordError, conversation
from verbalizer_bench.io.images import image_size
from verbalizer_bench.trainers.conversations.processor_encoder import ProcessorEncoder
from verbalizer_bench.trainers.conversations.processor_texts import ProcessorTexts
from verbalizer_bench.trainers.data.processor_collator import ProcessorCollator


@pytest.fixture(scope="module")
def texts() -> ProcessorTexts:
    model, processor = idefics3()
    processor.tokenizer.chat_template = processor.chat_template
    return ProcessorTexts(processor, [model.config.image_token_id])


def encoder(texts: ProcessorTexts, images: Path, max_length: int = 4096) -> ProcessorEncoder:
    return ProcessorEncoder(texts, "tokenizer", lambda name: image_size(images / name), max_length)


def record(row: dict[str, Any]) -> Any:
    return conversation(7, row)[0]


def as_columns(encoded: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "record": 7,
        "input_ids": encoded.input_ids,
        "assistant_mask": encoded.assistant_mask,
        "text": encoded.text,
        "images": list(names),
    }


def test_a_record_is_cut_behind_its_images_or_refused(
    texts: ProcessorTexts, tmp_path: Path
) -> None:
    images, one = write_images(tmp_path), record(as_row(RECORDS[3]))
    ids, mask = encoder(texts, images).whole(one)
    image = texts.image_token_ids[0]
    # Behind the last image token there is one more that the processor writes.
    last = len(ids) - 1 - ids[::-1].index(image) + 2
    assert encoder(texts, images, len(ids)).encode(one).input_ids == ids
    kept = encoder(texts, images, len(ids) - 2).encode(one)
    assert (kept.input_ids, kept.assistant_mask) == (ids[:-2], mask[:-2])
    assert encoder(texts, images, last).encode(one).input_ids == ids[:last]
    with pytest.raises(BadRecordError, match=f"image cut: {len(ids)} tokens, an image ends after"):
        encoder(texts, images, last - 1).encode(one)


def test_a_batch_with_a_record_that_is_cut(texts: ProcessorTexts, tmp_path: Path) -> None:
    images = write_images(tmp_path)
    collate, rows = ProcessorCollator(texts, images), []
    for turns in (RECORDS[3], RECORDS[1]):
        one = record(as_row(turns))
        length = encoder(texts, images).full_length(one) - 2
        rows.append(as_columns(encoder(texts, images, length).encode(one), one.images))
    batch = collate(rows)
    longest = max(len(row["input_ids"]) for row in rows)
    assert batch["input_ids"].shape == (2, longest) == batch["labels"].shape
    for number, row in enumerate(rows):
        ids, length = row["input_ids"], len(row["input_ids"])
        assert batch["input_ids"][number, :length].tolist() == ids
        assert batch["attention_mask"][number].tolist() == [1] * length + [0] * (longest - length)
        trained = [i for i, on in zip(ids, row["assistant_mask"], strict=True) if on]
        labels = batch["labels"][number]
        assert labels[labels != -100].tolist() == trained and bool((labels[length:] == -100).all())


def test_an_image_of_another_size_than_was_encoded_is_refused(
    texts: ProcessorTexts, tmp_path: Path
) -> None:
    images, one = write_images(tmp_path), record(as_row(RECORDS[0]))
    row = as_columns(encoder(texts, images).encode(one), one.images)
    collate = ProcessorCollator(texts, images)
    Image.open(images / "a.png").convert("RGBA").save(images / "a.png")
    plain = collate([row])
    Image.open(images / "a.png").convert("P").save(images / "a.png")
    assert torch.equal(collate([row])["input_ids"], plain["input_ids"])
    Image.new("RGB", (20, 200)).save(images / "a.png")
    with pytest.raises(ValueError, match=r"record 8: Idefics3Processor makes .* delete the cache"):
        collate([row])


@pytest.mark.parametrize(
    ("question", "names", "message"),
    [
        ("<row_1_col_1> What?", [], "special token: a user turn holds '<row_1_col_1>'"),
        ("<image>What?", ["none.png"], r"missing image: there is no .*none\.png"),
        ("<image>What?", ["text.png"], "broken image"),
    ],
)
def test_records_that_are_refused(
    question: str, names: list[str], message: str, texts: ProcessorTexts, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no image")
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "a"}]
    with pytest.raises(BadRecordError, match=message):
        encoder(texts, tmp_path).encode(record({"messages": turns, "images": names}))
