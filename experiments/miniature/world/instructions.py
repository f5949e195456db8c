"""Pairs of instruction records: one scene, question and content, with and without a format.

Of each item there are four records, `foit`, `nofoit`, `fovit` and `nofovit`: with a format
instruction and the answer in that format, or with neither and the answer as a sentence; about a
caption or about the image. A fifth kind, `llava`, has several turns in sentences (LLaVA-Instruct).
"""

from random import Random
from typing import Any, NamedTuple, Protocol

from verbalizer_bench.experiments.miniature.world.scenes import (
    Question,
    Scene,
    caption,
    draw_scene,
    question,
)
from verbalizer_bench.experiments.miniature.world.words import WORDS

ARMS = ("foit", "nofoit", "fovit", "nofovit")


class Format(NamedTuple):
    """A format as it is asked for and as an answer in it looks.

    Attributes:
        wordings: Ways to ask; `{word}` is any word, `{one}` and `{other}` are two answers.
        answer: The answer; `{sentence}`, `{short}` and `{word}` are filled in.
        check: IFEval's name of the verifier that tests it, None where IFEval has none.
    """

    wordings: tuple[str, ...]
    answer: str
    check: str | None = None


FORMATS = {
    "phrase": Format(
        (
            "Answer the question using a single word or phrase.",
            "Give only the short answer and nothing else.",
        ),
        "{short}",
    ),
    "uppercase": Format(
        ("Your entire answer must be in capital letters.", "Write in all uppercase."),
        "{upper}",
        "change_case:english_capital",
    ),
    "lowercase": Format(
        ("Use only lowercase letters in your whole answer.", "No capital letters are allowed."),
        "{lower}",
        "change_case:english_lowercase",
    ),
    "json": Format(
        ("Your entire output must be in JSON format.", "Reply in JSON."),
        '{{"answer": "{short}"}}',
        "detectable_format:json_format",
    ),
    "quotation": Format(
        ("Wrap your entire answer with double quotation marks.",),
        '"{sentence}"',
        "startend:quotation",
    ),
    "end": Format(
        (
            'Finish your answer with the exact word "{word}". No other words should follow it.',
            'The last word of your answer must be "{word}".',
        ),
        "{sentence} {word}",
        "startend:end_checker",
    ),
    "start": Format(
        (
            'Start your answer with the word "{word}".',
            'The first word of your answer should be "{word}".',
        ),
        "{word} {sentence}",
    ),
    "bullet": Format(
        ("Your answer must be exactly one bullet point, starting with *.",),
        "* {short}",
        "detectable_format:number_bullet_lists",
    ),
    "keyword": Format(
        ('Include the keyword "{word}" in your answer in parentheses at the end.',),
        "{sentence} ({word})",
        "keywords:existence",
    ),
    "title": Format(
        ("Give your answer a title wrapped in double angular brackets.",),
        "<<{short}>>",
        "detectable_format:title",
    ),
    "choice": Format(
        ('Answer with one of the following options: "{one}", "{other}".',),
        "{short}",
    ),
    "plain": Format(("Do not use any punctuation in your answer.",), "{bare}"),
}


class Pictured(Protocol):
    """A scene of whatever kind, whose name is its image's too."""

    @property
    def name(self) -> str:
        """The scene in one word."""


class Item(NamedTuple):
    """A scene with what is said and asked of it, and a format."""

    scene: Pictured
    caption: str
    question: Question
    format: str
    instruction: str
    formatted: str
    word: str


def draw_item(random: Random, split: str) -> Item:
    """Make an item of a split's scenes."""
    scene = draw_scene(random, split)
    told, asked = caption(random, scene), question(random, scene)
    return formatted_item(random, scene, told, asked)


def formatted_item(random: Random, scene: Pictured, told: str, asked: Question) -> Item:
    """Give what is said and asked of a scene a format."""
    name = random.choice(tuple(FORMATS))
    word = random.choice(WORDS)
    one, other = random.sample((asked.short, asked.wrong), 2)
    instruction = random.choice(FORMATS[name].wordings).format(word=word, one=one, other=other)
    formatted = FORMATS[name].answer.format(
        sentence=asked.sentence,
        short=asked.short,
        word=word,
        upper=asked.sentence.upper(),
        lower=asked.sentence.lower(),
        bare=asked.sentence.replace(",", "").rstrip("."),
    )
    return Item(scene, told, asked, name, instruction, formatted, word)


def record(item: Item, arm: str) -> dict[str, Any]:
    """Return an item's record of an arm, in LLaVA's layout; a fact of it that needs no model.

    `format` names the format, `check` IFEval's verifier and its arguments where it has one.
    """
    with_format, with_image = not arm.startswith("no"), arm.endswith("vit")
    asked, answer = item.question.text, item.question.sentence
    if with_format:
        asked, answer = f"{item.instruction}\n{asked}", item.formatted
    context = "<image>" if with_image else f"Caption: {item.caption}"
    made = record_of(item.scene, [(f"{context}\n{asked}", answer)], with_image)
    return made | (
        {"format": item.format, "check": _check(item), "short": item.question.short}
        if with_format
        else {}
    )


def dialogue(random: Random, split: str) -> dict[str, Any]:
    """Return a LLaVA-Instruct-like record: a description or two questions, all in sentences."""
    scene = draw_scene(random, split)
    if random.random() < 1 / 3:
        asked = random.choice(("Describe the image.", "What does the image show?"))
        return record_of(scene, [(f"<image>\n{asked}", caption(random, scene))], image=True)
    first, second = question(random, scene), question(random, scene)
    turns = [(f"<image>\n{first.text}", first.sentence), (second.text, second.sentence)]
    return record_of(scene, turns, image=True)


def captioned(random: Random, scene: Scene) -> dict[str, Any]:
    """Return a scene's image and caption as a record."""
    return record_of(scene, [("<image>", caption(random, scene))], image=True)


def record_of(scene: Pictured, turns: list[tuple[str, str]], image: bool) -> dict[str, Any]:
    """Return turns about a scene as a record, in LLaVA's layout."""
    said = [
        {"from": speaker, "value": text}
        for turn in turns
        for speaker, text in zip(("human", "gpt"), turn, strict=True)
    ]
    shown = {"image": f"{scene.name}.png"} if image else {}
    return {"id": scene.name} | shown | {"conversations": said}


def _check(item: Item) -> dict[str, Any] | None:
    name = FORMATS[item.format].check
    if name is None:
        return None
    arguments: dict[str, dict[str, Any]] = {
        "end": {"end_phrase": item.word},
        "bullet": {"num_bullets": 1},
        "keyword": {"keywords": [item.word]},
    }
    return {"instruction_id": name, "kwargs": arguments.get(item.format, {})}
