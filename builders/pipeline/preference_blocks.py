"""Blocks of recipes of preference data: prompts, completions, judge, and which pairs are made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verbalizer_bench.config import check

ADAPTERS = ("verbalizer-llm", "verbalizer-lvlm")


@dataclass(frozen=True)
class PromptRecords:
    """Records whose prompts are asked: the first n by the sha256 of seed, name and place.

    Attributes:
        file: `.json` with a list, or `.jsonl`: LLaVA's layout, `messages`, or `question`.
        images: Folder of their images, below the recipe's `images`; "": that folder itself.
        n: How many; None: all.
        seed: Of the choice.
        turn: Which question of a conversation is asked: the `last`, after the turns before it with
            their answers, or the `first` alone.
    """

    file: Path
    images: str = ""
    n: int | None = None
    seed: int = 0
    turn: str = "last"

    def __post_init__(self) -> None:
        check("n", self.n, self.n is None or self.n >= 1, "at least 1")
        check("turn", self.turn, self.turn in ("first", "last"), "first or last")


@dataclass(frozen=True)
class LocalCheckpoint:
    """A checkpoint on this machine that is sampled from, loaded as `run` loads it.

    Attributes:
        model: The adapter: `verbalizer-llm` or `verbalizer-lvlm`.
        model_args: Its arguments: `pretrained`, and `dtype`, `device`, `peft` and others.
        temperature: What logits are divided by.
        top_p: The share of the probability that is sampled from; 1: all.
        top_k: The most likely tokens that are sampled from; 0: all.
        max_tokens: New tokens of a completion at most.
        batch_size: Completions that are sampled at once; another one draws others.
    """

    model: str
    model_args: dict[str, Any]
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 1024
    batch_size: int = 8

    def __post_init__(self) -> None:
        known = ", ".join(ADAPTERS)
        self._check("model", self.model in ADAPTERS, f"one of {known}")
        self._check("model_args", "pretrained" in self.model_args, "pretrained is missing")
        for name in ("engine", "image", "batch_size"):
            self._check("model_args", name not in self.model_args, f"{name} cannot be set there")
        self._check("temperature", self.temperature > 0, "above 0")
        self._check("top_p", 0 < self.top_p <= 1, "above 0, at most 1")
        self._check("top_k", self.top_k >= 0, "at least 0")
        for name in ("max_tokens", "batch_size"):
            self._check(name, getattr(self, name) >= 1, "at least 1")

    def _check(self, name: str, right: bool, wanted: str) -> None:
        check(f"completions.checkpoint.{name}", getattr(self, name), right, wanted)


@dataclass(frozen=True)
class Completions:
    """What is sampled for each prompt, from `endpoints.completion` or from a checkpoint here.

    Attributes:
        k: How many.
        seed: Of all of them; each is sent one of its own. None: none is sent, for servers that take
            none.
        cut_off: What becomes of one that is longer than allowed: `drop`, or `keep`, with which it
            is trained, in a pair too, that an answer may end there.
        checkpoint: Sampled from in place of an endpoint.
    """

    k: int = 4
    seed: int | None = 0
    cut_off: str = "drop"
    checkpoint: LocalCheckpoint | None = None

    def __post_init__(self) -> None:
        check("completions.k", self.k, self.k >= 1, "at least 1")
        known = ("drop", "keep")
        check("completions.cut_off", self.cut_off, self.cut_off in known, "drop or keep")
        if self.checkpoint and self.seed is None:
            raise ValueError("completions.seed=None: a checkpoint here needs one; give a number")


@dataclass(frozen=True)
class Judge:
    """How completions are judged, by `endpoints.judge`.

    Attributes:
        seed: Of the order in which a prompt's completions are shown, and of those asked twice.
        twice: The share of prompts that are judged twice, the second time in reverse order.
    """

    seed: int = 0
    twice: float = 0.05

    def __post_init__(self) -> None:
        check("judge.twice", self.twice, 0 <= self.twice <= 1, "from 0 to 1")


@dataclass(frozen=True)
class PairRule:
    """Which two completions of a prompt make a pair: the best and the worst, by their scores.

    Attributes:
        minimum_gap: A pair whose scores (0 to 12) differ by less is dropped.
        length_ratio: The longer answer has at most so many times the characters of the shorter: of
            all two completions for which this holds, those with the widest gap. None: any lengths.
        drop_ties: Whether prompts are dropped in which several completions share the best score, or
            the worst; otherwise the first of them is taken.
        image: Whether pairs have their image; without it they are the control.
    """

    minimum_gap: int = 2
    length_ratio: float | None = None
    drop_ties: bool = False
    image: bool = True

    def __post_init__(self) -> None:
        check("minimum_gap", self.minimum_gap, 1 <= self.minimum_gap <= 12, "from 1 to 12")
        ratio = self.length_ratio
        check("length_ratio", ratio, ratio is None or ratio >= 1, "at least 1")


@dataclass(frozen=True)
class PublishedPairs:
    """Pairs that somebody published: the first n by the sha256 of seed, name and place.

    Attributes:
        file: `.json`, `.jsonl` or `.parquet`, or a folder with several `.parquet`.
        layout: `rlaif_v`, `llava_rlhf`, `llama_factory` or `trl`.
        images: Folder of their images, below the recipe's `images`; images that are in the file
            itself are written there.
        n: How many; None: all.
        seed: Of the choice.
    """

    file: Path
    layout: str
    images: str = ""
    n: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        known = ("rlaif_v", "llava_rlhf", "llama_factory", "trl")
        check("layout", self.layout, self.layout in known, f"one of {', '.join(known)}")
        check("n", self.n, self.n is None or self.n >= 1, "at least 1")
