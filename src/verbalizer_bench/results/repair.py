"""How much of what tuning cost came back: base, tuned and repaired runs over the same documents.

Cost is the base's F1 minus the tuned run's, what came back the repaired run's minus the tuned
run's, the share the one by the other. Of a cost that cannot be told from 0 there is no share. The
tuned run is in both, so that a tuned checkpoint that is bad by chance costs more and comes back
more: intervals over documents do not see it, several seeds do.
"""

import dataclasses
from collections.abc import Collection, Sequence

from verbalizer_bench.results.answers import direction
from verbalizer_bench.results.contrast import Contrast, contrast, refusal
from verbalizer_bench.results.differences import Pair, scores_of
from verbalizer_bench.results.ratio import Ratio, ratios
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.statistics import (
    RESAMPLES,
    SEED,
    Interval,
    by_dataset,
    estimate,
    type_weights,
    weight_matrix,
)


@dataclasses.dataclass(frozen=True)
class Recovery:
    """A label type, or All: F1 in [0, 1], differences in [-1, 1].

    Attributes:
        name: The label type.
        base: F1 of the base.
        tuned: F1 of the tuned run.
        repaired: F1 of the repaired run.
        cost: `base` minus `tuned`.
        told: 1 where it can be told that tuning cost, -1 that it helped, else 0: by interval and
            Holm's p, as the tuned run's difference from the base.
        came_back: `repaired` minus `tuned`.
        share: `came_back` by `cost`, 1 for all; None where `told` is not 1, or the interval would
            have no end.
        documents: How many documents it is over.
    """

    name: str
    base: float
    tuned: float
    repaired: float
    cost: Interval
    told: int
    came_back: Interval
    share: Ratio | None
    documents: int


@dataclasses.dataclass(frozen=True)
class Repair:
    """A repaired run beside its base and its tuned run, by their names.

    Attributes:
        base: The base's name.
        tuned: The tuned run's.
        repaired: The repaired run's.
        tuning: In what base and tuned run differ.
        remedy: In what tuned and repaired run differ.
        groups: The label types and, where all three are there, All.
    """

    base: str
    tuned: str
    repaired: str
    tuning: Contrast
    remedy: Contrast
    groups: tuple[Recovery, ...]


def check_repaired(
    given: Sequence[Run], repaired: Sequence[Run], allowed: Collection[str] = ()
) -> None:
    """Raise ValueError unless there are a base, a tuned run and other repaired runs, asked alike.

    That all were asked as the base was is `check_prompts`' affair.
    """
    if len(given) != 2:
        raise ValueError(
            f"compare: --repaired with {len(given)} other runs (a folder counts once); give two, "
            "the base and the tuned one"
        )
    seen = {run.folder for run in given}
    for run in repaired:
        if run.folder in seen:
            raise ValueError(
                f"compare: --repaired {run.folder}: the run is there already, as base, as tuned or "
                "as repaired; give another"
            )
        seen.add(run.folder)
        if reason := refusal(given[1], run, allowed):
            raise ValueError(f"compare: {reason}")


def repairs(
    runs: Sequence[Run], pairs: Sequence[Pair], resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[Repair, ...]:
    """Return what came back by each of the runs behind base and tuned run.

    Args:
        runs: The base, the tuned run, the repaired ones; checked.
        pairs: What `differences` made of them: first the tuned run against the base.
        resamples: How many bootstrap samples.
        seed: Of the random numbers.
    """
    base, tuned, *repaired = runs
    return tuple(
        Repair(
            *(base.name, tuned.name, run.name),
            contrast(base, tuned),
            contrast(tuned, run),
            _recovered(base, tuned, run, pairs[0], resamples, seed),
        )
        for run in repaired
    )


def _recovered(
    base: Run, tuned: Run, repaired: Run, pair: Pair, resamples: int, seed: int
) -> tuple[Recovery, ...]:
    tasks = by_dataset(base.tasks)
    weights = weight_matrix(
        [task for of_dataset in tasks.values() for task in of_dataset], type_weights(base.tasks)
    )
    before, after, now = (scores_of(run, tasks) for run in (base, tuned, repaired))
    cost, back = ({name: one[name] - after[name] for name in tasks} for one in (before, now))
    found = zip(
        pair.family("label type"),
        *(estimate(table, weights, resamples, seed, lowest=-1.0) for table in (cost, back)),
        ratios(back, cost, weights, resamples, seed),
        strict=True,
    )
    return tuple(
        Recovery(
            name=change.name,
            base=change.base,
            tuned=change.model,
            repaired=change.model + came_back.mean,
            cost=lost,
            told=-direction(change),
            came_back=came_back,
            share=share if direction(change) == -1 else None,
            documents=change.documents,
        )
        for change, lost, came_back, share in found
    )
