"""Names that people read: none that looks like another one, or like nothing.

In the spirit of Unicode Technical Standard 39: what compatibility forms change, what is not seen,
and words of several scripts are refused. A whole word in one script that resembles a word in
another cannot be told from an honest one.
"""

import re
import unicodedata

# Signs that are not seen, beside the categories below: blank letters and symbols, and marks that
# Unicode calls default-ignorable.
_BLANK = {
    *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0xFFFC, 0x16FE4, 0x1D159),
    *(*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)),
}
# So many marks on one letter cover what stands beside it (Technical Standard 39, 5.4).
_MARKS = 4
# Scripts that one word of Chinese, Japanese or Korean has together, with Latin.
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "LATIN")


def check_name(text: str) -> str:
    """Return the name as it is.

    Raises:
        ValueError: It is blank, or has signs that are not seen, stand for others, or mix scripts
            in a word.
    """
    if text != text.strip() or "  " in text:
        raise ValueError("has space at an end, or two in a row; write it without")
    if not any(map(str.isalnum, text)):
        raise ValueError("has no letter and no digit; write a name")
    marks = 0
    for sign in text:
        kind = unicodedata.category(sign)
        if ord(sign) in _BLANK or kind in ("Cf", "Cc", "Cn", "Co", "Cs", "Zl", "Zp"):
            raise ValueError(f"has a sign that is not seen, U+{ord(sign):04X}; write it without")
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if marks > _MARKS:
            raise ValueError(f"has more than {_MARKS} marks on a letter; write it without")
        if kind == "Zs" and sign != " ":
            raise ValueError(f"has a space of another kind, U+{ord(sign):04X}; use a plain one")
        # Canonical forms are the same text; a full-width bracket is only a bracket.
        plain = unicodedata.normalize("NFKC", sign)
        if plain != unicodedata.normalize("NFC", sign) and any(map(str.isalnum, plain)):
            raise ValueError(f"has {sign}, which stands for {plain}; write that")
    # Marks belong to the letter before, and end no word.
    letters = "".join(sign for sign in text if not unicodedata.category(sign).startswith("M"))
    for word in re.findall(r"[^\W\d_]+", letters):
        scripts = {_script(sign) for sign in word} - {""}
        if len(scripts) > 1 and not scripts <= set(_EAST_ASIAN):
            raise ValueError(f"has a word of several scripts: {' and '.join(sorted(scripts))}")
    return text


def _script(sign: str) -> str:
    """Return the script of a letter by its name in Unicode; empty for letters of any."""
    if unicodedata.category(sign) == "Lm":
        return ""
    return unicodedata.name(sign, "UNKNOWN").split(" ")[0].split("-")[0]
