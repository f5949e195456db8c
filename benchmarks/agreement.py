"""Whether one way to generate is worse than another: paired, against a reference.

The reference is `generate` in float32, one prompt at a time. Low precision approximates it,
whoever computes it, so the question is how often the engine in low precision gives the reference's
tokens, and how often `generate` does in the same precision.

The rule: the engine is *worse* if it agrees on fewer prompts, and the one-sided p of McNemar's
exact test for that is below 0.05.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from verbalizer_bench.results.statistics import Interval, estimate
from verbalizer_bench.tasks.metrics import token_f1

SIGNIFICANCE = 0.05
# A label type's share in All, over its share of the prompts: three types, 3, 6 and 3 verbalizers.
_TYPE_WEIGHTS = {"natural": 4 / 3, "neutral": 2 / 3, "unnatural": 4 / 3}
_HEAVIEST = max(_TYPE_WEIGHTS.values())


class AskedDocument(NamedTuple):
    """A document of a data set, asked with one verbalizer."""

    task: str
    dataset: str
    label_type: str
    prompt: str
    target: str


class Agreement(NamedTuple):
    """How engine and `generate` stand to the reference, prompt by prompt.

    Attributes:
        prompts: How many were asked.
        engine: On how many the engine gives the reference's tokens.
        generate: On how many `generate` does.
        only_engine: On how many the engine alone does.
        only_generate: On how many `generate` alone does.
    """

    prompts: int
    engine: int
    generate: int
    only_engine: int
    only_generate: int

    @property
    def p_worse(self) -> float:
        """Return McNemar's exact one-sided p that the engine agrees as often or more."""
        return _sign_test(self.only_generate, self.only_engine, "greater")

    @property
    def p_differs(self) -> float:
        """Return McNemar's exact two-sided p."""
        return _sign_test(self.only_generate, self.only_engine, "two-sided")

    @property
    def worse(self) -> bool:
        """Return whether the engine is worse by the rule of this module."""
        return self.p_worse < SIGNIFICANCE


def _sign_test(one: int, other: int, alternative: str) -> float:
    if not one + other:
        return 1.0
    return float(binomtest(one, one + other, alternative=alternative).pvalue)


def agreement(
    reference: Sequence[Sequence[int]],
    engine: Sequence[Sequence[int]],
    generate: Sequence[Sequence[int]],
) -> Agreement:
    """Compare the tokens of two ways to generate with the reference's, prompt by prompt."""
    pairs = [
        (list(ours) == list(wanted), list(plain) == list(wanted))
        for wanted, ours, plain in zip(reference, engine, generate, strict=True)
    ]
    return Agreement(
        prompts=len(pairs),
        engine=sum(ours for ours, _ in pairs),
        generate=sum(plain for _, plain in pairs),
        only_engine=sum(ours and not plain for ours, plain in pairs),
        only_generate=sum(plain and not ours for ours, plain in pairs),
    )


def f1_difference(
    asked: Sequence[AskedDocument], engine: Sequence[str], generate: Sequence[str]
) -> Interval:
    """Return All of the engine minus All of `generate`, with its 95 % interval over documents.

    Every data set has as many documents, spread evenly over the twelve verbalizers; each document
    is asked once. All is the mean of the label types' F1, as the suite has it.
    """
    differences: dict[str, list[float]] = {}
    for document, ours, plain in zip(asked, engine, generate, strict=True):
        difference = token_f1(document.target, ours) - token_f1(document.target, plain)
        # At most 1, which is the most that `estimate` knows of.
        share = _TYPE_WEIGHTS[document.label_type] / _HEAVIEST
        differences.setdefault(document.dataset, []).append(share * difference)
    clusters = {name: np.array(values)[:, None] for name, values in differences.items()}
    weights = np.full((len(clusters), 1), _HEAVIEST / len(clusters))
    (interval,) = estimate(clusters, weights, lowest=-1.0)
    return interval


def f1(asked: Sequence[AskedDocument], responses: Sequence[str]) -> float:
    """Return All: the mean over label types of F1."""
    scores = [
        _TYPE_WEIGHTS[document.label_type] * token_f1(document.target, response)
        for document, response in zip(asked, responses, strict=True)
    ]
    return float(np.mean(scores))
