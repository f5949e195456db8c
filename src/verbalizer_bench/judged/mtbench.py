"""MT-Bench (Zheng et al. 2023): 80 questions of two turns, rated from 1 to 10 by a judge.

As in FastChat: answers are sampled at 0.7 (writing, roleplay) or 0.1 (STEM, humanities), or greedy;
math, reasoning and coding are judged beside a reference answer; the score is the mean over both
turns. Other than there, a rating outside 1-10 or in no brackets is asked for again, and left out
only as far as `judge.check_complete` allows.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from verbalizer_bench.judged.judge import Verdict, Wanted
from verbalizer_bench.judged.questions import Answer, Question, check_unique, fill, rows_of
from verbalizer_bench.results.means import Scores, mean_of

VERDICT_TOKENS = 2048
_TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
_WITH_REFERENCE = ("math", "reasoning", "coding")
_RATINGS = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))
_PROMPTS = ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn")


class MTBench(NamedTuple):
    """The benchmark's files.

    Attributes:
        questions: The questions.
        references: The judge's reference answers by question, turn by turn.
        prompts: The judge's system prompt and template by name.
    """

    questions: tuple[Question, ...]
    references: Mapping[str, Sequence[str]]
    prompts: Mapping[str, tuple[str, str]]
    name: str = "mtbench"

    def wanted(self, answers: Mapping[str, Answer]) -> list[Wanted]:
        """Return what the judge is asked: about each answer to each question."""
        return [
            Wanted(f"{one.id}-{turn}", _messages(self, one, answers[one.id], turn), rating)
            for one in self.questions
            for turn in (1, 2)
        ]

    def scores(self, answers: Mapping[str, Answer], verdicts: Sequence[Verdict]) -> Scores:
        """Return the mean ratings: over both turns, by turn, and by category."""
        values = {verdict.id: verdict.value for verdict in verdicts if verdict.value is not None}

        def grouped(turns: Sequence[int]) -> dict[str, list[list[float]]]:
            groups: dict[str, list[list[float]]] = {}
            for question in self.questions:
                names = [f"{question.id}-{turn}" for turn in turns]
                found = [values[name] for name in names if name in values]
                groups.setdefault(question.category, []).append(found)
            return groups

        both = grouped((1, 2))
        by_turn = {
            name: mean_of(grouped((turn,))) for turn, name in enumerate(("first", "second"), 1)
        }
        by_category = {name: mean_of({name: rows}) for name, rows in both.items()}
        groups = {"turns": by_turn, "categories": by_category}
        return Scores("both turns", mean_of(both), groups)


def read_mtbench(folder: Path) -> MTBench:
    """Read `question.jsonl`, `judge_prompts.jsonl` and `reference_answer/*.jsonl`.

    Raises:
        FileNotFoundError: One of them is not there.
        ValueError: One of them is not as FastChat has it, or a reference is missing.
    """
    file = folder / "question.jsonl"
    questions = []
    for place, row in rows_of(file, {"question_id": int, "category": str, "turns": list}):
        if len(row["turns"]) != 2 or not all(isinstance(turn, str) for turn in row["turns"]):
            raise ValueError(f"{place}: turns={row['turns']!r}: two texts are expected")
        temperature = _TEMPERATURES.get(row["category"], 0.0)
        name = str(row["question_id"])
        questions.append(Question(name, row["category"], tuple(row["turns"]), temperature))
    check_unique(questions, file)
    references = _references(folder / "reference_answer")
    for question in questions:
        if question.category in _WITH_REFERENCE and len(references.get(question.id, ())) != 2:
            raise ValueError(
                f"{folder / 'reference_answer'}: no reference answers to question {question.id} "
                f"({question.category}), which is judged beside them; give FastChat's whole file"
            )
    return MTBench(tuple(questions), references, _prompts(folder / "judge_prompts.jsonl"))


def _references(folder: Path) -> dict[str, list[str]]:
    files = sorted(folder.glob("*.jsonl"))
    if len(files) != 1:
        raise FileNotFoundError(
            f"{folder}: {len(files)} files of reference answers; give one, such as gpt-4.jsonl"
        )
    rows = rows_of(files[0], {"question_id": int, "choices": list})
    return {str(row["question_id"]): row["choices"][0]["turns"] for _, row in rows}


def _prompts(file: Path) -> dict[str, tuple[str, str]]:
    wanted = {"name": str, "system_prompt": str, "prompt_template": str}
    prompts = {
        row["name"]: (row["system_prompt"], row["prompt_template"])
        for _, row in rows_of(file, wanted)
        if row["name"] in _PROMPTS
    }
    if missing := sorted(set(_PROMPTS) - set(prompts)):
        raise ValueError(f"{file}: no prompt {missing[0]}; give FastChat's judge_prompts.jsonl")
    return prompts


def rating(text: str) -> float | None:
    """Return the first rating in a judge's text, `[[7]]` or else `[7]`; None if not in 1-10."""
    match = next(filter(None, (pattern.search(text) for pattern in _RATINGS)), None)
    value = float(match[1]) if match else 0.0
    return value if 1 <= value <= 10 else None


def _messages(
    bench: MTBench, question: Question, answer: Answer, turn: int
) -> tuple[dict[str, str], ...]:
    kind = "single-math-v1" if question.category in _WITH_REFERENCE else "single-v1"
    system, template = bench.prompts[kind if turn == 1 else f"{kind}-multi-turn"]
    values = {"question": question.turns[0], "answer": answer.turns[0]}
    for number in (1, 2):
        values[f"question_{number}"] = question.turns[number - 1]
        values[f"answer_{number}"] = answer.turns[number - 1]
        if references := bench.references.get(question.id):
            values[f"ref_answer_{number}"] = references[number - 1]
    asked = {"role": "user", "content": fill(template, values)}
    return ({"role": "system", "content": system}, asked)
