"""Make twelve tasks of a data set of your own, and ask a model.

Shows: one YAML and a file of rows beside it, `tasks build`, and a run with `include_path`.
Prints: F1 by label type on your rows. Writes a YAML for each pair of label words beside yours.
Costs: half a minute on one core; no network. Copy the folder; change YAML and rows.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import verbalizer_bench as vb
from verbalizer_bench.cli import main as verbalizer_bench
from verbalizer_bench.experiments.miniature.arms import BASE

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> None:
    """Build the tasks of a YAML, and evaluate a model on them."""
    parser = argparse.ArgumentParser(description="Make tasks of a data set, and ask them.")
    parser.add_argument("yaml", nargs="?", type=Path, default=HERE / "_tickets.yaml")
    parser.add_argument("--model", default=str(BASE), help="a folder or hub id")
    parser.add_argument("--dtype", default="float32", help="`bfloat16` for large models")
    parser.add_argument("--output", default="out/tickets")
    args = parser.parse_args(argv)

    if code := verbalizer_bench(["tasks", "build", str(args.yaml)]):
        raise SystemExit(code)
    run = vb.evaluate(
        "verbalizer-llm",
        {"pretrained": args.model, "dtype": args.dtype},
        tasks=f"verbalizer{args.yaml.stem}",
        include_path=args.yaml.parent,
        apply_chat_template=True,
        batch_size="auto",
        output=args.output,
    )
    print(vb.report(run))


if __name__ == "__main__":
    main()
