"""One answer as a text."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from verbalizer_bench.explaining.asking import Answered, Bos
from verbalizer_bench.explaining.facts import Facts, counted

WIDTH = 96
_NAME = 11
# A prompt longer than that is cut in the middle; so many characters stay in front and behind.
_LONG, _FRONT, _BEHIND = 1600, 900, 500
# Stands for a space at which no line is folded.
_KEPT = "\0"
_PLACEHOLDER = "[the prompt above]"
_OUTCOMES = {
    "follows": "the expected label word, and nothing else",
    "verbose": "the expected label word, and more words",
    "flipped": "the other label word, and not the expected one",
    "both": "both label words",
    "neither": "neither label word is in it",
}
_ENDINGS = {
    "eos": "by an EOS token",
    "stop": "by a stop string",
    "limit": "at the limit of {limit} new tokens, which cut it off: no EOS came",
    "filtered": "withheld by the server's filter",
    "unknown": "by what, the server did not say",
}


def visible(text: str) -> str:
    """Return a text between quotes, with everything escaped that a terminal would not show.

    Line ends, tabs, control characters, marks of direction, characters without width.
    """
    return f'"{"".join(map(_shown, text))}"'


def _shown(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def page(one: Facts, full: bool) -> str:
    """Return an answer as a text of at most 96 columns.

    Args:
        one: What is known of it.
        full: Whether long texts are shown whole.
    """
    lines = [one.title, *_folded(one.place)]
    if one.why:
        lines += _folded(f"No document was named: {one.why}.")
    lines += ["", *_prompts(one, full), *_row("Image", one.shown), *_row("Decoding", _search(one))]
    if one.labels:
        lines += _row("Expected", _expected(one))
    said = one.response.text
    lines += _row("Response", visible(said if full else _cut(said)) + _empty(said))
    lines += _row("Ended", _ended(one))
    lines += _scores(one)
    if one.again:
        lines += _again(one)
    for note in one.notes:
        lines += _row("Note", note)
    return "\n".join(lines)


def _row(name: str, text: str) -> list[str]:
    """Return a named line, wrapped and indented."""
    wrapped = [
        part
        for line in text.split("\n")
        for part in textwrap.wrap(line, WIDTH - _NAME, break_on_hyphens=False) or [""]
    ]
    wrapped = [part.replace(_KEPT, " ") for part in wrapped]
    return [f"{name if place == 0 else '':{_NAME}}{part}" for place, part in enumerate(wrapped)]


def _folded(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False)


def _cut(text: str) -> str:
    """Return a text, in the middle of which what is too much for a screen is left out."""
    if len(text) <= _LONG:
        return text
    left_out = len(text) - _FRONT - _BEHIND
    mark = f"\n[… {left_out:,} characters are left out here; --full shows them …]\n"
    return text[:_FRONT] + mark + text[-_BEHIND:]


def _block(text: str, full: bool) -> list[str]:
    """Return a prompt's lines, indented; white space is kept, and a long one cut in the middle."""
    body = (text if full else _cut(text)).rstrip("\n")
    # What a prompt ends with counts, and would not be seen.
    lines, end = [], "\\n" * (len(text) - len(text.rstrip("\n")))
    for line in body.split("\n"):
        escaped = "".join(char if char in '"\\' else _shown(char) for char in line)
        # White space is kept but at the ends of lines, which is where they were folded.
        lines += textwrap.wrap(
            escaped, WIDTH - 2, replace_whitespace=False, break_on_hyphens=False
        ) or [""]
    lines[-1] += end
    return [f"  {line}".rstrip() for line in lines]


