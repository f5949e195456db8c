"""Scenes of one or two coloured shapes on 32 pixels: all there are, drawn, described, asked about.

Objects stand in the four quarters of a white, black or gray square.
"""

import hashlib
from functools import cache
from itertools import combinations, permutations, product
from random import Random
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

from verbalizer_bench.experiments.miniature.world.splits import split_of

SIDE = 32
COLOURS = {
    "red": (220, 40, 40),
    "blue": (40, 60, 220),
    "green": (40, 170, 60),
    "yellow": (235, 220, 40),
    "purple": (140, 50, 170),
    "orange": (245, 140, 30),
}
SHAPES = ("circle", "square", "triangle", "cross")
PLACES = ("top left", "top right", "bottom left", "bottom right")
BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "gray": (128, 128, 128)}


class Thing(NamedTuple):
    """A coloured shape in a quarter of the image."""

    colour: str
    shape: str
    place: str


class Scene(NamedTuple):
    """One or two things, in the order of their places, on a background."""

    background: str
    things: tuple[Thing, ...]

    @property
    def name(self) -> str:
        """The scene in one word, which is its image's file name too."""
        parts = ["-".join(thing).replace(" ", "-") for thing in self.things]
        return "_".join([self.background, *parts])


class Question(NamedTuple):
    """A question of a scene with its answer as a sentence, in few words, and one wrong answer."""

    text: str
    sentence: str
    short: str
    wrong: str


@cache
def scenes(split: str) -> tuple[tuple[Scene, ...], tuple[Scene, ...]]:
    """Return a split's scenes of one thing and of two; colours and shapes of two differ."""
    one = [((colour,), (shape,), (place,)) for colour, shape, place in _choices(1)]
    two = list(_choices(2))
    kinds = []
    for kind in (one, two):
        things = [tuple(Thing(*parts) for parts in zip(*chosen, strict=True)) for chosen in kind]
        every = [Scene(background, chosen) for background in BACKGROUNDS for chosen in things]
        kinds.append(tuple(scene for scene in every if split_of(scene.name) == split))
    return kinds[0], kinds[1]


def _choices(number: int) -> list[Any]:
    """Return (colours, shapes, places) of so many things; places are in a fixed order."""
    if number == 1:
        return list(product(COLOURS, SHAPES, PLACES))
    pairs = permutations(COLOURS, number), permutations(SHAPES, number)
    return list(product(*pairs, combinations(PLACES, number)))


def draw_scene(random: Random, split: str) -> Scene:
    """Choose a scene of a split; one in three has one thing."""
    one, two = scenes(split)
    return random.choice(one if random.random() < 1 / 3 else two)


def picture(scene: Scene) -> Image.Image:
    """Draw a scene; where in its quarter a thing stands depends on the scene alone."""
    image = Image.new("RGB", (SIDE, SIDE), BACKGROUNDS[scene.background])
    pen = ImageDraw.Draw(image)
    shifts = hashlib.sha256(scene.name.encode()).digest()
    for number, thing in enumerate(scene.things):
        left = (16 if "right" in thing.place else 0) + shifts[2 * number] % 5
        top = (16 if "bottom" in thing.place else 0) + shifts[2 * number + 1] % 5
        _draw(pen, thing.shape, left, top, COLOURS[thing.colour])
    return image


def _draw(
    pen: ImageDraw.ImageDraw, shape: str, left: int, top: int, fill: tuple[int, int, int]
) -> None:
    right, bottom = left + 11, top + 11
    if shape == "circle":
        pen.ellipse((left, top, right, bottom), fill)
    elif shape == "square":
        pen.rectangle((left + 1, top + 1, right - 1, bottom - 1), fill)
    elif shape == "triangle":
        pen.polygon([((left + right) // 2, top), (right, bottom), (left, bottom)], fill)
    else:
        pen.rectangle((left + 4, top, left + 7, bottom), fill)
        pen.rectangle((left, top + 4, right, top + 7), fill)


def caption(random: Random, scene: Scene) -> str:
    """Describe a scene in one of two ways."""
    things = " and ".join(f"a {t.colour} {t.shape} in the {t.place}" for t in scene.things)
    return random.choice(
        (
            f"The image shows {things}, on a {scene.background} background.",
            f"There is {things} on a {scene.background} background.",
        )
    )


def question(random: Random, scene: Scene) -> Question:
    """Ask something of a scene: colour, shape, place, background, number, or yes or no."""
    thing, kind = random.choice(scene.things), random.randrange(6)
    colour, shape, place = thing

    def other(known: tuple[str, ...] | dict[str, tuple[int, int, int]], right: str) -> str:
        return random.choice([word for word in known if word != right])

    if kind == 0:
        asked, told = f"What color is the {shape}?", f"The {shape} in the image is {colour}."
        return Question(asked, told, colour, other(COLOURS, colour))
    if kind == 1:
        asked, told = f"What shape is in the {place}?", f"The shape in the {place} is a {shape}."
        return Question(asked, told, shape, other(SHAPES, shape))
    if kind == 2:
        asked, told = f"Where is the {shape}?", f"The {shape} is in the {place} of the image."
        return Question(asked, told, place, other(PLACES, place))
    if kind == 3:
        told = f"The background of the image is {scene.background}."
        wrong = other(BACKGROUNDS, scene.background)
        return Question("What color is the background?", told, scene.background, wrong)
    if kind == 4:
        asked = "How many shapes are in the image?"
        if len(scene.things) == 1:
            return Question(asked, "There is one shape in the image.", "one", "two")
        return Question(asked, "There are two shapes in the image.", "two", "one")
    guess = colour if random.random() < 0.5 else random.choice(tuple(COLOURS))
    asked = f"Is there a {guess} {shape} in the image?"
    if guess == colour:
        return Question(asked, f"Yes, there is a {guess} {shape} in the image.", "yes", "no")
    return Question(asked, f"No, there is no {guess} {shape} in the image.", "no", "yes")
