"""Which letters a response gives as its answer."""

import re

from verbalizer_bench.tasks.choice_words import negated

ALONE = re.compile(r"\W*([ab])\W*")
_LETTER = r"[(\[\"']*([ab])"
# Of "a or b" and "a, b" the first is not chosen.
_ONE_OF_TWO = r"[ab](?:\W*$|[)\].,])"
_NO_OR = rf"(?!\W*(?:or |and |, )\W*{_ONE_OF_TWO})"
_NO_OTHER = rf"(?!\W*(?:(?:or|and) )?\W*{_ONE_OF_TWO})"
_BEHIND = _NO_OR + r"(?=\s?[)\].,:;!\"'\u2013\u2014]|\s*$|\s+(?:(?:is|because|since|as)\b|-))"
# Without its full stop "a" may be the article of a response that was cut off.
_ENDING = r"(?:[)\"']*[.!](?=\s|$)|(?<=b)[)\"']*\s*$|\s+(?:because|since)\b)"
# From the plainest on; the first that finds something counts.
_STATED = (
    re.compile(
        r"\b(?:answer|choose|select|pick|(?:correct|right) (?:option|choice|letter))[\"']?"
        r"(?: is| would be| should be)?[\s:=]*" + _LETTER + _BEHIND
    ),
    re.compile(r"\bnot (?:a,? but [(\[]?(?=b)|b,? but [(\[]?(?=a))([ab])" + _BEHIND),
    re.compile(r"(?<!\S)([ab])\)? is (?:the )?(?:correct|right)\b"),
    re.compile(r"(?:\b(?:option|choice)|^letter)(?: is|\s*[:=])[\s:=]*" + _LETTER + _BEHIND),
    re.compile(r"\b(?:option|choice)\s*" + _LETTER + r"(?![\w'])" + _NO_OR),
    re.compile(r"(?<!不)(?:答案|选[择项]?)[\s:是为选]*" + _LETTER + r"(?![a-z'])"),
    re.compile(
        r"\b(?:say|go with|it's|it is|definitely|so|thus|hence|therefore)[\s:,]+"
        + _LETTER
        + _ENDING
    ),
)
MARKED = re.compile(
    r"[(\[]\s*([ab])\s*[)\]]|(?:^|\s)([ab])\)"
    rf"|^\W*([ab])(?:[.:](?=\s|$)|(?:,|\s*[\u2013\u2014]|\s+-\s){_NO_OTHER}|\s+because\b)"
)
_DENIED = re.compile(
    r"\b(?:not|nor|neither|rather than|instead of)\s+(?:option\s+)?[(\[]?[ab][)\]]"
    r"|(?:\bnot|n't|\bnever)\s+(?:say|go with|choose|select|pick)\s+(?:option\s+)?\W?[ab]\b"
    r"|(?:\boption\s+)?[(\[]?\b[ab]\b[)\]]?\s+is(?:n't| not| wrong| incorrect| false)\b"
)


def given_letters(text: str) -> set[str]:
    """Return the letters that a plain text gives as its answer."""
    if alone := ALONE.fullmatch(text):
        return {alone[1]}
    text = _DENIED.sub(" ", text)
    for pattern in (*_STATED, MARKED):
        if found := {one[one.lastindex or 0] for one in _affirmed(pattern, text)}:
            return found
    return set()


def _affirmed(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    found = pattern.finditer(text)
    return [one for one in found if not negated(text[: one.start(one.lastindex or 0)])]
