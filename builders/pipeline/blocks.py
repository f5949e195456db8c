"""Blocks of data recipes: which images, captions and instructions, and what is filtered."""

from dataclasses import dataclass
from pathlib import Path

from verbalizer_bench.config import OneOrMore, check


@dataclass(frozen=True)
class Images:
    """Which images are taken: the first n by the sha256 of seed and name, with any library version.

    A greater n keeps the images of a smaller one, so that more can be added later.

    Attributes:
        folder: Where the files are; images' names are relative to it.
        annotations: COCO JSON (its `images`), or JSON lines with `image`; None: all in the folder.
        boxes: COCO instances JSON, for llava_style; JSON lines have boxes in `instances`.
        n: How many; None: all.
        seed: Of the choice.
        captions: Whether the annotations' captions are used instead of a model's.
    """

    folder: Path
    annotations: Path | None = None
    boxes: Path | None = None
    n: int | None = None
    seed: int = 0
    captions: bool = False

    def __post_init__(self) -> None:
        check("images.n", self.n, self.n is None or self.n >= 1, "at least 1")
        if self.captions and not self.annotations:
            raise ValueError("images.captions=True: give images.annotations, which has them")


@dataclass(frozen=True)
class Captions:
    """Images that come with captions, after those that a model captions.

    Attributes:
        file: COCO captions JSON, or JSON lines with `image` and `caption` or `captions`.
        n: How many images, chosen as `Images` are; None: all.
        seed: Of the choice.
    """

    file: Path
    n: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Instructions:
    """Which of IFEval's instructions are drawn.

    Attributes:
        n: How many of its 834; some share type and arguments, which keeps IFEval's proportions.
        filter: Types, or the groups before the colon.
        seed: Of the choice.
    """

    n: int = 100
    filter: OneOrMore[str] = ("detectable_format",)
    seed: int = 0

    def __post_init__(self) -> None:
        check("instructions.n", self.n, self.n >= 1, "at least 1")


@dataclass(frozen=True)
class Duplicates:
    """When two questions of a set are near-duplicates: the later one is dropped.

    Attributes:
        method: How candidate pairs are found: `minhash`, or `ngram`, which finds all but is slower.
        threshold: The Jaccard similarity of the sets of word n-grams that makes duplicates.
        n: Words of an n-gram.
    """

    method: str = "minhash"
    threshold: float = 0.9
    n: int = 3

    def __post_init__(self) -> None:
        known = ("minhash", "ngram")
        check("duplicates.method", self.method, self.method in known, f"one of {', '.join(known)}")
        right = 0 < self.threshold <= 1
        check("duplicates.threshold", self.threshold, right, "above 0, at most 1")
        check("duplicates.n", self.n, self.n >= 1, "at least 1")


@dataclass(frozen=True)
class Leakage:
    """Evaluation data that no record may share words with.

    Attributes:
        n: Words in a row, normalised, that are too many; a shorter document is found whole, from
            five words on.
        data: `hub`, `sample`, a folder as for `--data`, or `none`; None: as for `--data`, the
            environment's, else the hub.
    """

    n: int = 13
    data: str | None = None

    def __post_init__(self) -> None:
        check("leakage.n", self.n, self.n >= 1, "at least 1")
