"""Response checks: whether a response is complete, and whether its text is only the answer.

Only finish reasons that are known to be good pass. Artifacts in a text (thoughts, control tokens of
a chat template) would be trained on, so that a response with one is rejected. Marks that are also
HTML (`<s>`, `</s>`) count as a template's only where no HTML can be meant.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """Why a response is not accepted.

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
    # Most templates: <|im_end|>, <|eot_id|>; DeepSeek's; EXAONE's; Gemma's halves.
    r"<\|[^\s<>|]{1,60}\|>|<\uff5c[^<>\n]{1,60}\uff5c>|\[\|[^\s\[\]|]{1,40}\|\]"
    r"|<\|\w{3,40}>|<\w{3,40}\|>"
    # A token that is cut off.
    r"|<\|\w{0,40}\Z|<(?:start|end)_of_\w*\Z"
    r"|<(?:start|begin|end)_of_[a-z]+>|<(?:im|vision|img)_(?:start|end|patch)>"
    r"|<(?:bos|eos|pad|unk|eot|eop|eod|eom|sop|sep|cls)>"
    r"|<(?:unused|extra_id_|reserved_|special_|ctrl)\d+>|\[control_\d+\]|<0x[0-9A-F]{2}>"
    r"|<(?:image_soft_token|fake_token_around_image|global-img|row_\d+_col_\d+)>"
    r"|</?tool_(?:call|response)s?>|</?function_calls?>|<function=\w"
    # SentencePiece's unknown token; word pieces that were never joined; bytes in GPT-2's alphabet.
    r"|\u2047|\u2581\w|\w(?-i:\u0120)\w",
    re.IGNORECASE,
)
_CAPITALS = re.compile(
    r"\[/?INST\]|<</?SYS>>|\[gMASK\]|\[(?:PAD|UNK|CLS|SEP|EOS|BOS)\]"
    r"|\[/?(?:SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|IMG|IMG_BREAK|IMG_END)\]"
    # The model continued as the user.
    r"|^(?:USER|ASSISTANT|HUMAN)\s*:|^#{2,3} ?(?:Human|Assistant|User|Instruction) ?:"
    r"|^(?:User|Human): .*\n+(?:Assistant|AI|Bot): ",
    re.MULTILINE,
)
# Two tokens of Llama and Mistral are also HTML: struck text.
_STRUCK = re.compile(r"<s(?:\s[^<>]*)?>")
_AFTER_A_SENTENCE = re.compile(r"[.!?\u2026\u3002][\"'\u201d\u2019)\]]*\s*</s>")
_AT_THE_END = re.compile(r"(\s*)(?:</s>\s*)+\Z")
_OF_MARKUP = re.compile(
    r"\b(?:tags?|html|xml|markup|elements?|tokens?|clos(?:e|es|ed|ing))\b", re.I
)
# How models refuse that have no field for it.
_REFUSAL = re.compile(
    r"\W*((i['\u2019]m|i am) (very |so )?sorry|sorry,|as an ai\b|"
    r"i (can['\u2019]t|cannot|won['\u2019]t|am unable to|am not able to) "
    r"(help|assist|comply|provide|identify|fulfil|create|generate|process|view|see|analy[sz]e))",
    re.IGNORECASE,
)
# Lone surrogates and control characters, which no text has.
_DAMAGE = re.compile("[\ud800-\udfff\ufffd\x00-\x08\x0b\x0e-\x1f\x7f]")


def finish_kind(finish_reason: str) -> str:
    """Return how a response ended: `complete`, `too_long`, `refused`, or `other`.

    Args:
        finish_reason: The server's, or "" if it gives none.
    """
    reason = finish_reason.strip().lower().removeprefix("finishreason.")
    kinds = (("complete", _FINISHED), ("too_long", _TOO_LONG), ("refused", _REFUSED))
    return next((kind for kind, reasons in kinds if reason in reasons), "other")


def finish_problem(finish_reason: str) -> Problem | None:
    """Return why a response is not complete.

    Args:
        finish_reason: The server's, or "" if it gives none.
    """
    kind = finish_kind(finish_reason)
    if kind == "complete":
        return None
    if kind == "too_long":
        return Problem("cut_off", f"the response is longer than max_tokens ({finish_reason})")
    if kind == "refused":
        return Problem("refusal", f"the server's content filter ({finish_reason})")
    return Problem("cut_off", f"the server ended it with finish_reason={finish_reason}")


def refusal_problem(text: str) -> Problem | None:
    """Return a problem if a text begins with the usual words of a refusal."""
    return Problem("refusal", text.strip()[:200]) if _REFUSAL.match(text) else None


def artifact_problem(text: str) -> Problem | None:
    """Return what is in a text besides an answer: thoughts, control tokens, half a character."""
    for pattern in (_OPENED, _CLOSED, _OPENED_MISTRAL, _CLOSED_MISTRAL):
        if match := pattern.search(text):
            return Problem(
                "thoughts",
                f"{match.group().strip()} is in it: switch thinking off, or have the server give "
                "thoughts in a field of their own",
            )
    match = _CONTROL.search(text) or _CAPITALS.search(text)
    if token := match.group().strip() if match else _struck(text):
        return Problem("control_tokens", f"{token.splitlines()[0]} is in it, a token of a template")
    if match := _DAMAGE.search(text):
        kind = "a control" if match.group() < "\x80" else "half a"
        return Problem("damaged", f"it has {kind} character (U+{ord(match.group()):04X})")
    return None


def _struck(text: str) -> str | None:
    """Return `<s>` or `</s>` if it is a token and not HTML."""
    whole = text.strip()
    opened, closed = len(_STRUCK.findall(whole)), whole.count("</s>")
    around = not closed or (whole.endswith("</s>") and closed == opened == 1)
    if whole.startswith("<s>") and around and not _OF_MARKUP.search(whole):
        return "<s>"
    # The end of one text and the beginning of the next: HTML opens before it closes.
    first = _STRUCK.search(whole)
    if closed and first and whole.find("</s>") < first.start() and not _OF_MARKUP.search(whole):
        return "</s>"
    if not closed or opened:
        return None
    end, behind = _AT_THE_END.search(whole), list(_AFTER_A_SENTENCE.finditer(whole))
    mentioned = _OF_MARKUP.search(whole)
    # "It is closed with </s>" mentions it; "a red boat</s>" and "A red boat. </s>" end with it.
    last = bool(end and behind and end.start(1) <= behind[-1].end() - len("</s>"))
    if last or (behind and not mentioned) or (end and not (end[1] and mentioned)):
        return "</s>"
    return None


def first_artifact(value: Any) -> Problem | None:
    """Return the first artifact in any text of a response's object."""
    return next(filter(None, map(artifact_problem, _texts(value))), None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, Mapping)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def strip_reasoning(text: str) -> str:
    """Return the text after the last thought that ends, and before the next that begins."""
    closed = [one for pattern in (_CLOSED, _CLOSED_MISTRAL) for one in pattern.finditer(text)]
    answer = text[max((match.end() for match in closed), default=0) :]
    opened = filter(None, (pattern.search(answer) for pattern in (_OPENED, _OPENED_MISTRAL)))
    return answer[: min((match.start() for match in opened), default=len(answer))]
