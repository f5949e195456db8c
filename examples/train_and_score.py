"""Tune a model and see what it did to instruction following, in one go.

Shows: a shipped recipe with keys of your own in `vb.train`, and its checkpoint scored.
Prints: steps and losses, then the difference of F1 to the base by label type.
Costs: a minute on one core; no network. The data are 64 made records: copy, and give your own.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import verbalizer_bench as vb
from verbalizer_bench.experiments.miniature.arms import BASE


def main(argv: Sequence[str] | None = None) -> None:
    """Tune the base by a low-rank adapter, evaluate both, and compare them."""
    parser = argparse.ArgumentParser(description="Tune a model and score it.")
    parser.add_argument("base", nargs="?", default=str(BASE), help="a folder or hub id")
    parser.add_argument("--recipe", default="tiny/sft_lora", help="a YAML, or a shipped recipe")
    parser.add_argument("--data", nargs="*", help="files of records in place of the recipe's")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--limit", type=int, default=4, help="documents a task; 0: all")
    parser.add_argument("--output", type=Path, default=Path("out/trained"))
    args = parser.parse_args(argv)

    keys = {"data": args.data} if args.data else {}
    checkpoint = vb.train(
        args.recipe,
        model={"path": args.base, "config": None},
        num_train_epochs=args.epochs,
        trained_parameters=None,  # The recipe states those of its own model.
        resume=True,  # What is trained already is not trained again.
        output=args.output / "checkpoint",
        cache=args.output / "cache",
        **keys,
    )
    print(checkpoint)
    print(checkpoint.to_frame().tail(3).to_string(index=False))
    base, tuned = (
        vb.evaluate(
            "verbalizer-llm",
            {"pretrained": model, "dtype": "float32"},
            tasks="verbalizer_sst2",
            data="sample",
            limit=args.limit or None,
            apply_chat_template=True,
            batch_size="auto",
            output=args.output / name,
        )
        for name, model in (("base", args.base), ("tuned", checkpoint.path))
    )
    print(vb.compare(base, tuned))


if __name__ == "__main__":
    main()
