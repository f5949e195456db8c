"""Draw runs in a figure of your own, from the numbers behind the report.

Shows: `to_frame()` of a report: a row for each label type, with its interval.
Prints: the numbers that are drawn. Writes F1 with 95 % intervals as a PNG.
Costs: a second for runs that are there; without RUN one model is asked in two ways, half a minute.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt

import verbalizer_bench as vb
from verbalizer_bench.experiments.miniature.arms import BASE

TYPES = ["natural", "neutral", "unnatural"]


def two_runs(output: Path) -> list[Path]:
    """Ask the shipped model with its chat template and without."""
    folders = {output / "chat-template": True, output / "plain-text": False}
    for folder, template in folders.items():
        vb.evaluate(
            "verbalizer-llm",
            {"pretrained": BASE, "dtype": "float32"},
            tasks="verbalizer_sst2",
            data="sample",
            limit=4,
            apply_chat_template=template,
            batch_size="auto",
            output=folder,
        )
    return list(folders)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the F1 of runs by label type."""
    parser = argparse.ArgumentParser(description="Draw runs.")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="folders of runs")
    parser.add_argument("--output", type=Path, default=Path("out/plotted"))
    args = parser.parse_args(argv)

    runs = args.runs or two_runs(args.output)
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for number, run in enumerate(runs):
        frame = vb.report(vb.load_run(run)).to_frame().set_index("label_type")
        drawn = 100 * frame.reindex(TYPES)[["f1", "low", "high"]]
        print(f"{run}\n{drawn.round(1)}\n")
        places = [place + 0.12 * (number - (len(runs) - 1) / 2) for place in range(len(TYPES))]
        bars = [drawn.f1 - drawn.low, drawn.high - drawn.f1]
        axes.errorbar(places, drawn.f1, yerr=bars, fmt="o", capsize=3, label=str(run))
    axes.set(xticks=range(len(TYPES)), xticklabels=TYPES, ylim=(-2, 102), ylabel="F1 in %")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    args.output.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.output / "f1.png", dpi=150)
    print("Wrote", args.output / "f1.png")


if __name__ == "__main__":
    main()