def _prompts(one: Facts, full: bool) -> list[str]:
    """Return the prompt as it was written, and as the model got it."""
    seen = one.made.prompt.text if one.made.prompt else one.asked
    lines = []
    if one.raw is not None and one.raw != seen:
        lines += [
            "Prompt, as the task has it:" if one.stored else "Prompt:",
            *_block(one.raw, full),
        ]
        if not full and seen.count(one.raw) == 1:
            seen = seen.replace(one.raw, _PLACEHOLDER)
        lines.append("")
    whose = "as the model got it" if one.made.prompt else "as its model class was given it"
    lines += [*_folded(f"Prompt, {whose}: {_facts(one.made)}"), *_block(seen, full)]
    return [*lines, "", *_row("Template", one.template)]


def _facts(made: Answered) -> str:
    """Say how many tokens a prompt has, and how often it begins with BOS."""
    if made.prompt is None:
        return "its tokens are not known here"
    prompt = made.prompt
    parts = [f"{len(prompt.ids):,} tokens"]
    if prompt.image_places:
        first, last = prompt.image_places[0], prompt.image_places[-1]
        parts[0] += f", {len(prompt.image_places):,} of them of images, at {first:,} to {last:,}"
    if made.unknown:
        parts.append(f"{made.unknown:,} of them stand for text that the tokenizer does not know")
    if prompt.cut:
        parts.append(f"{prompt.cut:,} more were cut off at its left end to fit the context")
    return "; ".join([*parts, bos_text(made.bos)] if made.bos else parts)


def bos_text(bos: Bos) -> str:
    """Say how often a prompt begins with BOS, and whether that is as it should be."""
    if bos.token is None:
        return "no BOS: the tokenizer has none"
    named = f"{bos.token}, id {bos.id}"
    if bos.times == 1:
        return f"BOS once ({named})"
    if bos.times > 1:
        return f"BOS {bos.times} times ({named}): the template writes one and the tokenizer adds it"
    if bos.expected is False:
        return f"no BOS: neither tokenizer nor template writes {named}"
    return f"NO BOS, though the tokenizer has one ({named})"


def _search(one: Facts) -> str:
    given = one.settings
    if given.get("do_sample"):
        how = f"sampling, temperature {given.get('temperature', 1.0)}"
    else:
        beams = int(given.get("num_beams") or 1)
        how = f"{beams} beams" if beams > 1 else "greedy"
    limit, until = given.get("max_gen_toks"), given.get("until")
    how += f", at most {limit} new tokens" if limit else ""
    how += f", until {', '.join(map(visible, until))}" if until else ""
    return "; ".join(filter(None, (how, one.how)))


def _expected(one: Facts) -> str:
    assert one.labels
    text = visible(one.labels.expected)
    if one.labels.other is not None:
        text += f" (the other label word: {visible(one.labels.other)}"
        text += f"; {one.labels.type})" if one.labels.type else ")"
    return text


def _empty(response: str) -> str:
    if response == "":
        return " (nothing: it ended at once, or all of it was special tokens)"
    return " (white space alone)" if not response.strip() else ""


def _ended(one: Facts) -> str:
    ending = one.response.ending
    if ending is None:
        return "not recorded"
    limit = one.settings.get("max_gen_toks", "all")
    text = _ENDINGS.get(ending, ending).format(limit=limit)
    thought = {"open": "; it is a thought that did not end", "closed": "; it holds a thought"}
    return text + thought.get(one.response.thought or "", "")


def _scores(one: Facts) -> list[str]:
    if one.labels is None:
        return []
    if one.outcome is None and "f1" not in one.scores:
        right = "right" if one.scores.get("accuracy") else "not right"
        unread = "; no choice could be read in it" if one.scores.get("unparsed") else ""
        return _row("Score", right + unread)
    lines = []
    if one.outcome:
        lines += _row("Outcome", f"{one.outcome}: {_OUTCOMES[one.outcome]}")
    tokens = counted(one.labels, one.response.text)
    gold, said, common = (tokens[name] for name in ("expected", "response", "common"))
    f1 = f"{100 * one.scores['f1']:.1f}"
    if common:
        f1 += f" = 2 x {len(common)} in common / ({len(said)} said + {len(gold)} expected)"
    else:
        f1 += ": no word in common" if gold or said else ": both are empty"
    lines += _row("F1", f1)
    lines += _row("", f"counted of the response: {_tokens(said, common)}")
    lines += _row("", f"counted of the expected: {_tokens(gold, common)}")
    if said != one.response.text.split():
        lines += _row("", "(F1 drops case, ASCII punctuation and the words a, an, the)")
    return lines


