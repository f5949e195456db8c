"""Asking for one row: attempts, each with what was wrong with the one before."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from verbalizer_bench.builders.client.chat_client import CallFailed
from verbalizer_bench.builders.client.protocol import Reply, Request
from verbalizer_bench.builders.client.response_checks import Problem, finish_problem, first_artifact
from verbalizer_bench.builders.pipeline.prompts import PromptTemplates, fill
from verbalizer_bench.builders.pipeline.sample import Attempt, Sample
from verbalizer_bench.builders.pipeline.worker_pool import BuildStopped, Unanswered

# Among the statuses of refusals: what may succeed another time.
_LATER = (408, 409, 425, 429)

# Models that have no field for it say so in these words.
_REFUSAL = re.compile(
    r"\W*((i['\u2019]m|i am) (very |so )?sorry|sorry,|as an ai\b|"
    r"i (can['\u2019]t|cannot|won['\u2019]t|am unable to|am not able to) "
    r"(help|assist|comply|provide|identify|fulfil|create|generate|process|view|see|analy[sz]e))",
    re.IGNORECASE,
)

Message = Mapping[str, Any]


class Asker(Protocol):
    """What answers: `calls.Caller`, or what stands in for it."""

    async def ask(self, request: Request) -> Reply:
        """Return the response to a request."""
        ...


@dataclass(frozen=True)
class GenerationTask:
    """What is asked for a row.

    Attributes:
        role: Chooses the endpoint.
        messages: The conversation so far.
        schema: Of the object that is wanted; None: text is.
        judge: Says what is wrong with the object, or with `{"text": …}`.
        first: How many attempts there were before.
        so_far: What was wrong with the last of them.
    """

    role: str
    messages: Sequence[Message]
    schema: Mapping[str, Any] | None
    judge: Callable[[Mapping[str, Any]], Problem | None]
    first: int = 0
    so_far: Problem | None = None


class GenerationResult(NamedTuple):
    """What came of a question: the value that was taken, or the last problem; and all attempts."""

    value: Mapping[str, Any] | None
    problem: Problem | None
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class ResponseGenerator:
    """Ask until a response is taken, or attempts are used up.

    Attributes:
        caller: Who is asked.
        prompts: With the texts that name a failure.
        retries: Attempts after the first.
        failures: `stop`, or `set_aside` where a call that failed for good counts as a response.
        final: Reasons that no further attempt is made for.
    """

    client: Asker
    prompts: PromptTemplates
    retries: int
    failures: str = "stop"
    final: tuple[str, ...] = ()

    async def ask(self, question: GenerationTask) -> GenerationResult:
        """Ask; each further attempt names what was wrong with the one before.

        Raises:
            Stopped: No call to the endpoint can succeed now.
            Unanswered: A call failed that may succeed another time.
            BudgetSpent: The next call may not fit.
        """
        attempts: list[Attempt] = []
        messages, problem = list(question.messages), question.so_far
        if problem and problem.reason in self.final:
            return GenerationResult(None, problem, ())
        for number in range(question.first, self.retries + 1):
            request = Request(question.role, tuple(messages), question.schema, number)
            try:
                reply = await self.client.ask(request)
            except CallFailed as error:
                return GenerationResult(None, self._failed(error), tuple(attempts))
            value, problem = _value(reply, question)
            attempts.append(_attempt(question.role, reply, problem))
            if problem is None:
                return GenerationResult(value, None, tuple(attempts))
            if problem.reason in self.final:
                break
            # A conversation goes on from what was answered; of what was none, nothing is kept.
            taken = messages if value is not None else question.messages
            messages = self.follow_up(taken, reply.text if value is not None else None, problem)
        return GenerationResult(None, problem, tuple(attempts))

    def follow_up(
        self, messages: Sequence[Message], answer: str | None, problem: Problem
    ) -> list[Message]:
        """Return a conversation that names the failure: after the answer, or in its place."""
        known = self.prompts.failures
        text = fill(known.get(problem.reason, known["other"]), {"detail": problem.detail})
        if answer is not None:
            return [
                *messages,
                {"role": "assistant", "content": answer},
                {"role": "user", "content": text},
            ]
        *others, last = messages
        content = last["content"]
        if isinstance(content, str):
            return [*others, {**last, "content": f"{content}\n\n{text}"}]
        return [*others, {**last, "content": [*content, {"type": "text", "text": text}]}]

    def _failed(self, error: CallFailed) -> Problem:
        if error.fatal:
            raise BuildStopped(str(error)) from error
        refused = 400 <= (error.status or 0) < 500 and error.status not in _LATER
        if not (refused or self.failures == "set_aside"):
            raise Unanswered(str(error)) from error
        return Problem("rejected" if refused else "failed", str(error))


def _attempt(role: str, reply: Reply, problem: Problem | None) -> Attempt:
    reason = f"{problem.reason}: {problem.detail}" if problem else None
    return Attempt(role, reply.key, reply.model, reply.input_tokens, reply.output_tokens, reason)


def _value(
    reply: Reply, question: GenerationTask
) -> tuple[Mapping[str, Any] | None, Problem | None]:
    """Return the response's object, or text, and what is wrong with it."""
    if problem := _useless(reply, question.schema is not None):
        return None, problem
    found = reply.value if question.schema is not None else {"text": reply.text}
    if problem := first_artifact(found):
        return None, problem
    value = _clean(found)
    return value, question.judge(value)


def _useless(reply: Reply, structured: bool) -> Problem | None:
    """Return why a response has nothing that could be judged."""
    if reply.refusal:
        return Problem("refusal", reply.refusal)
    if problem := finish_problem(reply.finish_reason):
        return problem
    if reply.value is None and (problem := refusal_problem(reply.text)):
        return problem
    if not reply.text.strip():
        return Problem("empty", "the response is empty")
    if structured and reply.value is None:
        return Problem("unparsable", reply.problem or "no object in the response")
    return None


def refusal_problem(text: str) -> Problem | None:
    """Return a problem if a text is a refusal in the usual words."""
    return Problem("refusal", text.strip()[:200]) if _REFUSAL.match(text) else None


def _clean(value: Any) -> Any:
    """Strip texts."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Mapping):
        return {name: _clean(inner) for name, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list) else value


def with_result(sample: Sample, stage: str, result: GenerationResult) -> Sample:
    """Return a sample with the attempts made for it, rejected if none of them was accepted."""
    sample = dataclasses.replace(sample, attempts=sample.attempts + result.attempts)
    return sample.reject(stage, *result.problem) if result.problem else sample
