"""AlpacaEval 1 (Li et al. 2023): which of two answers a judge prefers, against fixed ones.

As in alpaca_eval's `alpaca_eval_gpt4`: greedy answers; both are shown in an order that a coin
decides, which here is the instruction's hash; equal answers are a tie that nobody is asked about.
The win rate is that of all verdicts, ties counted half. It rises with the length of the answers,
which therefore stands beside it.
"""

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.judged.judge import Verdict, Wanted
from verbalizer_bench.judged.questions import Answer, Question, check_unique, fill, rows_of
from verbalizer_bench.results.means import Mean, mean_of

VERDICT_TOKENS = 100
_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)
_PLACES = ("{instruction}", "{output_1}", "{output_2}")
_MALFORMED = (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError)
_PREFERENCES = {(1, 2): 1.0, (2, 1): 0.0, (1, 1): 0.5}


class WinRate(NamedTuple):
    """How often the answers are preferred to the references.

    Attributes:
        rate: In percent, ties counted half.
        wins: Preferred answers.
        ties: Pairs of which neither is preferred.
        losses: Preferred references.
        characters: Mean length of the answers, and of the references.
    """

    rate: Mean
    wins: int
    ties: int
    losses: int
    characters: tuple[float, float]

    def record(self) -> dict[str, Any]:
        """Return what a result has of it."""
        return {
            "score": self.rate.record(),
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
            "reference_mean_characters": round(self.characters[1], 1),
        }

    def lines(self) -> list[str]:
        """Return what is printed of it."""
        ours, theirs = self.characters
        counts = f"{self.wins} won, {self.ties} tied, {self.losses} lost"
        return [
            f"win rate in %: {self.rate}: {counts}",
            f"mean length: {ours:,.0f} characters, the references' {theirs:,.0f}",
        ]


class AlpacaEval(NamedTuple):
    """The benchmark's files.

    Attributes:
        questions: The instructions.
        references: What the answers are held against, by the question's id.
        prompts: The judge's turns: role and template each.
    """

    questions: tuple[Question, ...]
    references: Mapping[str, str]
    prompts: tuple[tuple[str, str], ...]
    name: str = "alpacaeval"

    def wanted(self, answers: Mapping[str, Answer]) -> list[Wanted]:
        """Return what the judge is asked: about each pair of answers that are not the same."""
        wanted = []
        for question in self.questions:
            pair = [answers[question.id].turns[0], self.references[question.id]]
            if pair[0] == pair[1]:
                continue
            if switched := is_switched(question.turns[0]):
                pair.reverse()
            values = {"instruction": question.turns[0], "output_1": pair[0], "output_2": pair[1]}
            messages = tuple({"role": r, "content": fill(text, values)} for r, text in self.prompts)
            wanted.append(Wanted(question.id, messages, partial(_switched_preference, switched)))
        return wanted

    def scores(self, answers: Mapping[str, Answer], verdicts: Sequence[Verdict]) -> WinRate:
        """Return the win rate of the verdicts that are there, and of the ties without one."""
        judged = {verdict.id: verdict.value for verdict in verdicts}
        values = [judged.get(question.id, 0.5) for question in self.questions]
        found = [value for value in values if value is not None]
        counts = Counter(found)
        texts = [answers[question.id].turns[0] for question in self.questions]
        references = [self.references[question.id] for question in self.questions]
        lengths = [sum(map(len, side)) / len(texts) for side in (texts, references)]
        rate = mean_of({"all": [[100 * value] for value in found]})
        return WinRate(rate, counts[1.0], counts[0.5], counts[0.0], (lengths[0], lengths[1]))


def read_alpacaeval(instructions: Path, references: Path, prompt: Path) -> AlpacaEval:
    """Read instructions, reference outputs (`instruction`, `output` each), and the judge's prompt.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is not as alpaca_eval has it, or an instruction has no reference.
    """
    rows = [row for _, row in rows_of(instructions, {"instruction": str})]
    questions = [Question(str(n), "all", (row["instruction"],)) for n, row in enumerate(rows)]
    check_unique(questions, instructions)
    outputs = {
        row["instruction"]: row["output"]
        for _, row in rows_of(references, {"instruction": str, "output": str})
    }
    missing = [question for question in questions if question.turns[0] not in outputs]
    if missing:
        raise ValueError(
            f"{references}: no output for {len(missing)} of {len(questions)} instructions, such as "
            f"{missing[0].turns[0][:60]!r}; give the reference outputs to these instructions"
        )
    found = {question.id: outputs[question.turns[0]] for question in questions}
    return AlpacaEval(tuple(questions), found, _prompt(prompt))


def _prompt(file: Path) -> tuple[tuple[str, str], ...]:
    text = file.read_text(encoding="utf-8")
    turns = tuple((role, said.rstrip("\n")) for role, said in _TURN.findall(text))
    if gone := [place for place in _PLACES if place not in text]:
        raise ValueError(
            f"{file}: {gone[0]} is not in it; give a judge's prompt of alpaca_eval, such as its "
            "evaluators_configs/alpaca_eval_gpt4/alpaca_eval.txt"
        )
    return turns or (("user", text),)


def preference(text: str) -> float | None:
    """Return how far a judge prefers model_1: 1, 0, or 0.5 for equal ranks; None if not said."""
    match = re.search(r"\[.*\]", text, re.DOTALL)
    try:
        ranks = {
            row["model"]: int(row["rank"]) for row in ast.literal_eval(match[0] if match else "")
        }
    except _MALFORMED:
        return None
    return _PREFERENCES.get((ranks.get("model_1", 0), ranks.get("model_2", 0)))


def _switched_preference(switched: bool, text: str) -> float | None:
    value = preference(text)
    return value if value is None or not switched else 1 - value


def is_switched(instruction: str) -> bool:
    """Return whether the judge sees the reference first."""
    return bool(hashlib.sha256(instruction.encode()).digest()[0] % 2)
