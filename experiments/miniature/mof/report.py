"""The report of the study of mixtures: Markdown and figures, made of its tables alone.

python -m verbalizer_bench.experiments.miniature.mof.report experiments/miniature/results/mof
"""

from collections.abc import Sequence
from pathlib import Path

from verbalizer_bench.experiments.miniature.mof import figures
from verbalizer_bench.experiments.miniature.mof.grid import ADDITIVE, CHANNEL, INTERLEAVED
from verbalizer_bench.experiments.miniature.mof.sections import (
    differences,
    examples,
    kept,
    rates,
    seen,
    towers,
)
from verbalizer_bench.experiments.miniature.mof.tables import MofTables, read_tables
from verbalizer_bench.experiments.miniature.mof.towers import TOWERS
from verbalizer_bench.experiments.miniature.mof.verdicts import verdicts
from verbalizer_bench.experiments.page import write_from_tables, write_page
from verbalizer_bench.results.tables import markdown_table as table


def write(folder: Path) -> Path:
    """Write `README.md` and the figures beside the tables of a folder."""
    tables = read_tables(folder)
    figures.draw_bars(tables, folder / "scores.png")
    figures.draw_trade_off(tables, folder / "trade_off.png")
    parts = [
        _head(tables),
        verdicts(tables),
        towers(tables),
        seen(tables),
        kept(tables),
        differences(tables),
        "## One beside the other\n\n![F1 beside pair accuracy](trade_off.png)",
        rates(tables),
        examples(tables),
        _known(),
        _files(),
    ]
    return write_page(folder, parts)


def _head(tables: MofTables) -> str:
    grid, about = tables.grid, tables.about
    runs, documents = len(tables.points), len(tables.datasets)
    (steps,) = {row["steps"] for row in tables.points if row["steps"]}
    return f"""# Two towers, mixed, in miniature

Written by
`python -m verbalizer_bench.experiments.miniature.mof.report experiments/miniature/results/mof`
from the tables beside it, which `make miniature-mof` makes. These are toys of half a million
weights in a made world of coloured triangles ([the experiment](../../README.md)). **Nothing here
is evidence for or against any mixture at its own scale**: it is what this world does, measured
with the harness that real checkpoints are measured with.

A scene has a triangle of one of six colours that points in one of four directions. Two vision
towers of 0.1 million weights are made blind on purpose: `{TOWERS[0]}`, a CLIP, sees colour and not
direction; `{TOWERS[1]}`, a Dinov2, sees direction and not colour. LLaVAs of one or both are
aligned on captions and tuned on questions that name both:

{_arms(tables)}

All arms have the same towers, captions, records, steps and rate: {grid.captions:,} captions,
then {grid.items:,} records in {steps} steps of 32, half of them questions with a format
instruction, half with two options as MMVP asks, at a rate of {tables.rate:g}. A *cell* is one of
{len(grid.seeds)} tuning seeds ({", ".join(map(str, grid.seeds))}) on base 0; a seed draws towers,
connectors, records and their order. {runs} runs of the suite, of {documents * 12:,} responses
({documents} documents x 12 verbalizers, 10 beams, 15 tokens). Base: sha256
`{about["base"]["sha256"][:12]}`. Machine: {about["machine"]}.

![Pairs that are told apart, and F1](scores.png)"""


def _arms(tables: MofTables) -> str:
    one, two = "16", "32"
    rows = [[name, "that tower alone", one] for name in TOWERS]
    for arm in tables.grid.arms:
        if arm.startswith(ADDITIVE):
            share = arm.removeprefix(ADDITIVE)
            rows.append([arm, f"{share} x {TOWERS[0]} + {1 - float(share):g} x {TOWERS[1]}", one])
    rows.append([INTERLEAVED, "tokens of both in turn, a connector each", two])
    rows.append([CHANNEL, "both vectors of a patch side by side, one connector", one])
    return table(["Arm", "What the language model is given", "Tokens an image"], rows)


def _known() -> str:
    return f"""## What is certain, and what is ours

The paper's (Tong et al. 2024): blind pairs by two cosines, pairs of images with one question, the
mixtures `additive` and `interleaved`, stage 1 on all connectors and stage 2 on connectors and
language model, instruction following beside MMVP. Ours: the world; towers that are *made* blind,
by images that differ in nothing else and are drawn together, where CLIP's blindness came by itself;
a `{TOWERS[1]}` that learned directions from their names, where DINOv2 has no labels; the layer
before the last of both towers (the paper takes DINOv2's last); features that are not
normalised; linear connectors; the verbalizer suite in place of LLaVA-Bench; `channel`. The
base's tokenizer has no `b`: options are `(a)` and an unknown word, and the arms learned to
answer with an option's words. How towers are trained was steered by the probes, at tuning seeds 0
and 1; LLaVAs of either tower and an interleaved one, all of seed 0, had been asked the pairs
before the grid was settled.

Not measured: a second base; other sizes, steps, resolutions or rates; mixtures of normalised
features; towers that are less blind, or blind to the same things; options swapped, questions
without images; LLaVAs with two connectors of the same tower, which would tell what twice the tokens
do alone."""


def _files() -> str:
    return """## Files

`grid.yaml`: what was run. `points.csv`: every run of the suite with its training, F1 and
outcomes. `documents.csv`: F1 of each document in each run. `pairs.csv`: which pairs are right, a
digit a pair. `towers.json`: what each seed's towers see. `rates.csv`:
the losses that the rate was chosen by. `examples.csv`: answers. `mof.json`: base, rate, versions
of the first training, and the machine that gathered the tables."""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the report."""
    write_from_tables("verbalizer_bench.experiments.miniature.mof.report", write, argv)


if __name__ == "__main__":
    main()
