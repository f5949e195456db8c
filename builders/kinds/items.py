"""Items: question and answer of each sample, and answers that obey their instruction."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from verbalizer_bench.builders.filters import screening, wording
from verbalizer_bench.builders.filters.verifiers import verify
from verbalizer_bench.builders.pipeline.context import BuildContext
from verbalizer_bench.builders.pipeline.generation import GenerationTask
from verbalizer_bench.builders.pipeline.sample import TrainingSample, Turn
from verbalizer_bench.client.response_checks import Problem


def schema(*names: str) -> dict[str, Any]:
    """Return the schema of an object of texts."""
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": list(names),
        "additionalProperties": False,
    }


class ItemStages:
    """The stages that generate questions and answers, and check them."""

    def __init__(self, context: BuildContext) -> None:
        """Take the context of the build."""
        self.context = context

    async def make(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        """Return the samples with question and answer."""
        done = await self.context.process("items", units(samples), self._unit, list)
        return screening.reject_pairs([sample for unit in done for sample in unit])

    async def check(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        """Return the samples with checked answers."""
        checked = await self.context.process_samples("check", samples, self._checked)
        return await screening.screen(checked, self.context.recipe)

    async def _unit(self, unit: tuple[TrainingSample, ...]) -> tuple[TrainingSample, ...]:
        """Make a sample; or two, of which the second has the question of the first."""
        first = await (self._format(unit[0]) if unit[0].instruction else self._plain(unit[0]))
        if len(unit) == 1:
            return (first,)
        if not first.turns:
            return first, unit[1]
        return first, await self._answer(unit[1], first.turns[0].question)

    async def _format(self, sample: TrainingSample) -> TrainingSample:
        if sample.rejection:
            return sample
        form = schema("question", "answer")
        task = GenerationTask("item", self._messages(sample), form, _item_problem)
        sample, value = await self.context.generate("items", sample, task)
        if value is None:
            return sample
        return dataclasses.replace(sample, turns=(Turn(value["question"], value["answer"]),))

    async def _plain(self, sample: TrainingSample) -> TrainingSample:
        if sample.rejection:
            return sample
        messages = self.context.prompts.messages("question", {"caption": str(sample.caption)})
        task = GenerationTask("question", messages, schema("question"), _item_problem)
        sample, value = await self.context.generate("items", sample, task)
        return sample if value is None else await self._answer(sample, value["question"])

    async def _answer(self, sample: TrainingSample, question: str) -> TrainingSample:
        if sample.rejection:
            return sample
        sample = dataclasses.replace(sample, turns=(Turn(question, ""),))
        task = GenerationTask("answer", self._messages(sample), None, _placeholder_problem)
        sample, value = await self.context.generate("items", sample, task)
        if value is None:
            return sample
        return dataclasses.replace(sample, turns=(Turn(question, value["text"]),))

    def _messages(self, sample: TrainingSample) -> tuple[Mapping[str, Any], ...]:
        values = {"caption": str(sample.caption)}
        if sample.instruction:
            values["instruction"] = sample.instruction.text
            return self.context.prompts.messages("item", values)
        values["question"] = sample.turns[0].question
        return self.context.prompts.messages("answer", values)

    async def _checked(self, sample: TrainingSample) -> TrainingSample:
        """Return the sample with an answer that obeys, after as many attempts as there may be."""
        turn = sample.turns[0]
        verified = True if sample.instruction else None
        problem = answer_problem(sample, turn.answer)
        if problem is None:
            return dataclasses.replace(sample, verified=verified)
        sample, value = await self.context.generate(
            "check", _with_problem(sample, problem), self._again(sample, problem)
        )
        if value is None:
            return sample
        answer = value["answer" if sample.instruction else "text"]
        return dataclasses.replace(sample, turns=(Turn(turn.question, answer),), verified=verified)

    def _again(self, sample: TrainingSample, problem: Problem) -> GenerationTask:
        """Return the conversation in which the failure of the answer so far is named."""
        turn, role = sample.turns[0], "item" if sample.instruction else "answer"
        key = "answer" if sample.instruction else "text"
        said = json.dumps(turn._asdict(), ensure_ascii=False) if sample.instruction else turn.answer
        return GenerationTask(
            role,
            self.context.generator.follow_up(self._messages(sample), said, problem),
            schema("answer") if sample.instruction else None,
            lambda value: answer_problem(sample, value[key]),
            first=sum(attempt.role == role for attempt in sample.attempts),
            so_far=problem,
        )


def units(samples: Sequence[TrainingSample]) -> list[tuple[TrainingSample, ...]]:
    """Return single samples, and pairs: the one with the instruction, then the plain one."""
    by_id = {sample.id: sample for sample in samples}
    return [
        (sample, by_id[sample.pair]) if sample.pair else (sample,)
        for sample in samples
        if not (sample.pair and sample.arm == "plain")
    ]


def answer_problem(sample: TrainingSample, answer: str) -> Problem | None:
    """Return what is wrong with an answer to a sample's question."""
    if problem := wording.empty_problem(answer, "the answer") or wording.placeholder_problem(
        answer
    ):
        return problem
    asked = sample.instruction
    if asked and not verify(asked.type, asked.arguments, sample.turns[0].question, answer):
        return Problem("format", asked.text)
    return wording.mention_problem(answer)


def _item_problem(value: Mapping[str, Any]) -> Problem | None:
    """Return what is wrong with a question, or makes its answer useless."""
    problem = wording.question_problem(value["question"])
    if problem is None and "answer" in value:
        problem = wording.empty_problem(value["answer"], "the answer")
        problem = problem or wording.placeholder_problem(value["answer"])
    return problem


def _placeholder_problem(value: Mapping[str, Any]) -> Problem | None:
    return wording.placeholder_problem(value["text"])


def _with_problem(sample: TrainingSample, problem: Problem) -> TrainingSample:
    """Return the sample with its last attempt marked as not accepted."""
    *others, last = sample.attempts
    marked = last._replace(problem=f"{problem.reason}: {problem.detail}")
    return dataclasses.replace(sample, attempts=(*others, marked))
