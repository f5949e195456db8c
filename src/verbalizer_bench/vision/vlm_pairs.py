"""MMVP-VLM: does a model of images and texts tell the two images of a pair apart?

The text is "a photo of " and the statement. The paper's direction is from statement to image: each
statement has to prefer its own image, and a pair is right if both do. The other, each image its own
statement, stands beside it. A tie is wrong. By chance a quarter of the pairs is right.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.images import readable_image
from verbalizer_bench.models.adapters.fingerprints import settings_sha256, tokenizer_sha256
from verbalizer_bench.models.checkpoints.strict_loading import load_whole, reading
from verbalizer_bench.models.checkpoints.weight_hash import weights_sha256
from verbalizer_bench.results.statistics import Interval, estimate
from verbalizer_bench.results.tables import markdown_table
from verbalizer_bench.version import __version__
from verbalizer_bench.vision.correlation import Correlation
from verbalizer_bench.vision.towers import rates_both
from verbalizer_bench.vision.vlm_benchmark import StatementPair, VlmBenchmark

PREFIX = "a photo of "
RESULT, TABLE = "result.json", "table.md"
DIRECTIONS = ("statement to image", "image to statement")
TITLES = {
    DIRECTIONS[0]: "Each statement prefers its image (the paper's direction)",
    DIRECTIONS[1]: "Each image prefers its statement",
}
# SigLIP was trained on texts that are filled up to its longest, without a mask.
_FILLED_UP = ("siglip", "siglip2")


class VisionLanguageModel(NamedTuple):
    """A model of images and texts.

    Attributes:
        name: Its folder, or its id at the hub.
        model: CLIP or one of its kin.
        tokenizer: Of texts.
        image_processor: Of images.
    """

    name: str
    model: Any
    tokenizer: Any
    image_processor: Any

    @property
    def longest(self) -> int:
        """Return the most tokens that a text may have."""
        return int(self.model.config.text_config.max_position_embeddings)

    def texts(self, statements: Sequence[str]) -> dict[str, Any]:
        """Return what the model is given of statements."""
        filled = self.model.config.model_type in _FILLED_UP
        encoded = self.tokenizer(
            [PREFIX + statement for statement in statements],
            padding="max_length" if filled else True,
            truncation=True,
            max_length=self.longest,
            return_tensors="pt",
        )
        return {key: encoded[key] for key in ("input_ids", "attention_mask") if key in encoded}

    def tokens(self, statement: str) -> int:
        """Return how many tokens a statement has, uncut."""
        return len(self.tokenizer(PREFIX + statement)["input_ids"])

    def logits(self, pair: StatementPair) -> list[list[float]]:
        """Return the logits of a pair: a row for each statement, a column for each image.

        Raises:
            ValueError: An image cannot be read.
        """
        images = [readable_image(file) for file in pair.images]
        pixels = self.image_processor(images=images, return_tensors="pt")
        given = {**self.texts(pair.statements), **pixels}
        kinds = {key: self._placed(value) for key, value in given.items()}
        with torch.inference_mode():
            logits: list[list[float]] = self.model(**kinds).logits_per_text.float().tolist()
        return logits

    def _placed(self, value: torch.Tensor) -> torch.Tensor:
        kind = self.model.dtype if value.is_floating_point() else value.dtype
        return value.to(self.model.device, kind)


def check_rates_both(name: str) -> None:
    """Raise ValueError for a checkpoint that is none of images and texts; loads no weights."""
    what = f"--model {name}"
    with reading(what):
        config = AutoConfig.from_pretrained(name)
    if not rates_both(config):
        raise ValueError(
            f"{what}: a checkpoint of the type {config.model_type} is no CLIP or SigLIP, which "
            "rate images and texts; give a CLIP, SigLIP, SigLIP 2 or OpenCLIP checkpoint in "
            "transformers' form"
        )


def load_model(name: str, device: str = "cpu", dtype: str = "float32") -> VisionLanguageModel:
    """Load a model of images and texts, all of it.

    Raises:
        ValueError: It cannot be loaded, or gives no logits of images and texts.
    """
    what = f"--model {name}"
    check_rates_both(name)
    with reading(what):
        tokenizer = AutoTokenizer.from_pretrained(name)
        image_processor = AutoImageProcessor.from_pretrained(name)
    model = load_whole(AutoModel, name, what, dtype=getattr(torch, dtype))
    return VisionLanguageModel(name, model.to(device).eval(), tokenizer, image_processor)


class Judged(NamedTuple):
    """What a model makes of a pair.

    Attributes:
        pair: The pair.
        logits: A row for each statement, a column for each image.
    """

    pair: StatementPair
    logits: tuple[tuple[float, float], tuple[float, float]]

    def is_right(self, direction: str) -> bool:
        """Return whether both statements prefer their image, or both images their statement."""
        (a, b), (c, d) = self.logits
        return (a > b and d > c) if direction == DIRECTIONS[0] else (a > c and d > b)


class ModelScores(NamedTuple):
    """A model's scores.

    Attributes:
        model: What was scored.
        judged: Each pair.
        means: By direction the mean over patterns.
        patterns: By direction and pattern the share of pairs.
        cut: Statements that are longer than the model takes: Question ID and tokens.
    """

    model: Mapping[str, Any]
    judged: tuple[Judged, ...]
    means: Mapping[str, Interval]
    patterns: Mapping[str, Mapping[str, Interval]]
    cut: Mapping[str, int]

    @property
    def name(self) -> str:
        """Return the model's name."""
        return str(self.model["model"])

    def record(self) -> dict[str, Any]:
        """Return what a result has of them."""
        scores = {
            direction: {
                **_percent(self.means[direction]),
                "patterns": {name: _percent(s) for name, s in self.patterns[direction].items()},
            }
            for direction in DIRECTIONS
        }
        pairs = [
            {
                "ids": one.pair.ids,
                "pattern": one.pair.pattern,
                "logits": one.logits,
                **{direction: one.is_right(direction) for direction in DIRECTIONS},
            }
            for one in self.judged
        ]
        return {**self.model, "scores": scores, "cut": dict(self.cut), "pairs": pairs}


