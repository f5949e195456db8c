"""Which option's words stand in a response, and which are denied, hedged or of a set phrase."""

import re
import unicodedata

LETTERS = ("a", "b")
_BOXED = re.compile(r"\\boxed\b", re.IGNORECASE)
_MARKUP = re.compile(r"[*_`~#>{}$]+|</?\w+>|\\(?:text(?:bf)?|math(?:rm|bf))\b", re.IGNORECASE)
_QUOTES = str.maketrans({0x2019: "'", 0x2018: "'", 0x201C: '"', 0x201D: '"'})
# In small letters it may be the article of a response that was cut off.
_LAST_CAPITAL = re.compile(r"(?<=[a-z] )A(?=[\"')\s]*$)")
_ONLY_SURE = re.compile(r"\bno (?:doubt|question)\b")
# "The correct answer" is no "correct", "all right" no "right".
_SET_PHRASE = re.compile(
    r"\b(?:correct|right) (?=(?:answer|option|choice|letter)\b)"
    r"|\byou(?:'re| are) (?:\w+ )?(?:right|correct)\b|\ball right\b"
)
# "Right, it is facing left.", but not "Right, it is by the left door."
_AGREEING = re.compile(r"^right, (?=(?:it|they|he|she)\b[^.,;]*\bleft\W*$)")
# Before an option's words, in their clause.
_NEGATED = re.compile(
    r"(?<!\S)(?:(?:not|never|neither|\S+n't)(?: (?!but )\w\S*){0,4}"
    r"|(?:no|nor|than|instead of|far from|less|hardly|barely|almost|nearly)(?: (?!but )\w\S*)?"
    r"|at (?:least|most)|\d+ or) $"
)
_HEDGED_BEHIND = re.compile(r" or (?:more|less|fewer|so|\d+)(?!\S)")
# Of another number, or one of two: "twenty one", "one or two".
_OTHER_NUMBER = re.compile(
    r"(?:(?:(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand)(?: and)?|_ or) $"
)
# "One" that counts nothing.
_SOMEONE = re.compile(r"(?<!\S)(?:any|some|every|each|this|that|another|other|which) $")
_OF_THEM = re.compile(r" (?:of|another|can)(?!\S)")
_TOKEN = re.compile(r"\w+(?:[-']\w+|(?<=\d)[.,:/]\d+)*|[^\w\s]")
_PARTICIPLE = r"-\w+(?:ing|ed)"
_COMPOUND = re.compile(rf"(\w+)({_PARTICIPLE})")
_ARTICLES = {"a", "an", "the"}
_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_NUMBERS = {word: str(number) for number, word in enumerate(_SMALL)}


def plain(text: str) -> str:
    """Return a text in NFKC and lower case, without marks of Markdown and TeX."""
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    bare = _MARKUP.sub(" ", _BOXED.sub(" answer: ", text))
    # A response that is `<b>` and nothing else is the letter.
    kept = " ".join((bare if bare.strip() else text).split())
    return _ONLY_SURE.sub("surely", _LAST_CAPITAL.sub("A.", kept).casefold())


def said_options(text: str, options: tuple[str, str]) -> set[str]:
    """Return the letters of the options whose words a plain text has."""
    told = [words(plain(option)) for option in options]
    if told[0] == told[1] or not all(told):
        return _literal(text, options)
    if not any(_SET_PHRASE.search(plain(option)) for option in options):
        text = _SET_PHRASE.sub("", text)
    return _found(_AGREEING.sub("", text), told) or _found(text, told)


def negated(before: str) -> bool:
    """Return whether what stands behind a plain text is denied or hedged by it."""
    return bool(_NEGATED.search(" ".join(tokens(before.rstrip(" ([\"'"))) + " "))


def _found(text: str, told: list[list[str]]) -> set[str]:
    left = " ".join(tokens(text))
    found = set()
    # A longer option may hold the shorter: "not visible".
    for place in sorted((0, 1), key=lambda place: -len(" ".join(told[place]))):
        pattern = _whole(told[place])
        places = pattern.finditer(left)
        if any(_is_meant(told[place], left[: one.start()], left[one.end() :]) for one in places):
            found.add(LETTERS[place])
        left = pattern.sub("_", left)
    return found or _of_part(set(words(left)), told)


def _is_meant(option: list[str], before: str, behind: str) -> bool:
    """Return whether an option's words between these are neither denied, hedged nor others."""
    if _NEGATED.search(before) or _HEDGED_BEHIND.match(behind):
        return False
    if option == ["1"] and (_SOMEONE.search(before) or _OF_THEM.match(behind)):
        return False
    return not (option[0].isdecimal() and _OTHER_NUMBER.search(before))


def _of_part(said: set[str], told: list[list[str]]) -> set[str]:
    """Return the letters of options that have all of a response's words and that alone do."""
    one, other = map(set, told)
    if not said or one <= other or other <= one:
        return set()
    pairs = zip(LETTERS, (one, other), (other, one), strict=True)
    return {letter for letter, mine, its in pairs if said <= mine and said - its}


def _literal(text: str, options: tuple[str, str]) -> set[str]:
    """Return the option that stands in a response as it is: they differ in their marks alone."""
    for place in sorted((0, 1), key=lambda place: -len(options[place])):
        if plain(options[place]) in text:
            return {LETTERS[place]}
    return set()


def tokens(text: str) -> list[str]:
    """Return a text's words and marks without articles, numbers as digits."""
    found = [_with_digits(token) for token in _TOKEN.findall(text)]
    named = [token for token in found if re.match(r"\w", token)]
    # What has no other word than an article means it: option A.
    return found if set(named) <= _ARTICLES else [one for one in found if one not in _ARTICLES]


def _with_digits(token: str) -> str:
    compound = _COMPOUND.fullmatch(token)
    number, behind = compound.groups() if compound else (token, "")
    return _NUMBERS.get(number, number) + behind


def words(text: str) -> list[str]:
    """Return a text's words without articles, numbers as digits."""
    return [token for token in tokens(text) if re.match(r"\w", token)]


def _whole(option: list[str]) -> re.Pattern[str]:
    """Return the pattern of an option's words among tokens; a hyphen in it may be a space.

    A participle may follow: the arrow is left-facing.
    """
    parts = [re.escape(part) for word in option for part in word.split("-")]
    return re.compile(r"(?<!\S)" + r"[ -](?:[^\w\s] )*".join(parts) + rf"(?:{_PARTICIPLE})?(?!\S)")
