"""Which of two options a free response chooses: a rule, the same for everybody, with no judge.

On the response in NFKC and lower case, without marks of Markdown and TeX or a speaker's name in
front. It ends where a line begins another turn ("Question:", "User:"); a first line that is a
letter or an option and nothing else is the whole response, unless all lines are such. In this
order:

1. A letter that the response says is its answer: alone (`b`, `(B).`, also `<b>`), in a box, after
   "answer", "option", "choice", 答案 or 选, in brackets, in front with a mark behind it (`a) Open`,
   `A. Open`, `A: Open`), or ending a sentence after "say" or "go with". A word "a" is an article.
   Both letters, none of which is called the answer: `both`.
2. Of options Yes and No, the first word ("no doubt" is no "no"). Words of refusal: `refusal`.
3. The option whose words stand in the response, whole (`twenty-two` has no `two`, `half-open` no
   `open`) or with a participle behind a hyphen (`left-facing`, `four-legged`), the longer one
   first, articles left out, number words as digits; or whose words the response is a part of,
   unless one option's words are all in the other. Both: `both`.

Not chosen is a letter behind "not" or before "is wrong", and words that stand in one clause, which
"but" ends, behind "not", "isn't", "never" or "neither" (up to four words between), or behind "nor",
"than", "instead of", "far from", "less", "hardly" or "barely" (up to one between). That chooses
the other option neither.

A letter whose response has only the other option's words is a `contradiction`. What is no choice is
wrong, and its share is reported: a judge may read more.
"""

import re
import unicodedata
from typing import NamedTuple

LETTERS = ("a", "b")
CHOSEN = ("letter", "text")
UNPARSED = ("both", "contradiction", "refusal", "none", "empty")
KINDS = (*CHOSEN, *UNPARSED)
_SPEAKER = re.compile(r"\W*(?:assistant|gpt|model|ai)\s*:", re.IGNORECASE)
_TURN = re.compile(
    r"\n\W*(?:question|q|user|human|instruction|assistant)\s*\d*\W{0,2}:", re.IGNORECASE
)
_BOXED = re.compile(r"\\boxed\b", re.IGNORECASE)
_MARKUP = re.compile(r"[*_`~#>{}$]+|</?\w+>|\\(?:text(?:bf)?|math(?:rm|bf))\b", re.IGNORECASE)
_QUOTES = str.maketrans({0x2019: "'", 0x2018: "'", 0x201C: '"', 0x201D: '"'})
_BOTH = re.compile(r"\W*(?:yes\W+(?:and|or)?\W*no|no\W+(?:and|or)?\W*yes)\b")
_NO_DOUBT = re.compile(r"\bno (?:doubt|question)\b")
_BEHIND = r"(?=[)\].,:;!\"']|\s*$|\s+(?:is|because|since|as|-)\b)"
_ALONE = re.compile(r"\W*([ab])\W*")
_STATED = (
    re.compile(r"\b(?:option|choice)(?: is)?[\s:]*[(\[\"']*([ab])(?![\w'])"),
    re.compile(
        r"\b(?:answer|choose|select|pick)(?: is| would be| should be)?[\s:]*[(\[\"']*([ab])"
        + _BEHIND
    ),
    re.compile(r"(?<!不)(?:答案|选[择项]?)[\s:是为选]*[(\[\"']*([ab])(?![a-z'])"),
    # Without its full stop "a" may be the article of a response that was cut off.
    re.compile(r"\b(?:say|go with)[\s:]+[\"']?([ab])[\"']?[.!](?=\s|$)"),
)
_MARKED = re.compile(r"[(\[]\s*([ab])\s*[)\]]|(?:^|\s)([ab])\)|^\W*([ab])[.:](?=\s|$)")
_DENIED = re.compile(
    r"\b(?:not|nor|neither|rather than|instead of)\s+(?:option\s+)?[(\[]?[ab][)\]]"
    r"|(?:\bnot|n't|\bnever)\s+(?:say|go with|choose|select|pick)\s+(?:option\s+)?\W?[ab]\b"
    r"|(?:\boption\s+)?[(\[]?\b[ab]\b[)\]]?\s+is(?:n't| not| wrong| incorrect| false)\b"
)
_REFUSAL = re.compile(
    r"\b(?:sorry|unable|cannot|can ?not|can't|couldn't|not sure|unsure|unclear|no idea|not able"
    r"|don't know|do not know|impossible|difficult to|hard to|not enough|as an ai|no image)\b"
)
# Before an option's words, in their clause.
_NEGATED = re.compile(
    r"(?<!\S)(?:(?:not|never|neither|\S+n't)(?: (?!but )\w\S*){0,4}"
    r"|(?:nor|than|instead of|far from|less|hardly|barely)(?: (?!but )\w\S*)?) $"
)
_TOKEN = re.compile(r"\w+(?:[-']\w+|(?<=\d)[.,]\d+)*|[^\w\s]")
_PARTICIPLE = r"-\w+(?:ing|ed)"
_COMPOUND = re.compile(rf"(\w+)({_PARTICIPLE})")
_ARTICLES = {"a", "an", "the"}
_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
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
    text = _NO_DOUBT.sub("surely", _plain(_said_first(response, options, letters)))
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


