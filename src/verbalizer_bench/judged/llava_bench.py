"""LLaVA-Bench (Liu et al. 2023): a judge rates an answer beside GPT-4's, which saw a caption.

The score is relative: 100 * the mean rating of the answers / the mean rating of the references, by
category and of all. Two ratings that cannot be read are asked for again and then left out; LLaVA's
own script takes them for -1.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.io.json_reading import read_json
from verbalizer_bench.judged.judge import Verdict, Wanted
from verbalizer_bench.judged.questions import (
    Answer,
    Question,
    check_unique,
    rows_of,
)
from verbalizer_bench.results.means import Scores, ratio_of

VERDICT_TOKENS = 1024
SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."
_PAIR = re.compile(r"(\d+(?:\.\d+)?)[\s,]+(\d+(?:\.\d+)?)")


class LlavaBench(NamedTuple):
    """The benchmark's files.

    Attributes:
        questions: The questions.
        captions: What the judge sees of the image, by the question's id.
        references: GPT-4's answers by the question's id.
        rules: What the judge is told at the end, and how it calls who answers, by category.
    """

    questions: tuple[Question, ...]
    captions: Mapping[str, str]
    references: Mapping[str, str]
    rules: Mapping[str, tuple[str, str]]
    name: str = "llava-bench"

    @property
    def prompts(self) -> Any:
        """Return all that the judge is told beside texts and captions."""
        return [SYSTEM, self.rules]

    def wanted(self, answers: Mapping[str, Answer]) -> list[Wanted]:
        """Return what the judge is asked: to rate the reference and the answer."""
        return [
            Wanted(one.id, _messages(self, one, answers[one.id].turns[0]), ratings)
            for one in self.questions
        ]

    def scores(self, answers: Mapping[str, Answer], verdicts: Sequence[Verdict]) -> Scores:
        """Return relative scores in percent: of all, and by category."""
        values = {one.id: one.value for one in verdicts if one.value is not None}
        groups: dict[str, list[tuple[float, float]]] = {}
        for question in self.questions:
            if question.id in values:
                reference, answer = values[question.id]
                groups.setdefault(question.category, []).append((100 * answer, reference))
        by_category = {name: ratio_of({name: rows}) for name, rows in groups.items()}
        return Scores("relative score in %", ratio_of(groups), {"categories": by_category})


def read_llava_bench(folder: Path, references: Path, rules: Path) -> LlavaBench:
    """Read `questions.jsonl`, `context.jsonl` and `images` of a folder, references and rules.

    Args:
        folder: LLaVA-Bench (In-the-Wild).
        references: GPT-4's answers, a row with `text` for each question, in their order or with
            `question_id`.
        rules: LLaVA's `llava/eval/table/rule.json`.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is not as LLaVA has it.
    """
    file = folder / "questions.jsonl"
    wanted = {"image": str, "text": str, "category": str}
    rows = [row for _, row in rows_of(file, wanted)]
    questions = [
        Question(
            _id(row, n), row["category"], (row["text"],), 0.0, folder / "images" / row["image"]
        )
        for n, row in enumerate(rows)
    ]
    check_unique(questions, file)
    context = rows_of(folder / "context.jsonl", {"image": str, "caption": str})
    by_image = {row["image"]: row["caption"] for _, row in context}
    answered = {
        _id(row, n): row["text"] for n, (_, row) in enumerate(rows_of(references, {"text": str}))
    }
    for question in questions:
        image = question.image.name if question.image else ""
        if image not in by_image:
            raise ValueError(
                f"{folder / 'context.jsonl'}: no caption of {image}; give the whole file"
            )
        if question.id not in answered:
            raise ValueError(f"{references}: no answer to question {question.id}; give all answers")
    captions = {one.id: by_image[one.image.name] for one in questions if one.image}
    told = _rules(rules, {question.category for question in questions})
    return LlavaBench(tuple(questions), captions, answered, told)


def _id(row: Mapping[str, Any], number: int) -> str:
    return str(row.get("question_id", number))


def _rules(file: Path, categories: set[str]) -> dict[str, tuple[str, str]]:
    table, rules = read_json(file), {}
    for category in sorted(categories):
        rule = table.get(f"llava_bench_{category}") if isinstance(table, dict) else None
        if not isinstance(rule, dict) or not {"prompt", "role"} <= set(rule):
            raise ValueError(f"{file}: no rule llava_bench_{category}; give LLaVA's rule.json")
        rules[category] = (str(rule["prompt"]), str(rule["role"]))
    return rules


def ratings(text: str) -> tuple[float, float] | None:
    """Return the two ratings in a judge's first line; None if it holds none, or not in 1-10."""
    match = _PAIR.fullmatch(text.strip().partition("\n")[0].strip())
    pair = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
    return pair if all(1 <= value <= 10 for value in pair) else None


def _messages(bench: LlavaBench, question: Question, answer: str) -> tuple[dict[str, str], ...]:
    told, role = bench.rules[question.category]
    parts = [f"[Context]\n{bench.captions[question.id]}", f"[Question]\n{question.turns[0]}"]
    for number, text in enumerate((bench.references[question.id], answer), 1):
        parts += [f"[{role} {number}]\n{text}", f"[End of {role} {number}]"]
    parts.append(f"[System]\n{told}\n\n")
    asked = {"role": "user", "content": "\n\n".join(parts)}
    return ({"role": "system", "content": SYSTEM}, asked)
