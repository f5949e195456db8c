"""Which of two options a free response chooses: a rule, the same for everybody, with no judge.

In this order, on the response in NFKC and lower case, without Markdown's marks:

1. A letter that the response says is its answer: alone (`b`, `(B).`), after "answer", "option" or
   "choice", in brackets, or in front with a mark behind it (`a) Open`, `A. Open`, `A: Open`). A
   word "a" is an article. Both letters, none of which is called the answer: `both`.
2. Of options Yes and No, the first word. Words of refusal: `refusal`.
3. The option whose words stand in the response, the longer one first, articles left out, number
   words as digits; or whose words the response is a part of. Both: `both`. What stands behind
   "not", "isn't", "neither", "rather than", "instead of", or before "is wrong", is not chosen.

A letter whose response has only the other option's words is a `contradiction`. What is no choice is
wrong, and its share is reported: a judge may read more.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

LETTERS = ("a", "b")
CHOSEN = ("letter", "text")
UNPARSED = ("both", "contradiction", "refusal", "none", "empty")
KINDS = (*CHOSEN, *UNPARSED)
_MARKUP = re.compile(r"[*_`~#>]+|</?\w+>")
_QUOTES = str.maketrans({0x2019: "'", 0x2018: "'", 0x201C: '"', 0x201D: '"'})
_BOTH = re.compile(r"\W*(?:yes\W+(?:and|or)?\W*no|no\W+(?:and|or)?\W*yes)\b")
_BEHIND = r"(?=[)\].,:;!\"']|\s*$|\s+(?:is|because|since|as|-)\b)"
_ALONE = re.compile(r"\W*([ab])\W*")
_STATED = (
    re.compile(r"\b(?:option|choice)(?: is)?[\s:]*[(\[\"']*([ab])(?![\w'])"),
    re.compile(
        r"\b(?:answer|choose|select|pick)(?: is| would be| should be)?[\s:]*[(\[\"']*([ab])"
        + _BEHIND
    ),
)
_MARKED = re.compile(r"[(\[]\s*([ab])\s*[)\]]|(?:^|\s)([ab])\)|^\W*([ab])[.:](?=\s|$)")
_DENIED = re.compile(
    r"\b(?:not|nor|neither|rather than|instead of)\s+(?:option\s+)?[(\[]?[ab][)\]]"
    r"|(?:\boption\s+)?[(\[]?\b[ab]\b[)\]]?\s+is(?:n't| not| wrong| incorrect| false)\b"
)
_REFUSAL = re.compile(
    r"\b(?:sorry|unable|cannot|can ?not|can't|couldn't|not sure|unsure|unclear|no idea|not able"
    r"|don't know|do not know|impossible|difficult to|hard to|not enough|as an ai|no image)\b"
)
_NEGATIONS = {"not", "never", "neither", "nor", "than", "instead_of"}
_ARTICLES = {"a", "an", "the"}
_SMALL = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: str(number) for number, word in enumerate(_SMALL)}


class Choice(NamedTuple):
    """What a response chooses.

    Attributes:
        letter: `a` or `b`; None where that cannot be told.
        kind: How it is told, of `CHOSEN`, or why it is not, of `UNPARSED`.
    """

    letter: str | None
    kind: str


def read_choice(response: str, options: tuple[str, str], letters: bool = True) -> Choice:
    """Return what a response chooses of two options, which differ.

    Args:
        response: The response.
        options: What `a` and `b` say.
        letters: Whether the question called them a and b.
    """
    text = _plain(response)
    if not re.search(r"\w", text):
        return Choice(None, "empty")
    stated = _letters(text) if letters else set()
    said = _by_text(text, options)
    if len(stated) > 1:
        return Choice(None, "both")
    if stated:
        (letter,) = stated
        others = said.letter not in (None, letter)
        return Choice(None, "contradiction") if others else Choice(letter, "letter")
    words = _words(text)
    if _is_yes_no(options) and words[0] in ("yes", "no") and not _BOTH.match(text):
        return Choice(_letter_of(words[0], options), "text")
    if _REFUSAL.search(text):
        return Choice(None, "refusal")
    return said


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    return " ".join(_MARKUP.sub(" ", text).casefold().split())


def _letters(text: str) -> set[str]:
    """Return the letters that a response gives as its answer."""
    if alone := _ALONE.fullmatch(text):
        return {alone[1]}
    text = _DENIED.sub(" ", text)
    for pattern in _STATED:
        if found := set(pattern.findall(text)):
            return found
    return {next(filter(None, groups)) for groups in _MARKED.findall(text)}


def _by_text(text: str, options: tuple[str, str]) -> Choice:
    """Return the option whose words stand in a response."""
    told = [_words(_plain(option)) for option in options]
    if told[0] == told[1] or not all(told):
        return _literal(text, options)
    words = _words(_MARKED.sub(" ", text))
    found = set()
    # A longer option may hold the shorter: "not visible".
    for place in sorted((0, 1), key=lambda place: -len(told[place])):
        words, here = _taken(words, told[place])
        found |= {LETTERS[place]} if here else set()
    if len(found) == 2:
        return Choice(None, "both")
    if not found:
        found = {
            LETTERS[place]
            for place in (0, 1)
            if words and set(words) <= set(told[place]) and set(words) - set(told[1 - place])
        }
    return Choice(found.pop(), "text") if found else Choice(None, "none")


def _literal(text: str, options: tuple[str, str]) -> Choice:
    """Return the option that stands in a response as it is: they differ in their marks alone."""
    for place in sorted((0, 1), key=lambda place: -len(options[place])):
        if _plain(options[place]) in text:
            return Choice(LETTERS[place], "text")
    return Choice(None, "none")


def _words(text: str) -> list[str]:
    """Return a text's words without articles, numbers as digits."""
    text = re.sub(r"\binstead of\b", "instead_of", text)
    words = [_NUMBERS.get(word, word) for word in re.findall(r"\w+(?:'\w+)?", text)]
    return [word for word in words if word not in _ARTICLES] or words


def _taken(words: Sequence[str], option: Sequence[str]) -> tuple[list[str], bool]:
    """Return the words without an option's, and whether it is chosen anywhere among them."""
    left, chosen, place, size = [], False, 0, len(option)
    while place < len(words):
        if list(words[place : place + size]) != list(option):
            left.append(words[place])
            place += 1
            continue
        before = words[place - 1] if place else ""
        chosen |= before not in _NEGATIONS and not before.endswith("n't")
        left.append("")
        place += size
    return left, chosen


def _is_yes_no(options: tuple[str, str]) -> bool:
    return {_plain(option).strip(".!") for option in options} == {"yes", "no"}


def _letter_of(word: str, options: tuple[str, str]) -> str:
    return LETTERS[[_plain(option).strip(".!") for option in options].index(word)]
