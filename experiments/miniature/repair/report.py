"""The repair study's report: Markdown and figures, made of its tables alone.

python -m verbalizer_bench.experiments.miniature.repair.report experiments/miniature/results/repair
"""

from collections.abc import Sequence
from pathlib import Path

from verbalizer_bench.experiments.miniature.arms import ALIGNED
from verbalizer_bench.experiments.miniature.repair import figures
from verbalizer_bench.experiments.miniature.repair.remedies import PLAIN, REMEDIES
from verbalizer_bench.experiments.miniature.repair.sections import (
    compared,
    controls,
    examples,
    kept,
    learned,
    lengths,
    levels,
    outcomes,
    preference_data,
    preference_training,
    rates,
    shares,
)
from verbalizer_bench.experiments.miniature.repair.tables import RepairTables, read_tables
from verbalizer_bench.experiments.miniature.repair.verdicts import remedied, verdicts
from verbalizer_bench.experiments.page import write_from_tables, write_page
from verbalizer_bench.results.tables import markdown_table as table


def write(folder: Path) -> Path:
    """Write `README.md` and the figures beside the tables of a folder."""
    tables = read_tables(folder)
    figures.draw_scores(tables, folder / "scores.png")
    figures.draw_shares(tables, folder / "shares.png")
    parts = [
        _head(tables),
        verdicts(tables),
        levels(tables),
        shares(tables),
        controls(tables),
        kept(tables),
        preference_data(tables),
        preference_training(tables),
        outcomes(tables),
        lengths(tables),
        learned(tables),
        rates(tables),
        compared(tables),
        examples(tables),
        _known(),
        _files(),
    ]
    return write_page(folder, parts)


def _head(tables: RepairTables) -> str:
    grid, about = tables.grid, tables.about
    runs, documents = len(tables.points), len(tables.datasets)
    steps = ", ".join(
        sorted({row["steps"] for (p, _), row in tables.points.items() if p.model in REMEDIES})
    )
    return f"""# Does it repair? In miniature

Written by
`python -m verbalizer_bench.experiments.miniature.repair.report
experiments/miniature/results/repair`
from the tables beside it, which `make miniature-repair` makes. These are toys of half a million
weights in a made world of coloured shapes ([the experiment](../../README.md), [the
study](../README.md) that it goes on from). **Nothing here is evidence for or against any remedy
at its own scale**: it is what this world does, measured with the harness that real checkpoints
are measured with.

{PLAIN} is the base behind a vision tower, tuned on dialogues in sentences about images: the arm
that hurt most. Here it is repaired, or tuned otherwise from the start:

{_models(tables)}

The budget is the same for each training: {grid.items:,} records or pairs in {steps} steps of
32; where there are fewer they are taken again. A *cell* is one of {len(grid.seeds)} tuning
seeds ({", ".join(map(str, grid.seeds))}) on base 0; a seed draws items, their order, tower,
connector, and the prompts of preference data. {runs} runs of {documents * 12:,} responses
({documents} documents x 12 verbalizers, 10 beams, 15 tokens), with the {grid.images[0]} image
unless another is named; `none` asks without one. Base: sha256 `{about["base"]["sha256"][:12]}`.
Machine: {about["machine"]}.

**The judge is no model.** It is a program that knows the scene of each image, finds an answer's
statements by patterns, and marks them by rules, the same each time
([judge.py](../../repair/judge.py)); behind the same schema, client, pairs and report as any
judge. What real judges get wrong is not here.

![F1 by label type](scores.png)"""


def _models(tables: RepairTables) -> str:
    tuned = f"{tables.about['tuned_rate']:g}"
    rows = [
        [ALIGNED, "the base", "the connector alone, on captions of images", "-"],
        [PLAIN, ALIGNED, "tuned on dialogues in sentences about images", tuned],
    ]
    for name in remedied(tables):
        if name in REMEDIES:
            remedy = REMEDIES[name]
            rows.append([name, remedy.start, remedy.told, f"{tables.rates[name]:g}"])
        else:
            share = name.removeprefix("Merge-")
            told = f"the base's language model + {share} x ({PLAIN}'s - the base's), no training"
            rows.append([name, PLAIN, told, "-"])
    return table(["Model", "Starts from", "What is done", "Rate"], rows)


def _known() -> str:
    return """## What is certain, and what is ours

The paper's (Li, Lin & Pei 2024), as far as it is known: four completions a prompt that the
tuned model samples itself, marks from 0 to 4, pairs of the best and the worst of three of them
summed with a gap of two or more, DPO with beta 0.1 and stored reference log-probabilities,
rejection sampling on the best, SteerLM on all with its string. Ours: the world, prompts
(questions, and requests to describe, all without format instructions), the judge, temperature
1.0, full training of language model and connector in place of an adapter, rates by held-out
loss, 79 steps (theirs: three passes over 5,000 pairs), format pairs, attention, replay and
merging. SteerLM's attribute names are no words of this world's tokenizer; their values are, so
that they can be read by their places. `Replay`'s text is of the base's last stages without the
suite's prompts, short or whole: no data of this kind is at hand for a real model, whose replay
is other text.

Not measured: a second base; other numbers of steps or of prompts; rates at other seeds than the
first, or beyond the grid; other betas or temperatures; a judge that errs; remedies one after
the other."""


def _files() -> str:
    return """## Files

`grid.yaml`: what was run. `points.csv`: every run with its training, F1, outcomes and lengths.
`documents.csv`: F1 of each document in each run. `unseen.csv`: the second measure, a digit a
record (`-`: no verifier). `scenes.csv`: the program's marks of answers about unseen scenes.
`preferences.csv`: what the preference data are. `examples.csv`: responses. `repair.json`: base,
chosen rates, versions of the first training, and the machine that gathered the tables."""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the report."""
    write_from_tables("verbalizer_bench.experiments.miniature.repair.report", write, argv)


if __name__ == "__main__":
    main()
