"""Score one response against a label word: pure functions, strings in, numbers out.

F1 and exact match are SQuAD v2's (Rajpurkar et al. 2018, the official script's rule), as in Shiono
et al. 2024: they know ASCII punctuation only, and words between white space. The outcomes are ours,
and take words as a reader does (`words`): F1 alone mixes verbosity with wrong answers, and gives
0 for “positive” in typographic quotes. In ASCII the two see the same words.
"""

import re
import string
import unicodedata
from collections import Counter
from typing import NamedTuple

OUTCOMES = ("follows", "verbose", "flipped", "both", "neither")
METRICS = ("f1", "exact_match", "contains_label", *OUTCOMES)

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ASCII_PUNCTUATION = frozenset(string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# What stands for an apostrophe or a hyphen in a word: deleted as theirs are, not a gap.
_INSIDE_WORDS = "\u2018\u2019\u02bc\uff07\u2010\u2011\uff0d\uff3f"
# First and last code points of scripts that put no spaces between words.
_UNSPACED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai, Lao; Myanmar; Khmer
    *((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3040, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F)),
    (0x20000, 0x323AF),  # Han, kana, bopomofo
)


def normalize(text: str) -> str:
    """Lower-case, delete ASCII punctuation, drop the words a, an, the, and collapse white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


class Overlap(NamedTuple):
    """The tokens that F1 counts.

    Attributes:
        gold: The target's.
        said: The response's.
        common: Those that both have, each as often as both have it.
    """

    gold: list[str]
    said: list[str]
    common: Counter[str]


def overlap(target: str, response: str) -> Overlap:
    """Return the tokens of two strings that F1 counts, and what they have in common."""
    gold, said = normalize(target).split(), normalize(response).split()
    return Overlap(gold, said, Counter(gold) & Counter(said))


def token_f1(target: str, response: str) -> float:
    """Return the multiset token F1 of two strings, in [0, 1]; both empty is 1, one empty is 0."""
    gold, said, shared = overlap(target, response)
    if not gold or not said:
        return float(gold == said)
    common = shared.total()
    if common == 0:
        return 0.0
    precision, recall = common / len(said), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def words(text: str) -> list[str]:
    """Split a text into words as a reader would, for the outcomes.

    In ASCII they are `normalize`'s. Beyond it:

    - Equal characters are equal however they are coded (NFC), and case is folded by Unicode's rules
      that depend on no language (ß is ss). The Turkish i with and without a dot is one letter in
      either case, since nobody says which language a response is in.
    - All punctuation goes, that of other scripts and full-width signs too. Where ASCII's leaves no
      gap (`not_entailment`), typographic apostrophes and hyphens leave none either; all other
      (quotes, dashes, 。) is a gap. Symbols such as emoji are words of their own. Invisible
      characters go.
    - In scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character with
      its marks is a word: a label word is found in running text, as are its characters inside
      a longer word. Korean is split at its spaces: a label word with a particle is another word.
    """
    if text.isascii():
        return normalize(text).split()
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    tokens: list[str] = []
    before = "gap"
    for char in folded.replace("i\u0307", "i").replace("\u0131", "i"):
        kind = _kind(char)
        if kind == "nothing":
            continue
        if before != "gap" and (kind == "mark" or kind == before == "letter"):
            tokens[-1] += char
            continue
        if kind != "gap":
            tokens.append(char)
        before = "letter" if kind == "mark" else kind
    return _ARTICLES.sub(" ", " ".join(tokens)).split()


def _kind(char: str) -> str:
    """Classify a character: `letter`, `mark`, `sign` (a word by itself), `gap`, `nothing`."""
    category = unicodedata.category(char)
    if char in string.punctuation or char in _INSIDE_WORDS or category == "Cf":
        return "nothing"
    # They choose how the character before them is drawn.
    if "\ufe00" <= char <= "\ufe0f":
        return "nothing"
    # A symbol of full width is punctuation where ASCII's is.
    plain = unicodedata.normalize("NFKC", char)
    if char.isspace() or category[0] == "P" or plain in _ASCII_PUNCTUATION:
        return "gap"
    if category[0] == "M":
        return "mark"
    return "sign" if category[0] == "S" or _is_unspaced(char) else "letter"


def _is_unspaced(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in _UNSPACED)


def unseen_by_f1(word: str) -> str | None:
    """Explain why F1 cannot see a label word in an answer; None if it can.

    Args:
        word: The label word.
    """
    if word != unicodedata.normalize("NFC", word):
        return "its characters are not coded as NFC, and F1 compares codes: write it in NFC"
    seen = words(word)
    if any(map(_is_unspaced, word)):
        return (
            "its script has no spaces, and F1 splits at white space: with a full stop or in a "
            "sentence it scores 0"
        )
    if " ".join(seen) != normalize(word):
        return (
            "F1 drops ASCII punctuation and folds simple case only, so that it takes this for "
            f"{normalize(word)!r}, and {' '.join(seen)!r} scores 0"
        )
    return None


def outcome(target: str, other: str, response: str) -> str:
    """Classify a response as one of `OUTCOMES`.

    `follows`: it is the target. `verbose`: the target and more words. `flipped`: the other label
    word and not the target. `both`, `neither`: as they say. A label word occurs where its
    `words` stand in a row; one that is part of the other label word (entailment in "not
    entailment") is looked for outside the longer one only.
    """
    said, gold, wrong = (words(text) for text in (response, target, other))
    if said == gold:
        return "follows"
    first, second = sorted((gold, wrong), key=len, reverse=True)
    has_first, rest = _take(said, first)
    has_second, _ = _take(rest, second)
    has_gold, has_wrong = (has_first, has_second) if first is gold else (has_second, has_first)
    return {(1, 0): "verbose", (0, 1): "flipped", (1, 1): "both"}.get(
        (has_gold, has_wrong), "neither"
    )


def score(target: str, other: str, response: str) -> dict[str, float]:
    """Return every metric of one response, keyed as in `METRICS`, each in [0, 1].

    Args:
        target: The label word of the document's class.
        other: The label word of the other class.
        response: What the model generated.
    """
    result = outcome(target, other, response)
    return {
        "f1": token_f1(target, response),
        "exact_match": float(normalize(response) == normalize(target)),
        "contains_label": float(result in ("follows", "verbose")),
        **{name: float(name == result) for name in OUTCOMES},
    }


def _take(tokens: list[str], words: list[str]) -> tuple[bool, list[str]]:
    """Return whether `words` occur consecutively in `tokens`, and the tokens without them."""
    is_there, rest, i = False, list(tokens), 0
    while words and i + len(words) <= len(rest):
        if rest[i : i + len(words)] == words:
            is_there = True
            rest[i : i + len(words)] = [""] * len(words)
            i += len(words)
        else:
            i += 1
    return is_there, rest
