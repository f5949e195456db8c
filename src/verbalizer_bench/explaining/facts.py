"""All that is known of one answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from verbalizer_bench.explaining.asking import Answered
from verbalizer_bench.models.adapters.journal import Response
from verbalizer_bench.tasks.metrics import OUTCOMES, overlap, score


@dataclass(frozen=True)
class Labels:
    """The words that an answer is held to.

    Attributes:
        expected: The one that counts.
        other: The other class's; None for none.
        type: The label type; None where it is not a task's.
    """

    expected: str
    other: str | None = None
    type: str | None = None

    @property
    def words(self) -> list[str]:
        """Return the words that there are."""
        return [word for word in (self.expected, self.other) if word]


@dataclass(frozen=True, repr=False)
class Facts:
    """One answer, from the prompt to its score.

    Attributes:
        title: Whose answer it is.
        place: The run's folder, or the model's arguments.
        why: Why this one; "" where it was named.
        raw: The prompt as the task or the user wrote it; None where not known.
        asked: It as the model class was given it.
        made: It as the model got it, as far as that is told.
        template: How a chat template was applied.
        shown: What images go with it, in words.
        images: Those images, where they are at hand.
        settings: What was asked of the search.
        how: Engine, type and device.
        labels: What the answer is held to; None: nothing.
        response: The response; `ending` is None where it is not known.
        scores: Its scores.
        again: The same asked again; None where it was not. Of a question of one's own, the only
            answer.
        stored: Whether the response is a run's.
        notes: What is to be known besides, a line each.
    """

    title: str
    place: str
    why: str
    raw: str | None
    asked: str
    made: Answered
    template: str
    shown: str
    settings: Mapping[str, Any]
    how: str
    labels: Labels | None
    response: Response
    scores: Mapping[str, float]
    images: Sequence[Image.Image] = ()
    again: Answered | None = None
    stored: bool = True
    notes: Sequence[str] = field(default=())

    @property
    def outcome(self) -> str | None:
        """Return what the response did; None without label words."""
        if self.labels is None or self.labels.other is None:
            return None
        return next((name for name in OUTCOMES if self.scores.get(name)), None)

    @property
    def same(self) -> bool | None:
        """Say whether the response is the same when asked again; None where it was not."""
        if self.again is None or not self.stored or self.again.response is None:
            return None
        return self.again.response.text == self.response.text


def scores_of(labels: Labels | None, response: str) -> dict[str, float]:
    """Return the scores of a response to a question of one's own; none where nothing is expected.

    With one label word and no other it has F1 and exact match alone.
    """
    if labels is None:
        return {}
    made = score(labels.expected, labels.other or "", response)
    if labels.other is None:
        return {name: made[name] for name in ("f1", "exact_match")}
    return made


def counted(labels: Labels, response: str) -> dict[str, list[str]]:
    """Return the tokens that F1 counts: of the expected word, of the response, of both."""
    gold, said, common = overlap(labels.expected, response)
    return {"expected": gold, "response": said, "common": list(common.elements())}
