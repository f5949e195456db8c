"""Names that people read: none that looks like another one, or like nothing.

In the spirit of Unicode Technical Standard 39: what compatibility forms change, what is not seen,
and words of several scripts are refused. A whole word in one script that resembles a word in
another cannot be told from an honest one.
"""

import re
import unicodedata

# Letters without a form of their own that is seen, beside the categories below.
_BLANK = {"\u115f", "\u1160", "\u2800", "\u3164", "\uffa0"}
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
    for sign in text:
        if sign in _BLANK or unicodedata.category(sign) in (
            "Cf",
            "Cc",
            "Cn",
            "Co",
            "Cs",
            "Zl",
            "Zp",
        ):
            raise ValueError(f"has a sign that is not seen, U+{ord(sign):04X}; write it without")
        if unicodedata.category(sign) == "Zs" and sign != " ":
            raise ValueError(f"has a space of another kind, U+{ord(sign):04X}; use a plain one")
        if 0xFE00 <= ord(sign) <= 0xFE0F or 0xE0100 <= ord(sign) <= 0xE01EF:
            raise ValueError(f"has a sign that is not seen, U+{ord(sign):04X}; write it without")
        # Canonical forms are the same text; a full-width bracket is only a bracket.
        plain = unicodedata.normalize("NFKC", sign)
        if plain != unicodedata.normalize("NFC", sign) and any(map(str.isalnum, plain)):
            raise ValueError(f"has {sign}, which stands for {plain}; write that")
    for word in re.findall(r"[^\W\d_]+", text):
        scripts = {_script(sign) for sign in word} - {""}
        if len(scripts) > 1 and not scripts <= set(_EAST_ASIAN):
            raise ValueError(f"has a word of several scripts: {' and '.join(sorted(scripts))}")
    return text


def _script(sign: str) -> str:
    """Return the script of a letter by its name in Unicode; empty for marks of any script."""
    if unicodedata.category(sign).startswith(("M", "Lm")):
        return ""
    return unicodedata.name(sign, "UNKNOWN").split(" ")[0].split("-")[0]
