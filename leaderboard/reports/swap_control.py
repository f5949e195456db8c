"""What the control with swapped options says: does a model choose what an option says, or a letter?

The same questions are asked twice; the second time what (a) and (b) say is exchanged.
"""

from collections.abc import Iterator, Mapping, Sequence

from verbalizer_bench.results.contrast import same_weights
from verbalizer_bench.results.picture_scores import PictureScores
from verbalizer_bench.tasks.choice_words import LETTERS
from verbalizer_bench.tasks.choices import read_choice

_NOTE = (
    "Options swapped is a control: the same questions with what (a) and (b) say exchanged. Who "
    "goes by what an option says stays with it; who likes a letter stays with the letter."
)
# The letter that was chosen, if one was, by the question's number.
_Chosen = Mapping[int, str | None]


def swap_notes(scores: Sequence[PictureScores]) -> list[str]:
    """Return a line for each model and prompt that was asked both ways, after what it is for.

    Args:
        scores: Of one benchmark.
    """
    lines = [
        _line(plain, swapped)
        for plain in scores
        if not plain.asked.swapped
        for swapped in _swapped(plain, scores)
    ]
    return [_NOTE, *lines] if lines else []


def _swapped(plain: PictureScores, scores: Sequence[PictureScores]) -> Iterator[PictureScores]:
    """Yield the first control of a task: of the same run, else of the same weights."""
    alike = plain.asked.model_copy(update={"swapped": True})
    found = [
        one
        for one in scores
        if (one.asked.way, one.asked.source) == (alike.way, alike.source)
        and one.units == plain.units
        and (one.run.file == plain.run.file or same_weights(one.run, plain.run))
    ]
    yield from sorted(found, key=lambda one: one.run.file != plain.run.file)[:1]


def _line(plain: PictureScores, swapped: PictureScores) -> str:
    one, other = _chosen(plain), _chosen(swapped)
    both = [(one[key], other[key]) for key in one if one[key] and other[key]]
    letter = sum(first == second for first, second in both)
    content = len(both) - letter
    return (
        f"{plain.run.name}, {plain.asked.way}: {_letters(one)}; swapped {_letters(other)}; the "
        f"choice stayed with what the option says in {_share(content, len(one))} of {len(one)} "
        f"questions, with the letter in {_share(letter, len(one))}, and "
        f"{_share(len(one) - len(both), len(one))} lack a choice."
    )


def _chosen(scores: PictureScores) -> _Chosen:
    return {
        doc["index"]: read_choice(response, (doc["a"], doc["b"])).letter
        for unit in scores.samples
        for doc, response in unit
    }


def _letters(chosen: _Chosen) -> str:
    letters = list(chosen.values())
    return ", ".join(f"({name}) {_share(letters.count(name), len(letters))}" for name in LETTERS)


def _share(count: int, whole: int) -> str:
    return f"{100 * count / whole:.0f} %"
