"""Find the answers of a conversation by rendering it, where its template does not mark them.

A template is asked twice for each answer: for the prompt that a model answers, and for the
conversation up to the answer. What the second has more is what the model must write, up to the
token that ends it. So no table of templates is needed, and what is trained is what is asked: where
the two do not fit together, the template is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from verbalizer_bench.models.chat.template import TextLostError

Messages = Sequence[Mapping[str, Any]]
Render = Callable[..., str]


class TemplateFaultError(ValueError):
    """A template that cannot be trained with, whatever the record."""


class AssistantSpans(NamedTuple):
    """A rendered conversation.

    Attributes:
        text: All of it, as the template writes it.
        spans: First and last character + 1 of each answer that is trained, with what ends it.
        context: How many answers are not trained, because the template writes them otherwise once
            more follows: without their thoughts, or with another ending.
    """

    text: str
    spans: list[tuple[int, int]]
    context: int


def find_answers(render: Render, messages: Messages, endings: Sequence[str]) -> AssistantSpans:
    """Find the answers of a conversation.

    Args:
        render: Takes messages, and `add_generation_prompt=True` for a prompt; gives the text.
        messages: Of a conversation that ends with an answer; contents as the template takes them.
        endings: The tokens that may end an answer.

    Raises:
        TextLostError: A turn does not stand in the text as it is.
        TemplateFaultError: The prompt of an answer is not what stands before it, or nothing ends an
            answer.
    """
    text = render(messages)
    spans, context = [], 0
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            check_kept(text, message)
            continue
        prompt = render(messages[:number], add_generation_prompt=True)
        answered = render(messages[: number + 1])
        check_asked(prompt, answered, len(prompt))
        # Of an answer in the middle, that as far as it is written in the same way.
        same = answered[: _common(answered, text)]
        stop = _end(same, answered, len(prompt), message, endings)
        if stop is not None:
            spans.append((len(prompt), stop))
            continue
        if _end(answered, answered, len(prompt), message, endings) is None:
            raise _no_answer(answered[len(prompt) :], message)
        context += 1
    return AssistantSpans(text, spans, context)


def find_last_answer(render: Render, messages: Messages, endings: Sequence[str]) -> AssistantSpans:
    """Find the last answer of a conversation behind its prompt, as a model is asked for it.

    For a template that asks with other white space than it writes before an answer: the answers
    before the last are context, written as they are when more follows.

    Raises:
        As `find_answers`.
    """
    prompt = render(messages[:-1], add_generation_prompt=True)
    answered = render(messages)
    for message in messages[:-1]:
        check_kept(prompt, message)
    same = _common(prompt, answered)
    answer = answered[same:].lstrip()
    text = prompt + answer
    check_asked(prompt, text, len(prompt))
    stop = _end(text, text, len(prompt), messages[-1], endings)
    if stop is None:
        raise _no_answer(answer, messages[-1])
    context = sum(message["role"] == "assistant" for message in messages[:-1])
    return AssistantSpans(text, [(len(prompt), stop)], context)


def asks_with_other_space(prompt: str, answered: str, answer: str) -> bool:
    """Tell whether a prompt is what stands before its answer but for white space at its end."""
    same = _common(prompt, answered)
    behind = answered[same:].lstrip()
    return same < len(prompt) and not prompt[same:].strip() and behind.startswith(answer)


def _end(
    same: str, answered: str, start: int, message: Mapping[str, Any], endings: Sequence[str]
) -> int | None:
    """Return where an answer that begins at `start` ends in `same`, which `answered` begins with.

    It ends with the last of its endings, behind which there may be white space of the template's,
    which no model is left to write. None if it does not.
    """
    places = ((same.rfind(ending, start), ending) for ending in endings)
    stop = max((place + len(ending) for place, ending in places if place >= 0), default=start)
    rest = answered[stop:]
    for ending in endings:
        rest = rest.replace(ending, "")
    # A thought in the answer's text may begin in the prompt.
    opened = same[:start].rstrip().endswith("<think>")
    written = f"{'<think>' * opened}{same[start:stop]}"
    return stop if not rest.strip() and _holds(written, message) else None


def check_kept(text: str, message: Mapping[str, Any]) -> None:
    """Raise TextLostError unless a rendered text contains a message's."""
    if not _holds(text, message):
        raise TextLostError(
            f"the chat template does not write the {message['role']} turn "
            f"{_short(content_text(message['content']))} as it is; leave out what it drops, or "
            "use llama-2 or vicuna-v1"
        )


def _holds(text: str, message: Mapping[str, Any]) -> bool:
    """Tell whether a text contains a message's, but for white space, which templates change."""
    parts = (content_text(message["content"]), message.get("reasoning_content", ""))
    return all("".join(part.split()) in "".join(text.split()) for part in parts)


def content_text(content: Any) -> str:
    """Return the text of a message's content, a string or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _no_answer(written: str, message: Mapping[str, Any]) -> ValueError:
    text = content_text(message["content"])
    if _holds(written, {"content": text}) and not _holds(written, message):
        return TextLostError(
            f"the chat template leaves out the thought of the answer {_short(text)}; give "
            "thoughts=drop"
        )
    if not _holds(written, message):
        return TextLostError(
            f"the chat template writes {_short(written)} for the answer "
            f"{_short(text)}; leave out what it drops"
        )
    return TemplateFaultError(
        f"format 'tokenizer': this chat template writes an answer as {_short(written)}, with no "
        "special token of the tokenizer's to end it: the model would never learn to stop; put "
        "{% generation %} marks around answer and eos_token, or use llama-2 or vicuna-v1"
    )


def check_asked(prompt: str, answered: str, start: int) -> None:
    """Raise TemplateFaultError unless a prompt is what stands before its answer.

    Args:
        prompt: As a template asks for an answer.
        answered: As it writes the conversation with the answer.
        start: Where in it what is trained of the answer begins.
    """
    same = _common(prompt, answered)
    if same == len(prompt) and not answered[same:start].strip():
        return
    raise TemplateFaultError(
        f"format 'tokenizer': this chat template asks for an answer with {_short(prompt[same:])} "
        f"where it writes {_short(answered[same:])} once it is given: the model would be asked "
        "otherwise than it was trained; correct the template, or use llama-2 or vicuna-v1"
    )


def _common(one: str, other: str) -> int:
    """Return the length of two texts' common prefix."""
    if other.startswith(one):
        return len(one)
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
