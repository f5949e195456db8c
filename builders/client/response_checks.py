"""Endings: whether an answer ended, and whether there is more in it than the answer.

Only an ending that is known to be good is one. What a server leaves in a text besides the answer
(thoughts, tokens of a chat template) would be trained on: such an answer is set aside. Marks that
HTML has too (`<s>`, `</s>`) are a template's only where no HTML can be meant.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """Why a response is not taken.

    Attributes:
        reason: Its kind, which names a text of the prompts' `failures`.
        detail: The particulars, which go into that text.
    """

    reason: str
    detail: str


# OpenAI, vLLM, SGLang, llama.cpp, Ollama; Together; TGI; Anthropic; Cohere; AI21. Gemini's are in
# capitals. "": the server gives none.
_FINISHED = ("", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "endoftext")
_TOO_LONG = ("length", "max_tokens", "model_length", "max_length", "max_output_tokens")
# OpenAI; Anthropic; Gemini; Cohere; Zhipu; Bedrock.
_REFUSED = (
    *("content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content"),
    *("spii", "error_toxic", "sensitive", "content_filtered", "guardrail_intervened"),
)

_THOUGHT = (
    "(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|cot|scratch_?pad|antthinking"
    "|inner_(?:monologue|thoughts?))"
)
_OPENED = re.compile(
    rf"<\s*(?:\w+:)?{_THOUGHT}(?:\s[^<>\n]*)?/?>|\u25c1think\u25b7|<unused94>"
    r"|&lt;think&gt;|<details\s+type=.reasoning|</?think\w{0,3}\Z"
    # gpt-oss and Gemma, with their tokens; gpt-oss without them.
    r"|<\|channel\|?>|\Aanalysis(?=[A-Z])"
    r"|<\|(?:start_|begin_of_|start_of_|begin\u2581of\u2581)?think(?:ing)?\|>|<\|begin_of_thought\|>",
    re.IGNORECASE,
)
_CLOSED = re.compile(
    rf"<\s*/\s*(?:\w+:)?{_THOUGHT}\s*>|\u25c1/think\u25b7|<unused95>|&lt;/think&gt;"
    r"|<\|message\|>|<channel\|>|assistantfinal(?=\W|[A-Z])|^\.{3}done thinking\.$"
    r"|<\|/think(?:ing)?\|>|<\|end_(?:of_)?(?:think(?:ing)?|thought)\|>",
    re.IGNORECASE | re.MULTILINE,
)
_OPENED_MISTRAL, _CLOSED_MISTRAL = re.compile(r"\[THINK\]"), re.compile(r"\[/THINK\]")

_CONTROL = re.compile(
    # What most templates have: <|im_end|>, <|eot_id|>; DeepSeek's; EXAONE's; Gemma's halves.
    r"<\|[^\s<>|]{1,60}\|>|<\uff5c[^<>\n]{1,60}\uff5c>|\[\|[^\s\[\]|]{1,40}\|\]"
    r"|<\|\w{3,40}>|<\w{3,40}\|>"
    # One that is cut.
    r"|<\|\w{0,40}\Z|<(?:start|end)_of_\w*\Z"
    r"|<(?:start|begin|end)_of_[a-z]+>|<(?:im|vision|img)_(?:start|end|patch)>"
    r"|<(?:bos|eos|pad|unk|eot|eop|eod|eom|sop|sep|cls)>"
    r"|<(?:unused|extra_id_|reserved_|special_|ctrl)\d+>|\[control_\d+\]|<0x[0-9A-F]{2}>"
    r"|<(?:image_soft_token|fake_token_around_image|global-img|row_\d+_col_\d+)>"
    r"|</?tool_(?:call|response)s?>|</?function_calls?>|<function=\w"
    # SentencePiece's unknown token; words that were never joined from their pieces, and bytes as
    # GPT-2 has them.
    r"|\u2047|\u2581\w|\w(?-i:\u0120)\w",
    re.IGNORECASE,
)
_CAPITALS = re.compile(
    r"\[/?INST\]|<</?SYS>>|\[gMASK\]|\[(?:PAD|UNK|CLS|SEP|EOS|BOS)\]"
    r"|\[/?(?:SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|IMG|IMG_BREAK|IMG_END)\]"
    # The model went on for the user.
    r"|^(?:USER|ASSISTANT|HUMAN)\s*:|^#{2,3} ?(?:Human|Assistant|User|Instruction) ?:"
    r"|^(?:User|Human): .*\n+(?:Assistant|AI|Bot): ",
    re.MULTILINE,
)
# Of Llama's and Mistral's tokens HTML has two: a struck text.
_STRUCK = re.compile(r"<s(?:\s[^<>]*)?>")
_AFTER_A_SENTENCE = re.compile(r"[.!?\u2026\u3002][\"'\u201d\u2019)\]]*\s*</s>")
_AT_THE_END = re.compile(r"(\s*)(?:</s>\s*)+\Z")
_OF_MARKUP = re.compile(
    r"\b(?:tags?|html|xml|markup|elements?|tokens?|clos(?:e|es|ed|ing))\b", re.I
)
# Halves of characters, and control characters, which no text has.
_DAMAGE = re.compile("[\ud800-\udfff\ufffd\x00-\x08\x0b\x0e-\x1f\x7f]")


def finish_problem(finish_reason: str) -> Problem | None:
    """Return why a response did not end as an answer does.

    Args:
        finish_reason: The server's, or "" where it gives none.
    """
    reason = finish_reason.strip().lower().removeprefix("finishreason.")
    if reason in _FINISHED:
        return None
    if reason in _TOO_LONG:
        return Problem("cut_off", f"the response is longer than max_tokens ({finish_reason})")
    if reason in _REFUSED:
        return Problem("refusal", f"the server's content filter ({finish_reason})")
    return Problem("cut_off", f"the server ended it with finish_reason={finish_reason}")


def artifact_problem(text: str) -> Problem | None:
    """Return what is in a text besides an answer: thoughts, control tokens, half a character."""
    for pattern in (_OPENED, _CLOSED, _OPENED_MISTRAL, _CLOSED_MISTRAL):
        if found := pattern.search(text):
            return Problem(
                "thoughts",
                f"{found.group().strip()} is in it: switch thinking off, or have the server give "
                "thoughts in a field of their own",
            )
    found = _CONTROL.search(text) or _CAPITALS.search(text)
    if token := found.group().strip() if found else _struck(text):
        return Problem("control_tokens", f"{token.splitlines()[0]} is in it, a token of a template")
    if found := _DAMAGE.search(text):
        kind = "a control" if found.group() < "\x80" else "half a"
        return Problem("damaged", f"it has {kind} character (U+{ord(found.group()):04X})")
    return None


def _struck(text: str) -> str | None:
    """Return `<s>` or `</s>` where it is a token and not HTML."""
    whole = text.strip()
    opened, closed = len(_STRUCK.findall(whole)), whole.count("</s>")
    around = not closed or (whole.endswith("</s>") and closed == opened == 1)
    if whole.startswith("<s>") and around and not _OF_MARKUP.search(whole):
        return "<s>"
    # The end of one text and the beginning of the next: HTML opens what it closes.
    first = _STRUCK.search(whole)
    if closed and first and whole.find("</s>") < first.start() and not _OF_MARKUP.search(whole):
        return "</s>"
    if not closed or opened:
        return None
    end, behind = _AT_THE_END.search(whole), list(_AFTER_A_SENTENCE.finditer(whole))
    spoken_of = _OF_MARKUP.search(whole)
    # "It is closed with </s>" speaks of it; "a red boat</s>" and "A red boat. </s>" end with it.
    last = bool(end and behind and end.start(1) <= behind[-1].end() - len("</s>"))
    if last or (behind and not spoken_of) or (end and not (end[1] and spoken_of)):
        return "</s>"
    return None


def first_artifact(value: Any) -> Problem | None:
    """Return what is left over in any text of a response's object."""
    return next((found for text in _texts(value) if (found := artifact_problem(text))), None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, Mapping)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def strip_reasoning(text: str) -> str:
    """Return what stands behind thoughts, and before any that begin then."""
    ends = [
        found.end() for pattern in (_CLOSED, _CLOSED_MISTRAL) for found in pattern.finditer(text)
    ]
    said = text[max(ends, default=0) :]
    starts = [
        found.start() for pattern in (_OPENED, _OPENED_MISTRAL) if (found := pattern.search(said))
    ]
    return said[: min(starts, default=len(said))]
