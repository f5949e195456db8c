"""The second measure: do answers about unseen scenes have the format that was asked for?

The prompts are those of a world's format-oriented records. An answer is *exact* if it is the
record's but for white space (the miniature's tokenizer does not keep how a quotation mark is
spaced), *follows* if IFEval's verifier (Zhou et al. 2023) accepts it, where it has one for the
format, and is *right* if it has the short answer in it, in whatever format.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from verbalizer_bench.experiments.asking import Question, answers

MAX_NEW_TOKENS = 40


class Answer(NamedTuple):
    """An answer and what was found of it.

    Attributes:
        format: Its format's name.
        answer: The text.
        exact: It is the record's answer, white space left out.
        follows: IFEval's verifier accepts it; None where IFEval has none.
        right: The short answer is in it.
    """

    format: str
    answer: str
    exact: bool
    follows: bool | None
    right: bool


def ask(checkpoint: Path, adapter: str, records: Path, images: Path) -> list[Answer]:
    """Ask a checkpoint a file's records, and judge its answers.

    Args:
        checkpoint: A checkpoint folder.
        adapter: `verbalizer-llm` or `verbalizer-lvlm`.
        records: Format-oriented records of `world`, of captions or of images.
        images: The folder that their image names are relative to.
    """
    rows: list[dict[str, Any]] = json.loads(records.read_text(encoding="utf-8"))
    texts = answered(checkpoint, adapter, rows, images)
    return [judge(row, text) for row, text in zip(rows, texts, strict=True)]


def answered(
    checkpoint: Path, adapter: str, rows: Sequence[dict[str, Any]], images: Path
) -> list[str]:
    """Return a checkpoint's answers to the first questions of records, with 10 beams.

    Args:
        checkpoint: A checkpoint folder.
        adapter: `verbalizer-llm` or `verbalizer-lvlm`.
        rows: Records of `world`.
        images: The folder that their image names are relative to.
    """
    questions = []
    for row in rows:
        image = None
        if "image" in row:
            with Image.open(images / row["image"]) as opened:
                image = opened.convert("RGB")
        questions.append(Question(row["conversations"][0]["value"], image))
    settings = {"num_beams": 10, "max_gen_toks": MAX_NEW_TOKENS}
    return answers(checkpoint, adapter, questions, settings)


def judge(row: dict[str, Any], answer: str) -> Answer:
    """Judge an answer to a format-oriented record."""
    from verbalizer_bench.builders.filters.verifiers import verify

    prompt, wanted = (turn["value"] for turn in row["conversations"])
    answer, check = answer.strip(), row["check"]
    follows = verify(check["instruction_id"], check["kwargs"], prompt, answer) if check else None
    right = row["short"].lower() in answer.lower()
    exact = "".join(answer.split()) == "".join(wanted.split())
    return Answer(row["format"], answer, exact, follows, right)
