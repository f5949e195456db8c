"""What becomes of an answer's thought: it is trained, or context, or left out.

A thought is `<think>…</think>` at the beginning of an answer, or a message's `reasoning_content`. A
template is given it as it takes it: beside the text, if it knows `reasoning_content`, or else in
front of it. Templates of models that think may leave out the thoughts of earlier answers, begin a
thought in the prompt, write an empty one, and take a variable `enable_thinking`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from verbalizer_bench.io.conversations import BadRecordError, Conversation, Message
from verbalizer_bench.models.chat.template import ChatTemplate
from verbalizer_bench.trainers.choices import CONTEXT, DROP, THOUGHTS, TRAIN

DESCRIBED = {
    TRAIN: "their thoughts are trained",
    CONTEXT: "their thoughts are context, which is not trained: it did not learn to think",
    DROP: "their thoughts were left out",
}
VARIABLE, APART = "enable_thinking", "reasoning_content"
_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)
# What follows may begin with space that counts: an expression strips none of it.
_SET = (
    "{%- if enable_thinking is not defined -%}{%- set enable_thinking = VALUE -%}{%- endif -%}"
    "{{- '' }}"
)
Span = tuple[int, int]


class Thoughts:
    """What becomes of thoughts under one chat template.

    Attributes:
        kept: One of `choices.THOUGHTS`; None: texts are as they are, and `reasoning_content`, which
            a text has not, is refused.
        arguments: Variables that the template is given.
    """

    def __init__(self, kept: str | None, template: str) -> None:
        """Take what becomes of thoughts, and the template."""
        self.kept = kept
        self.arguments: dict[str, Any] = {}
        if kept and VARIABLE in template:
            self.arguments = {VARIABLE: kept != DROP}
        self._apart = APART in template

    def split(self, record: Conversation) -> Conversation:
        """Return a record whose answers have their thoughts apart, or none where they are left out.

        Raises:
            BadRecordError: A thought is given twice, does not end, or is all that there is.
        """
        messages = [
            self._split(record, number, message) if message.role == "assistant" else message
            for number, message in enumerate(record.messages)
        ]
        return record._replace(messages=tuple(messages))

    def _split(self, record: Conversation, number: int, message: Message) -> Message:
        def refuse(reason: str, detail: str) -> BadRecordError:
            return BadRecordError(record.index, record.id, reason, f"turn {number} {detail}")

        if self.kept is None:
            if message.thought:
                fix = f"give thoughts={' or '.join(THOUGHTS)}"
                raise refuse("thought", f"has reasoning_content; {fix}")
            return message
        thought, text = message.thought, message.text
        opens, closes = text.startswith("<think>"), "</think>" in text
        if opens != closes:
            missing = "no </think>" if opens else "</think> and no <think> at its beginning"
            raise refuse("thought", f"has {missing}; complete it, or leave the record out")
        if opens and thought:
            raise refuse("thought", "has reasoning_content and <think>; leave one of them out")
        if found := _THOUGHT.match(text):
            thought, text = found[1].strip(), text[found.end() :].strip()
        if not text:
            raise refuse("empty turn", "is a thought and no answer; leave the record out")
        return message._replace(text=text, thought="" if self.kept == DROP else thought)

    def contents(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Return turns as the template takes them."""
        return [self._content(message) for message in messages]

    def _content(self, message: Message) -> dict[str, Any]:
        if not message.thought:
            return {"role": message.role, "content": message.content()}
        if self._apart:
            return {"role": message.role, "content": message.content(), APART: message.thought}
        text = f"<think>\n{message.thought}\n</think>\n\n{message.text}"
        return {"role": message.role, "content": message._replace(text=text).content()}

    def trained(
        self, record: Conversation, text: str, spans: Sequence[Span], endings: Sequence[str]
    ) -> list[Span]:
        """Return what is trained of a rendered record: of answers all, or what follows a thought.

        Args:
            record: As `split` gives it.
            text: Rendered.
            spans: Of answers in it, in their order.
            endings: The tokens that may end an answer.

        Raises:
            BadRecordError: The template does not write an answer behind its thought.
        """
        if self.kept != CONTEXT:
            return list(spans)
        answers = (message for message in record.messages if message.role == "assistant")
        return [self._behind(record, text, span, answers, endings) for span in spans]

    def _behind(
        self,
        record: Conversation,
        text: str,
        span: Span,
        answers: Iterator[Message],
        endings: Sequence[str],
    ) -> Span:
        """Return the span of the next of some answers that is written there, less its thought."""
        begin, stop = span
        for message in answers:
            place = _text_start(text[begin:stop], message.text, endings)
            before = text[begin : begin + (place or 0)]
            if place is None or "".join(message.thought.split()) not in "".join(before.split()):
                continue
            return (begin + place if message.thought or "</think>" in before else begin), stop
        detail = (
            "the chat template does not write an answer behind its thought; give thoughts=train or "
            "drop"
        )
        raise BadRecordError(record.index, record.id, "thought", detail)


def _text_start(written: str, text: str, endings: Sequence[str]) -> int | None:
    """Return where a text begins that stands at the end of what is written, but for endings."""
    written = written.rstrip()
    while not written.endswith(text):
        ending = next((one for one in endings if written.endswith(one)), None)
        if ending is None:
            return None
        written = written.removesuffix(ending).rstrip()
    return len(written) - len(text)


def with_thinking(template: Any, kept: str | None, tokenizer: Any) -> Any:
    """Return a chat template, or several by name, that asks by itself as it is trained."""
    if isinstance(template, dict):
        return {name: with_thinking(text, kept, tokenizer) for name, text in template.items()}
    if not template or not (told := Thoughts(kept, template).arguments):
        return template
    if _prompt(template, tokenizer, told) == _prompt(template, tokenizer, {}):
        return template
    return _SET.replace("VALUE", str(told[VARIABLE]).lower()) + template


def thinking_note(template: str, tokenizer: Any) -> str | None:
    """Return with which values of `enable_thinking` another prompt is asked than was trained.

    A prompt that holds the beginning of a trained answer, an empty thought, is none.
    """
    if VARIABLE not in template:
        return None
    trained = _prompt(template, tokenizer, {})
    answered = _prompt(template, tokenizer, {}, answer="two")
    others = [
        f"`{VARIABLE}={str(value).lower()}`"
        for value in (True, False)
        if not (asked := _prompt(template, tokenizer, {VARIABLE: value})).startswith(trained)
        or not answered.startswith(asked)
    ]
    if not others:
        return None
    return f"{' and '.join(others)} asks with another prompt than was trained; leave it out."


def _prompt(
    template: str, tokenizer: Any, arguments: Mapping[str, Any], answer: str | None = None
) -> str:
    """Return a question as it is asked, or as it is written with its answer; "" if it cannot be."""
    specials = tokenizer.special_tokens_map
    chat = ChatTemplate(template, specials, "chat template", arguments=arguments)
    messages = [{"role": "user", "content": "one"}]
    messages += [{"role": "assistant", "content": answer}] if answer else []
    try:
        return chat.render_turns(messages, add_generation_prompt=answer is None)
    except ValueError:
        return ""
