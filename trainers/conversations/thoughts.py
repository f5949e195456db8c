"""What becomes of an answer's thought: it is trained, or context, or left out.

A thought is `<think>…</think>` at the beginning of an answer, or a message's `reasoning_content`,
which is written so. Templates of models that think may leave out the thoughts of earlier answers,
write an empty one before the last, and ask for an answer without one by the variable
`enable_thinking` (Qwen3, SmolLM3).
"""

import re
from typing import Any

from verbalizer_bench.io.conversations import BadRecordError, Conversation, Message
from verbalizer_bench.models.chat.template import ChatTemplate

TRAIN, CONTEXT, DROP = "train", "context", "drop"
THOUGHTS = (TRAIN, CONTEXT, DROP)
DESCRIBED = {
    TRAIN: "their thoughts are trained",
    CONTEXT: "their thoughts are context, which is not trained: it did not learn to think",
    DROP: "their thoughts were left out",
}
VARIABLE = "enable_thinking"
_THOUGHT = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)
# What follows may begin with space that counts: an expression strips none of it.
_NOT_THINKING = (
    "{%- if enable_thinking is not defined -%}{%- set enable_thinking = false -%}{%- endif -%}"
    "{{- '' }}"
)


def with_thoughts(record: Conversation, thoughts: str | None) -> Conversation:
    """Return a record whose answers have their thoughts in their texts, or have none.

    Args:
        record: A conversation.
        thoughts: One of `THOUGHTS`; None: texts are as they are, and `reasoning_content`, which a
            text has not, is refused.

    Raises:
        BadRecordError: A thought is given twice, does not end, or is all that there is.
    """
    messages = [
        _changed(record, number, message, thoughts) if message.role == "assistant" else message
        for number, message in enumerate(record.messages)
    ]
    return record._replace(messages=tuple(messages))


def _changed(record: Conversation, number: int, message: Message, thoughts: str | None) -> Message:
    def refuse(reason: str, detail: str) -> BadRecordError:
        return BadRecordError(record.index, record.id, reason, f"turn {number} {detail}")

    text = message.text
    if thoughts is None:
        if message.thought:
            raise refuse("thought", f"has reasoning_content; give thoughts={' or '.join(THOUGHTS)}")
        return message
    opens, closes = text.startswith("<think>"), "</think>" in text
    if opens != closes:
        missing = "no </think>" if opens else "</think> and no <think> at its beginning"
        raise refuse("thought", f"has {missing}; complete it, or leave the record out")
    if message.thought and opens:
        raise refuse("thought", "has reasoning_content and <think>; leave one of them out")
    if thoughts == DROP:
        text = _THOUGHT.sub("", text, count=1) if opens else text
    elif message.thought:
        text = f"<think>\n{message.thought}\n</think>\n\n{text}"
    if not _THOUGHT.sub("", text, count=1):
        raise refuse("empty turn", "is a thought and no answer; leave the record out")
    return message._replace(text=text, thought="")


def behind_thought(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """Return an answer's first and last character + 1 without the thought that it begins with."""
    begin, stop = span
    found = _THOUGHT.match(text, begin, stop)
    return (found.end() if found else begin), stop


def template_arguments(template: str, thoughts: str | None) -> dict[str, Any]:
    """Return the variables with which a template is rendered where thoughts are left out."""
    return {VARIABLE: False} if thoughts == DROP and VARIABLE in template else {}


def without_thinking(template: Any) -> Any:
    """Return a chat template, or several by name, that asks without a thought if it can."""
    if isinstance(template, dict):
        return {name: without_thinking(text) for name, text in template.items()}
    if not template or VARIABLE not in template or template.startswith(_NOT_THINKING):
        return template
    return _NOT_THINKING + template


def thinking_note(template: str, tokenizer: Any) -> str | None:
    """Return what those must know who ask with `enable_thinking`; None if it changes nothing."""
    if VARIABLE not in template:
        return None
    if template.startswith(_NOT_THINKING):
        return (
            f"It was trained without thoughts: the chat template's `{VARIABLE}` is false where it "
            "is not given, and true asks with another prompt than was trained."
        )
    asked = [{"role": "user", "content": "one"}]
    answered = [*asked, {"role": "assistant", "content": "two"}]
    texts = []
    for arguments, messages, ends in (({}, answered, False), ({VARIABLE: False}, asked, True)):
        chat = ChatTemplate(
            template, tokenizer.special_tokens_map, "chat template", arguments=arguments
        )
        try:
            texts.append(chat.render_turns(messages, add_generation_prompt=ends))
        except ValueError:
            return None
    if texts[0].startswith(texts[1]):
        return None
    return (
        f"It was trained as the chat template asks by itself; `{VARIABLE}=false` asks with another "
        "prompt than was trained."
    )
