"""Generation: attempts at a response, each told what was wrong with the one before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from verbalizer_bench.builders.pipeline.prompts import PromptTemplates, fill
from verbalizer_bench.builders.pipeline.sample import Attempt
from verbalizer_bench.builders.pipeline.worker_pool import BuildStopped, Unanswered
from verbalizer_bench.client.chat_client import CallFailed, ChatClient
from verbalizer_bench.client.protocol import Reply, Request, with_paragraph
from verbalizer_bench.client.response_checks import (
    Problem,
    finish_problem,
    first_artifact,
    refusal_problem,
)

# Statuses between 400 and 499 of requests that may succeed another time.
_RETRYABLE = (408, 409, 425, 429)

Message = Mapping[str, Any]


@dataclass(frozen=True)
class GenerationTask:
    """What is to be generated for a sample.

    Attributes:
        role: Chooses the endpoint.
        messages: The conversation so far.
        schema: Of the object that is wanted; None: text is wanted.
        judge: Returns what is wrong with the object, or with `{"text": …}`.
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
    """The value that was accepted, or the last problem; and all attempts."""

    value: Mapping[str, Any] | None
    problem: Problem | None
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class ResponseGenerator:
    """Generate until a response is accepted, or attempts are used up.

    Attributes:
        client: Sends requests.
        prompts: With the texts that name a failure.
        retries: Attempts after the first.
        failures: `stop`, or `set_aside`: a call that failed for good is a problem of the sample.
        final: Reasons after which no further attempt is made.
    """

    client: ChatClient
    prompts: PromptTemplates
    retries: int
    failures: str = "stop"
    final: tuple[str, ...] = ()

    async def generate(self, task: GenerationTask) -> GenerationResult:
        """Return the first accepted value; each attempt names what was wrong with the one before.

        Raises:
            BuildStopped: No call to the endpoint can succeed now.
            Unanswered: A call failed that may succeed another time.
            BudgetExceeded: The next call may not fit.
        """
        attempts: list[Attempt] = []
        messages, problem = list(task.messages), task.so_far
        if problem and problem.reason in self.final:
            return GenerationResult(None, problem, ())
        for number in range(task.first, self.retries + 1):
            reply = await self.ask(Request(task.role, tuple(messages), task.schema, number))
            if isinstance(reply, Problem):
                return GenerationResult(None, reply, tuple(attempts))
            value, problem = _value(reply, task)
            attempts.append(attempt_of(task.role, reply, problem))
            if problem is None:
                return GenerationResult(value, None, tuple(attempts))
            if problem.reason in self.final:
                break
            # The conversation goes on after an answer; of a response without one, nothing is kept.
            if value is None:
                messages = self.follow_up(task.messages, None, problem)
            else:
                messages = self.follow_up(messages, reply.text, problem)
        return GenerationResult(None, problem, tuple(attempts))

    async def ask(self, request: Request) -> Reply | Problem:
        """Return the reply to a request, whatever is in it, or why there will be none.

        Raises:
            As `generate`.
        """
        try:
            return await self.client.ask(request)
        except CallFailed as error:
            return self._failed(error)

    def follow_up(
        self, messages: Sequence[Message], answer: str | None, problem: Problem
    ) -> list[Message]:
        """Return the conversation with the failure named: after the answer, or in its place."""
        known = self.prompts.failures
        text = fill(known.get(problem.reason, known["other"]), {"detail": problem.detail})
        if answer is None:
            return with_paragraph(messages, text)
        said, told = {"role": "assistant", "content": answer}, {"role": "user", "content": text}
        return [*messages, said, told]

    def _failed(self, error: CallFailed) -> Problem:
        if error.fatal:
            raise BuildStopped(str(error)) from error
        refused = 400 <= (error.status or 0) < 500 and error.status not in _RETRYABLE
        if not (refused or self.failures == "set_aside"):
            raise Unanswered(str(error)) from error
        return Problem("rejected" if refused else "failed", str(error))


def attempt_of(role: str, reply: Reply, problem: Problem | None) -> Attempt:
    """Return what a sample keeps of a call."""
    reason = f"{problem.reason}: {problem.detail}" if problem else None
    return Attempt(role, reply.key, reply.model, reply.input_tokens, reply.output_tokens, reason)


def _value(reply: Reply, task: GenerationTask) -> tuple[Mapping[str, Any] | None, Problem | None]:
    """Return the response's object, or text, and what is wrong with it."""
    if problem := _useless(reply, task.schema is not None):
        return None, problem
    value = reply.value if task.schema is not None else {"text": reply.text}
    if problem := first_artifact(value):
        return None, problem
    value = _stripped(value)
    return value, task.judge(value)


def _useless(reply: Reply, structured: bool) -> Problem | None:
    """Return why there is nothing in a response to judge."""
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


def _stripped(value: Any) -> Any:
    """Return a value with its texts stripped."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Mapping):
        return {name: _stripped(inner) for name, inner in value.items()}
    return [_stripped(inner) for inner in value] if isinstance(value, list) else value
