"""What a response says to options Yes and No: its first word, or a short answer."""

import re

from verbalizer_bench.tasks.choice_words import LETTERS, plain

_YES, _NO = re.compile(r"\b(?:yeah|yep|yup)\b"), re.compile(r"\b(?:nope|nah)\b")
# What may follow a "no" that is an answer without a mark between: a sentence, no noun.
_SENTENCE = (
    r"(?:i|i'm|it|it's|its|he|he's|she|she's|they|they're|we|you|this|that|that's|these|those"
    r"|there|there's|the|an?|because|since|as|if|for|in|on|at|to|from|not|and|or|but|yes|sorry)\b"
)
_NOUN = re.compile(
    r"\b((?:there(?:'s| is| are| was| were)|has|(?<!\bi )have|had|with|see) no"
    r" (?!(?:way|idea|answer|comment|problem|reason|information|choice|one)\b"
    r"|(?:picture|photo)s? (?:attached|provided|given)\b))"
    rf"|\bno (?!{_SENTENCE})(?=\w)"
)
_OPENER = re.compile(
    r"(?:\W*(?:(?:(?:i'm|i am) )?(?:so |very )?sorry|well|oh|ah|hmm|but|so)\b)*\W*"
)
_FIRST = re.compile(r"(yes|no)\b(?![-']\w)\W*")
_WORD = re.compile(r"\b(?:yes|no)\b")
_BOTH = re.compile(r"yes\W+(?:and|or)?\W*no\b|no\W+(?:and|or)?\W*yes\b")
_END = r"(?=\W*$|[.!;])"
_SHORT = re.compile(
    r"(?:it|there|this|that|these|those|they|he|she)"
    r"(?:'s|'re| is| are| was| were| does| do| did| has| have| had)( not|n't)?" + _END
)
_SURE = "(?:absolutely|definitely|certainly|of course)"
_IN_WORDS = {
    "yes": re.compile(rf"{_SURE}\W*$|i think so{_END}"),
    "no": re.compile(
        rf"(?:{_SURE} not|not (?:really|at all)|(?:i'm |i am )?afraid not|i think not"
        rf"|i (?:don't|do not) think so)(?:{_END}|,)"
    ),
}


def are_yes_no(options: tuple[str, str]) -> bool:
    """Return whether options are Yes and No."""
    return {_bare(option) for option in options} == {"yes", "no"}


def with_answers(text: str) -> str:
    """Return a plain text whose words for yes and no are "yes" and "no", and no "no" of a noun."""
    text = _NO.sub("no", _YES.sub("yes", text))
    return _NOUN.sub(lambda found: found[1] or "_ ", text)


def opening_answers(text: str, options: tuple[str, str]) -> set[str]:
    """Return the letters of what a text of `with_answers` begins with: yes, no, or both."""
    text = _OPENER.sub("", text, count=1)
    if _BOTH.match(text):
        return set(LETTERS)
    said = {word for word, pattern in _IN_WORDS.items() if pattern.match(text)}
    first = _FIRST.match(text)
    if short := _SHORT.match(text[first.end() if first else 0 :]):
        said.add("no" if short[1] else "yes")
    if first:
        said.add(first[1])
    elif said:
        said.update(_WORD.findall(text))
    return {LETTERS[[_bare(option) for option in options].index(word)] for word in said}


def _bare(option: str) -> str:
    return plain(option).strip(".!")
