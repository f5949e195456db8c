"""Items: question and answer of each row, and answers that obey their instruction."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from verbalizer_bench.builders.filters import screening, wording
from verbalizer_bench.builders.filters.verifiers import verify
from verbalizer_bench.builders.pipeline.context import Workshop
from verbalizer_bench.builders.pipeline.generation import (
    Problem,
    Question,
    set_aside,
    with_attempts,
)
from verbalizer_bench.builders.pipeline.sample import Row, Turn


def schema(*names: str) -> dict[str, Any]:
    """Return the schema of an object of texts."""
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": list(names),
        "additionalProperties": False,
    }


class Items:
    """The stages that ask for questions and answers, and check them."""

    def __init__(self, shop: Workshop) -> None:
        """Take who is asked, and how."""
        self.shop = shop

    async def make(self, rows: list[Row]) -> list[Row]:
        """Return the rows with question and answer."""
        done = await self.shop.each("items", units(rows), self._unit, list)
        return screening.fallen([row for unit in done for row in unit])

    async def check(self, rows: list[Row]) -> list[Row]:
        """Return the rows with answers that were checked."""
        checked = await self.shop.each("check", rows, self._checked, lambda row: [row])
        return await screening.screen(checked, self.shop.recipe)

    async def _unit(self, unit: tuple[Row, ...]) -> tuple[Row, ...]:
        """Make a row; or two, of which the second has the question of the first."""
        first = await (self._format(unit[0]) if unit[0].instruction else self._plain(unit[0]))
        if len(unit) == 1:
            return (first,)
        if not first.turns:
            return first, unit[1]
        return first, await self._answer(unit[1], first.turns[0].question)

    async def _format(self, row: Row) -> Row:
        if row.set_aside:
            return row
        question = Question(
            "item", self._messages(row), schema("question", "answer"), _item_problem
        )
        found = await self.shop.interview.ask(question)
        row = with_attempts(row, found)
        if found.value is None:
            return set_aside(row, "items", found)
        turn = Turn(found.value["question"], found.value["answer"])
        return dataclasses.replace(row, turns=(turn,))

    async def _plain(self, row: Row) -> Row:
        if row.set_aside:
            return row
        messages = self.shop.prompts.messages("question", {"caption": str(row.caption)})
        found = await self.shop.interview.ask(
            Question("question", messages, schema("question"), _item_problem)
        )
        row = with_attempts(row, found)
        if found.value is None:
            return set_aside(row, "items", found)
        return await self._answer(row, found.value["question"])

    async def _answer(self, row: Row, question: str) -> Row:
        if row.set_aside:
            return row
        row = dataclasses.replace(row, turns=(Turn(question, ""),))
        found = await self.shop.interview.ask(
            Question(
                "answer",
                self._messages(row),
                None,
                lambda value: wording.placeholder(value["text"]),
            )
        )
        row = with_attempts(row, found)
        if found.value is None:
            return set_aside(row, "items", found)
        return dataclasses.replace(row, turns=(Turn(question, found.value["text"]),))

    def _messages(self, row: Row) -> tuple[Mapping[str, Any], ...]:
        values = {"caption": str(row.caption)}
        if row.instruction:
            values["instruction"] = row.instruction.text
            return self.shop.prompts.messages("item", values)
        values["question"] = row.turns[0].question
        return self.shop.prompts.messages("answer", values)

    async def _checked(self, row: Row) -> Row:
        """Return the row with an answer that obeys, after as many attempts as there may be."""
        if row.set_aside:
            return row
        turn = row.turns[0]
        verified = True if row.instruction else None
        problem = answer_problem(row, turn.answer)
        if problem is None:
            return dataclasses.replace(row, verified=verified)
        row = _with_problem(row, problem)
        found = await self.shop.interview.ask(self._again(row, problem))
        row = with_attempts(row, found)
        if found.value is None:
            return set_aside(row, "check", found)
        answer = found.value["answer" if row.instruction else "text"]
        return dataclasses.replace(row, turns=(Turn(turn.question, answer),), verified=verified)

    def _again(self, row: Row, problem: Problem) -> Question:
        """Return the conversation in which the failure of the answer so far is named."""
        turn, role = row.turns[0], "item" if row.instruction else "answer"
        said = json.dumps(turn._asdict(), ensure_ascii=False) if row.instruction else turn.answer
        return Question(
            role,
            self.shop.interview.follow_up(self._messages(row), said, problem),
            schema("answer") if row.instruction else None,
            lambda value: answer_problem(row, value["answer" if row.instruction else "text"]),
            first=sum(attempt.role == role for attempt in row.attempts),
            so_far=problem,
        )


def units(rows: Sequence[Row]) -> list[tuple[Row, ...]]:
    """Return the rows one by one, and pairs together: the format's, then the plain one."""
    by_id = {row.id: row for row in rows}
    return [
        (row, by_id[row.pair]) if row.pair else (row,)
        for row in rows
        if not (row.pair and row.arm == "plain")
    ]


def answer_problem(row: Row, answer: str) -> Problem | None:
    """Return what is wrong with an answer to a row's question."""
    if problem := wording.empty(answer, "the answer") or wording.placeholder(answer):
        return problem
    asked = row.instruction
    if asked and not verify(asked.type, asked.arguments, row.turns[0].question, answer):
        return Problem("format", asked.text)
    return wording.mention(answer)


def _item_problem(value: Mapping[str, Any]) -> Problem | None:
    """Return what is wrong with a question, or an answer that nothing else can mend."""
    problem = wording.question_problem(value["question"])
    if problem is None and "answer" in value:
        problem = wording.empty(value["answer"], "the answer")
        problem = problem or wording.placeholder(value["answer"])
    return problem


def _with_problem(row: Row, problem: Problem) -> Row:
    """Return the row with its last attempt marked as not taken."""
    *others, last = row.attempts
    marked = last._replace(problem=f"{problem.reason}: {problem.detail}")
    return dataclasses.replace(row, attempts=(*others, marked))