def _tokens(tokens: Sequence[str], common: Sequence[str]) -> str:
    """Return tokens in a row, those that count for both between stars."""
    left = list(common)
    parts = []
    for token in tokens[:60]:
        text = visible(token)[1:-1]
        if token in left:
            left.remove(token)
            text = f"*{text}*"
        parts.append(text)
    more = f" … and {len(tokens) - 60} more" if len(tokens) > 60 else ""
    return (" ".join(parts) or "nothing") + more


def _again(one: Facts) -> list[str]:
    """Return what came of asking again: whether it is the same, beams, first tokens."""
    again = one.again
    assert again and again.response
    lines = []
    if one.stored:
        said = "the stored response" if one.same else visible(again.response.text)
        lines = ["", *_row("Again", f"{said} ({again.how})")]
    if again.look is None:
        return [*lines, *_row("Beams", "its model class shows none")]
    return [*lines, *_beams(again), *_by_length(one, again), *_first_tokens(again)]


def _by_length(one: Facts, again: Answered) -> list[str]:
    """Say where the expected word is likelier than the response, and lost for its length."""
    best = again.look.hypotheses[0][0]
    alone = again.look.words.get(one.labels.expected) if one.labels else None
    if one.outcome == "follows" or alone is None or alone.whole is None:
        return []
    if alone.whole.log_prob <= best.log_prob or alone.whole.score >= best.score:
        return []
    times = math.exp(min(alone.whole.log_prob - best.log_prob, 700))
    text = (
        f"{visible(alone.text)} alone is {times:,.{1 if times < 100 else 0}f} times as likely as "
        "the whole response, and is ranked below it, since beam search divides the log probability "
        "by the length."
    )
    if alone.first.rank == 1:
        text += " Greedy search (gen_kwargs num_beams=1) would begin with it."
    return _folded(text)


def _beams(again: Answered) -> list[str]:
    look, several = again.look, len(again.look.hypotheses) > 1
    title = "Beams, best first" if several else "Response"
    lines = ["", f"{'Score':>9} {'Log prob.':>10} {'Tokens':>7}  {title}"]
    lines += [_hypothesis(one, visible(text)) for one, text in look.hypotheses]
    words = {word: alone for word, alone in look.words.items() if alone.whole}
    if words:
        lines.append(" " * 30 + "Label words as the whole response")
    lines += [_hypothesis(alone.whole, visible(alone.text)) for alone in words.values()]
    ranked = ", by which beam search ranks" if several else ""
    note = f"Score: log probability / tokens ** length_penalty{ranked}. An EOS is a token."
    return [*lines, *_folded(note)]


def _hypothesis(one: Any, text: str) -> str:
    room = WIDTH - 30
    shown = text if len(text) <= room else f"{text[: room - 1]}…"
    return f"{one.score:9.4f} {one.log_prob:10.3f} {len(one.tokens):7}  {shown}"


def _first_tokens(again: Answered) -> list[str]:
    look = again.look
    # A token and its number stay together.
    parts = [
        f"{visible(token.text)} {token.probability:.3f}".replace(" ", _KEPT)
        for token in look.likeliest
    ]
    lines = ["", *_row("First", f"Likeliest first tokens: {', '.join(parts)}")]
    for alone in look.words.values():
        token = alone.first
        text = f"{visible(alone.text)} begins with {visible(token.text)}: {token.probability:.2g}"
        lines += _row("", f"{text}, place {token.rank:,}")
    return lines
