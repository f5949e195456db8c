"""Which of two options a free response chooses: a rule, the same for everybody, with no judge.

On the response without its thoughts, in NFKC and lower case, without marks of Markdown and TeX or a
speaker's name in front. It ends where a line begins another turn ("Question:", "User:"); a first
line that is a letter or an option and nothing else is the whole response, unless all lines are
such; a letter alone in the last line is its answer, unless the response asks something. In this
order:

1. A letter that the response says is its answer: alone (`b`, `(B).`, also `<b>`), in a box, after
   "answer", "option", "choice", 答案 or 选, before "is correct", as in "not A but B", ending a
   sentence after "say", "go with", "it's", "definitely" or "so", in brackets, or in front with a
   mark behind it (`a) Open`, `A. Open`, `A: Open`, `A, it is open`, `A - open`). A word "a" is an
   article; at the end of a response it is a letter if it is a capital behind small letters.
   Both letters, none of which is called the answer: `both`.
2. Of options Yes and No, what the response begins with, after "sorry" or "well": "yes", "yeah",
   "yep", "yup", "no", "nope", "nah", a short answer ("It does not.", "Not really.", "Of course
   not."), or "Absolutely!" alone. Two that differ ("Yes, it is not."): `both`. A "no" with a noun
   ("No image …", "No comment", "no doubt") is no answer, but behind "there is", "has" or "with".
3. Words of refusal: `refusal`.
4. The option whose words stand in the response, whole (`twenty-two` has no `two`, `half-open` no
   `open`, `12:01` no `12`) or with a participle behind a hyphen (`left-facing`, `four-legged`), the
   longer one first, articles left out, number words as digits; or whose words the response is a
   part of, unless one option's words are all in the other. Both: `both`.

Not chosen are a letter behind "not" or before "is wrong", and letters and words that stand in one
clause, which "but" ends, behind "not", "isn't", "never" or "neither" (up to four words between), or
behind "no", "nor", "than", "instead of", "far from", "less", "hardly", "barely", "almost" or
"nearly" (up to one between). That chooses the other option neither. Nor are numbers with "at least"
or "or more", the one of "one of them" and "this one", and the words of a set phrase: "the correct
answer", "you are right", "all right", "Right, it faces left".

A letter whose response has only the other option's words is a `contradiction`. What is no choice is
wrong, and its share is reported: a judge may read more.
"""

import re
from typing import NamedTuple

from verbalizer_bench.io.thinking import after_thought
from verbalizer_bench.tasks.choice_letters import ALONE, MARKED, given_letters
from verbalizer_bench.tasks.choice_words import plain, said_options
from verbalizer_bench.tasks.choice_yes_no import are_yes_no, opening_answers, with_answers

CHOSEN = ("letter", "text")
UNPARSED = ("both", "contradiction", "refusal", "none", "empty")
KINDS = (*CHOSEN, *UNPARSED)
_SPEAKER = re.compile(r"\W*(?:assistant|gpt|model|ai)\s*:", re.IGNORECASE)
_TURN = re.compile(
    r"\n\W*(?:question|q|user|human|instruction|assistant)\s*\d*\W{0,2}:", re.IGNORECASE
)
_REFUSAL = re.compile(
    r"\b(?:sorry|unable|cannot|can ?not|can't|couldn't|not sure|unsure|unclear|no idea|not able"
    r"|don't know|do not know|impossible|difficult to|hard to|not enough|as an ai|no image)\b"
)


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
    text = plain(_said_first(after_thought(response), options, letters))
    if not re.search(r"\w", text):
        return Choice(None, "empty")
    answers = with_answers(text) if are_yes_no(options) else text
    stated = given_letters(text) if letters else set()
    said = said_options(MARKED.sub(" ", answers), options)
    if len(stated) == 1 and len(said) == 1 and stated != said:
        return Choice(None, "contradiction")
    if stated:
        return _choice(stated, "letter")
    opening = opening_answers(answers, options) if are_yes_no(options) else set()
    if not opening and _REFUSAL.search(text):
        return Choice(None, "refusal")
    return _choice(opening or said, "text")


def _choice(found: set[str], kind: str) -> Choice:
    if len(found) != 1:
        return Choice(None, "both" if found else "none")
    (letter,) = found
    return Choice(letter, kind)


def _said_first(response: str, options: tuple[str, str], letters: bool) -> str:
    """Return a response without a speaker's name and without what follows its answer."""
    text = _TURN.split(_SPEAKER.sub("", response.strip(), count=1).strip())[0]
    told = [plain(one).strip(" .!") for one in options]
    lines = [line for line in text.split("\n") if line.strip()]
    alone = [letters and bool(ALONE.fullmatch(plain(line))) for line in lines]
    bare = [one or plain(line).strip(" .!") in told for one, line in zip(alone, lines, strict=True)]
    listed = all(bare) and len(set(map(plain, lines))) > 1
    if bare and bare[0] and not listed:
        return lines[0]
    if alone and alone[-1] and sum(alone) == 1 and not bare[0] and "?" not in text:
        return "\n".join((*lines[:-1], f"answer: {lines[-1]}"))
    return text