def _said_first(response: str, options: tuple[str, str], letters: bool) -> str:
    """Return a response without a speaker's name and without what follows its answer."""
    text = _TURN.split(_SPEAKER.sub("", response.strip(), count=1).strip())[0]
    told = [_plain(one).strip(" .!") for one in options]
    lines = [line for line in text.split("\n") if line.strip()]
    bare = [
        (letters and _ALONE.fullmatch(_plain(line))) or _plain(line).strip(" .!") in told
        for line in lines
    ]
    listed = all(bare) and len(set(map(_plain, lines))) > 1
    return lines[0] if bare and bare[0] and not listed else text


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    bare = _MARKUP.sub(" ", _BOXED.sub(" answer: ", text))
    # A response that is `<b>` and nothing else is the letter.
    return " ".join((bare if bare.strip() else text).casefold().split())


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
    left = " ".join(_tokens(_MARKED.sub(" ", text)))
    found = set()
    # A longer option may hold the shorter: "not visible".
    for place in sorted((0, 1), key=lambda place: -len(" ".join(told[place]))):
        pattern = _whole(told[place])
        places = pattern.finditer(left)
        if any(not _NEGATED.search(left[: one.start()]) for one in places):
            found.add(LETTERS[place])
        left = pattern.sub("_", left)
    if len(found) == 2:
        return Choice(None, "both")
    if not found:
        found = _of_part(set(_words(left)), told)
    return Choice(found.pop(), "text") if found else Choice(None, "none")


def _of_part(words: set[str], told: list[list[str]]) -> set[str]:
    """Return the letters of options that have all of a response's words and that alone do."""
    one, other = map(set, told)
    if not words or one <= other or other <= one:
        return set()
    pairs = zip(LETTERS, (one, other), (other, one), strict=True)
    return {letter for letter, mine, its in pairs if words <= mine and words - its}


def _literal(text: str, options: tuple[str, str]) -> Choice:
    """Return the option that stands in a response as it is: they differ in their marks alone."""
    for place in sorted((0, 1), key=lambda place: -len(options[place])):
        if _plain(options[place]) in text:
            return Choice(LETTERS[place], "text")
    return Choice(None, "none")


def _tokens(text: str) -> list[str]:
    """Return a text's words and marks without articles, numbers as digits."""
    tokens = [_with_digits(token) for token in _TOKEN.findall(text)]
    words = [token for token in tokens if re.match(r"\w", token)]
    # What has no other word than an article means it: option A.
    return tokens if set(words) <= _ARTICLES else [one for one in tokens if one not in _ARTICLES]


def _with_digits(token: str) -> str:
    compound = _COMPOUND.fullmatch(token)
    number, behind = compound.groups() if compound else (token, "")
    return _NUMBERS.get(number, number) + behind


def _words(text: str) -> list[str]:
    return [token for token in _tokens(text) if re.match(r"\w", token)]


def _whole(words: list[str]) -> re.Pattern[str]:
    """Return the pattern of an option's words among tokens; a hyphen in it may be a space.

    A participle may follow: the arrow is left-facing.
    """
    parts = [re.escape(part) for word in words for part in word.split("-")]
    return re.compile(r"(?<!\S)" + r"[ -](?:[^\w\s] )*".join(parts) + rf"(?:{_PARTICIPLE})?(?!\S)")


def _is_yes_no(options: tuple[str, str]) -> bool:
    return {_plain(option).strip(".!") for option in options} == {"yes", "no"}


def _letter_of(word: str, options: tuple[str, str]) -> str:
    return LETTERS[[_plain(option).strip(".!") for option in options].index(word)]
