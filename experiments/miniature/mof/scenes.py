"""Scenes of one coloured triangle that points somewhere, on 32 pixels: drawn, told, asked about.

What a scene has apart from its colour and its direction is its setting: background, place, and
where in its quarter the triangle stands. A split has whole settings, so that scenes that differ in
colour or direction alone are in the same one.
"""

from functools import cache
from itertools import product
from random import Random
from typing import NamedTuple

from PIL import Image, ImageDraw

from verbalizer_bench.experiments.miniature.world.scenes import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SIDE,
    Question,
)
from verbalizer_bench.experiments.miniature.world.splits import split_of

# The corners of the triangle in a square of 11 pixels, the tip first.
DIRECTIONS = {
    "north": ((5, 0), (9, 10), (1, 10)),
    "south": ((5, 10), (9, 0), (1, 0)),
    "west": ((0, 5), (10, 1), (10, 9)),
    "east": ((10, 5), (0, 1), (0, 9)),
}
VALUES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "direction": tuple(DIRECTIONS),
    "place": PLACES,
    "background": tuple(BACKGROUNDS),
}
_SHIFTS = tuple(product(range(5), range(5)))


class Setting(NamedTuple):
    """Where a triangle stands; `shift` is in pixels from its quarter's corner, right and down."""

    background: str
    place: str
    shift: tuple[int, int]


class Scene(NamedTuple):
    """A triangle of a colour that points in a direction, somewhere."""

    setting: Setting
    colour: str
    direction: str

    @property
    def name(self) -> str:
        """The scene in one word, which is its image's file name too."""
        background, place, (right, down) = self.setting
        place = place.replace(" ", "-")
        return f"{background}_{self.colour}-{self.direction}_{place}-{right}-{down}"


@cache
def settings(split: str) -> tuple[Setting, ...]:
    """Return a split's settings."""
    every = (Setting(*parts) for parts in product(BACKGROUNDS, PLACES, _SHIFTS))
    return tuple(setting for setting in every if split_of(repr(tuple(setting))) == split)


@cache
def scenes(split: str) -> tuple[Scene, ...]:
    """Return a split's scenes: each setting with every colour and direction."""
    return tuple(Scene(*parts) for parts in product(settings(split), COLOURS, DIRECTIONS))


def picture(scene: Scene) -> Image.Image:
    """Draw a scene."""
    setting = scene.setting
    image = Image.new("RGB", (SIDE, SIDE), BACKGROUNDS[setting.background])
    left = (16 if "right" in setting.place else 0) + setting.shift[0]
    top = (16 if "bottom" in setting.place else 0) + setting.shift[1]
    corners = [(left + right, top + down) for right, down in DIRECTIONS[scene.direction]]
    ImageDraw.Draw(image).polygon(corners, COLOURS[scene.colour])
    return image


def statement(scene: Scene, direction: bool = True) -> str:
    """Say what is in a scene, with the direction or without."""
    setting = scene.setting
    told = f"a {scene.colour} triangle in the {setting.place} on a {setting.background} background"
    return f"{told}, the point on the {scene.direction}" if direction else told


def caption(random: Random, scene: Scene) -> str:
    """Describe a scene in one of two ways, its direction too."""
    return f"{random.choice(('The image shows', 'There is'))} {statement(scene)}."


def asked(scene: Scene, kind: str, wrong: str) -> Question:
    """Ask for a scene's colour, direction, place or background."""
    right = value(scene, kind)
    text = {
        "colour": "What color is the triangle?",
        "direction": "Where does the triangle point?",
        "place": "Where is the triangle?",
        "background": "What color is the background?",
    }[kind]
    told = {
        "colour": f"The triangle in the image is {right}.",
        "direction": f"The point of the triangle is on the {right}.",
        "place": f"The triangle is in the {right} of the image.",
        "background": f"The background of the image is {right}.",
    }[kind]
    return Question(text, told, right, wrong)


def value(scene: Scene, kind: str) -> str:
    """Return a scene's colour, direction, place or background."""
    setting = scene.setting
    values = {"colour": scene.colour, "direction": scene.direction}
    return (values | {"place": setting.place, "background": setting.background})[kind]


def changed(random: Random, scene: Scene, kind: str) -> Scene:
    """Return a scene with another colour, or another direction."""
    others = [word for word in VALUES[kind] if word != value(scene, kind)]
    word = random.choice(others)
    return scene._replace(colour=word) if kind == "colour" else scene._replace(direction=word)


def question(random: Random, scene: Scene) -> Question:
    """Ask something of a scene; colour and direction twice as often as place and background."""
    kind = random.choices(tuple(VALUES), (2, 2, 1, 1))[0]
    right = value(scene, kind)
    return asked(scene, kind, random.choice([word for word in VALUES[kind] if word != right]))
