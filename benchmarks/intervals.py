"""What the intervals cover near a ceiling, by simulation: a bootstrap alone, and what is reported.

python -m benchmarks.intervals

A document fails with a small probability; one that fails loses a part of its score. The data sets
are as many and as large as in the demo, in the benchmark, or one alone. Coverage is how often the
95 % interval holds the true mean.
"""

from pathlib import Path

import numpy as np

from verbalizer_bench.results.few import Stratum, interval_of_few
from verbalizer_bench.results.resampling import bootstrap, interval
from verbalizer_bench.results.tables import markdown_table

RESULTS = Path(__file__).parent / "results" / "intervals.md"
SIZES = {
    "one of 100": [100],
    "nine of 24 (the demo)": [24] * 9,
    "nine of 200": [200] * 9,
    "24 and 500": [24, 500],
}
# How many documents fail in the mean.
FAILING = (1, 3, 6, 12, 24)
# What a document that fails loses: one verbalizer of twelve, any number, or all.
LOSSES = {"1/12": (1, 1), "1/12 to 1": (1, 12), "1": (12, 12)}


def coverage(
    sizes: list[int], failing: float, loss: tuple[int, int], draws: int, resamples: int
) -> list[float]:
    """Return how often the true mean was in the intervals.

    Args:
        sizes: Documents of each data set; each weighs the same.
        failing: How many documents fail in the mean.
        loss: What a failing document loses, twelfths, the least and the most.
        draws: How many times data sets are drawn.
        resamples: Of each bootstrap.

    Returns:
        Of a score near 1: a bootstrap's coverage and that of what is reported; and of a difference
        near 0, which could be -1 to 1, what is reported. The bootstrap's is the same there.
    """
    generator = np.random.default_rng([*sizes, int(failing), *loss])
    weight, share = 1 / len(sizes), failing / sum(sizes)
    truth, hits = -share * sum(loss) / 24, np.zeros(3)
    for seed in range(draws):
        lost = {
            str(place): -generator.integers(*loss, (n, 1), endpoint=True)
            / 12
            * (generator.random((n, 1)) < share)
            for place, n in enumerate(sizes)
        }
        drawn = bootstrap(lost, resamples, seed) @ np.full((len(sizes), 1), weight)
        bare_low, bare_high = (float(end[0]) for end in interval(drawn))
        found = [(bare_low, bare_high)]
        for highest in (0.0, 1.0):
            strata = [
                Stratum(k, v[:, 0] * weight, -weight, highest * weight) for k, v in lost.items()
            ]
            found.append(interval_of_few(bare_low, bare_high, strata, resamples, seed))
        hits += [low - 1e-9 <= truth <= high + 1e-9 for low, high in found]
    return [float(value) for value in hits / draws]


def run(draws: int = 400, resamples: int = 500) -> str:
    """Return the table of all cases as Markdown."""
    header = ["Documents", "Loss", "Failing", "Bootstrap", "Score", "Difference"]
    rows = []
    for name, sizes in SIZES.items():
        for text, loss in LOSSES.items():
            for failing in FAILING:
                found = coverage(sizes, failing, loss, draws, resamples)
                rows.append([name, text, str(failing), *(f"{100 * v:.1f}" for v in found)])
    return (
        "# Coverage of the 95 % intervals near a ceiling, and of differences near none\n\n"
        f"In % of {draws} draws (so +-1 at 95), {resamples} resamples. A document fails by chance, "
        'as many in the mean as "Failing" says, and then loses what "Loss" says; each data set '
        "weighs the same. Bootstrap: of either, by itself. Score and difference: as they are "
        "reported, the bootstrap's but where fewer than 15 documents differ, there one that allows "
        "for documents not seen ([few.py](../../src/verbalizer_bench/results/few.py)). By "
        "`python -m benchmarks.intervals`.\n\n"
        f"{markdown_table(header, rows)}\n"
    )


if __name__ == "__main__":
    RESULTS.write_text(run(), encoding="utf-8")
