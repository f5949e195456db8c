"""Answers that obey, or break, an instruction of each of IFEval's types."""

from collections.abc import Mapping
from typing import Any

ENGLISH = "There is a brown dog that runs over the green grass of a large park in the morning"
LANGUAGES = {
    "en": ENGLISH,
    "de": "Der braune Hund läuft am Morgen über die grüne Wiese und freut sich sehr darüber.",
    "hi": "सुबह एक भूरा कुत्ता हरी घास पर दौड़ता है और बहुत खुश है।",
}


def obey(kind: str, arguments: Mapping[str, Any], question: str, about: str = ENGLISH) -> str:
    """Return an answer that the verifier of the type accepts."""
    kind, given = kind.partition(":")[2], dict(arguments)
    at_least = "at least" in (given.get("relation"), given.get("let_relation"))
    answers = {
        "number_highlighted_sections": lambda: " and ".join(
            f"*{about} {number}*" for number in range(given["num_highlights"])
        ),
        "title": lambda: f"<<{about}>>\n{about}.",
        "number_bullet_lists": lambda: "\n".join(
            f"* {about} {number}" for number in range(given["num_bullets"])
        ),
        "json_format": lambda: f'{{"answer": "{about}"}}',
        "multiple_sections": lambda: "\n".join(
            f"{given['section_spliter']} {number + 1}\n{about}"
            for number in range(given["num_sections"])
        ),
        "constrained_response": lambda: "My answer is yes.",
        "existence": lambda: f"{about} {' '.join(given['keywords'])}",
        "frequency": lambda: (
            " ".join([about, *[given["keyword"]] * given["frequency"]]) if at_least else "So."
        ),
        "forbidden_words": lambda: "So it goes.",
        "letter_frequency": lambda: given["letter"] * given["let_frequency"] if at_least else "-",
        "response_language": lambda: LANGUAGES[given["language"]],
        "number_paragraphs": lambda: "\n***\n".join([about] * given["num_paragraphs"]),
        "number_words": lambda: "word " * given["num_words"] if at_least else "So.",
        "nth_paragraph_first_word": lambda: "\n\n".join(
            [f"{given['first_word']} {about}"] * given["num_paragraphs"]
        ),
        "number_placeholders": lambda: "[name] " * given["num_placeholders"],
        "postscript": lambda: f"{about}\n{given['postscript_marker']} {about}",
        "two_responses": lambda: f"{about} one\n******\n{about} two",
        "repeat_prompt": lambda: f"{question}\n{about}",
        "end_checker": lambda: f"{about}. {given['end_phrase']}",
        "english_capital": lambda: ENGLISH.upper(),
        "english_lowercase": lambda: ENGLISH.lower(),
        "no_comma": lambda: about,
        "quotation": lambda: f'"{about}"',
    }
    return answers[kind]()


def defy(kind: str, arguments: Mapping[str, Any]) -> str:
    """Return an answer that it does not accept."""
    kind, given = kind.partition(":")[2], dict(arguments)
    at_least = "at least" in (given.get("relation"), given.get("let_relation"))
    answers = {
        "frequency": lambda: "So." if at_least else f"{given['keyword']} " * 50,
        "forbidden_words": lambda: f"So, {given['forbidden_words'][0]} it is.",
        "letter_frequency": lambda: "-" if at_least else given["letter"] * 500,
        "response_language": lambda: LANGUAGES["de" if given["language"] != "de" else "en"],
        "number_paragraphs": lambda: "\n***\n".join("So." for _ in range(20)),
        "number_words": lambda: "So." if at_least else "word " * 2000,
        "no_comma": lambda: "Well, no.",
        "english_lowercase": lambda: ENGLISH.upper(),
        "english_capital": lambda: ENGLISH.lower(),
    }
    return answers.get(kind, lambda: "Well, this is in no form at all.")()
