"""Compare two models over the same documents: did tuning, or anything else, hurt?

Shows: two runs that differ in the model alone, and `vb.compare`, which pairs their responses.
Prints: the difference of F1 by label type with intervals, and what became of the responses.
Costs: half a minute on one core; no network. Without arguments: a model with and without a layer.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import verbalizer_bench as vb
from verbalizer_bench.experiments.miniature.arms import BASE


def without_last_layer(model: str | Path, folder: Path) -> Path:
    """Save a copy of a model that lacks its last layer."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    layers = AutoConfig.from_pretrained(model).num_hidden_layers - 1
    AutoModelForCausalLM.from_pretrained(model, num_hidden_layers=layers).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate two models alike, and print and write what differs."""
    parser = argparse.ArgumentParser(description="Compare two models.")
    parser.add_argument("base", nargs="?", default=str(BASE), help="a folder or hub id")
    parser.add_argument("other", nargs="?", help="another; default: the base without a layer")
    parser.add_argument("--tasks", default="verbalizer_sst2", help="`verbalizer` is all 108")
    parser.add_argument("--data", default="sample", help="`hub`, or a folder with the real rows")
    parser.add_argument("--limit", type=int, default=12, help="documents a task; 0: all")
    parser.add_argument("--output", type=Path, default=Path("out/compared"))
    args = parser.parse_args(argv)

    other = args.other or without_last_layer(args.base, args.output / "without-last-layer")
    base, changed = (
        vb.evaluate(
            "verbalizer-llm",
            {"pretrained": model, "dtype": "float32"},
            tasks=args.tasks,
            data=args.data,
            limit=args.limit or None,
            apply_chat_template=True,
            batch_size="auto",
            output=args.output / name,
        )
        for name, model in (("base", args.base), ("other", other))
    )
    comparison = vb.compare(base, changed)
    print(comparison)
    print("Wrote", *comparison.write(args.output))


if __name__ == "__main__":
    main()