def score(model: VisionLanguageModel, benchmark: VlmBenchmark) -> ModelScores:
    """Score a model on all pairs.

    Raises:
        ValueError: An image cannot be read, or logits are not finite.
    """
    judged = []
    for pair in tqdm(benchmark.pairs, desc=model.name, unit="pair"):
        (a, b), (c, d) = model.logits(pair)
        if not all(-float("inf") < value < float("inf") for value in (a, b, c, d)):
            raise ValueError(
                f"--model {model.name}: its logits of {' and '.join(pair.ids)} are not finite; "
                "give another --dtype, or the checkpoint as it was trained"
            )
        judged.append(Judged(pair, ((a, b), (c, d))))
    found = {direction: _shares(judged, benchmark.patterns, direction) for direction in DIRECTIONS}
    lengths = {
        number: model.tokens(statement)
        for pair in benchmark.pairs
        for number, statement in zip(pair.ids, pair.statements, strict=True)
    }
    return ModelScores(
        _record(model),
        tuple(judged),
        {direction: mean for direction, (mean, _) in found.items()},
        {direction: patterns for direction, (_, patterns) in found.items()},
        {number: count for number, count in lengths.items() if count > model.longest},
    )


def _shares(
    judged: Sequence[Judged], patterns: Sequence[str], direction: str
) -> tuple[Interval, dict[str, Interval]]:
    """Return the mean over patterns of the share of pairs that are right, and the share of each."""
    tables = {
        name: np.array([[one.is_right(direction)] for one in judged if one.pair.pattern == name])
        for name in patterns
    }
    count = len(tables)
    weights = np.column_stack([np.full(count, 1 / count), np.eye(count)])
    clusters = {name: table.astype(float) for name, table in tables.items()}
    mean, *each = estimate(clusters, weights)
    return mean, dict(zip(patterns, each, strict=True))


def _percent(share: Interval) -> dict[str, Any]:
    ends = [round(100 * end, 2) for end in (share.low, share.high) if end is not None]
    return {"mean": round(100 * share.mean, 2), "interval": ends or None}


def _record(model: VisionLanguageModel) -> dict[str, Any]:
    return {
        "model": model.name,
        "class": type(model.model).__name__,
        "weights": weights_sha256(model.name),
        "tokenizer": tokenizer_sha256(model.tokenizer),
        "processor": settings_sha256(model.image_processor.to_dict()),
        "dtype": str(model.model.dtype).removeprefix("torch."),
        "longest_text": model.longest,
    }


def table(scored: Sequence[ModelScores], benchmark: VlmBenchmark) -> str:
    """Return the scores of models by pattern, a table a direction."""
    parts = []
    for direction in DIRECTIONS:
        rows = [
            [name, *(str(one.patterns[direction][name]) for one in scored)]
            for name in benchmark.patterns
        ]
        rows.append(["Mean", *(str(one.means[direction]) for one in scored)])
        parts += [f"{TITLES[direction]}; pairs right in %:", ""]
        parts += [markdown_table(["Pattern", *(one.name for one in scored)], rows), ""]
    for one in scored:
        if one.cut:
            number, count = next(iter(one.cut.items()))
            parts.append(
                f"{one.name}: {len(one.cut)} statements are cut at {one.model['longest_text']} "
                f"tokens, such as {number} of {count}."
            )
    return "\n".join(parts).rstrip() + "\n"


def check_new(output: Path) -> None:
    """Raise FileExistsError where a folder holds a result."""
    if (output / RESULT).exists():
        raise FileExistsError(f"{output / RESULT}: it is there already; give a new folder")


def write_scores(
    scored: Sequence[ModelScores],
    benchmark: VlmBenchmark,
    output: Path,
    correlations: Sequence[Correlation] = (),
) -> Path:
    """Write `result.json` and `table.md`; return the first.

    Args:
        scored: The models.
        benchmark: What they were scored on.
        output: The folder.
        correlations: With runs of models that see by them.
    """
    record = {
        "benchmark": "mmvp-vlm",
        "verbalizer-bench": __version__,
        "questions_sha256": benchmark.sha256,
        "pairs": len(benchmark.pairs),
        "prefix": PREFIX,
        "models": [one.record() for one in scored],
        "correlations": [one.record() for one in correlations],
    }
    lines = [*benchmark.lines(), table(scored, benchmark), *(one.line() for one in correlations)]
    write_whole(output / TABLE, "\n".join(lines).rstrip() + "\n")
    write_whole(output / RESULT, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return output / RESULT
