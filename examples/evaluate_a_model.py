"""Ask a model the tasks: how well does it follow which words to answer with?

Shows: `vb.evaluate`, its table, and one answer that went wrong, looked at.
Prints: F1 by label type with intervals, what the responses did, the worst answer.
Costs: half a minute on one core; no network. MODEL is any folder or hub id.
"""

import argparse
from collections.abc import Sequence

import verbalizer_bench as vb
from verbalizer_bench.experiments.miniature.arms import BASE


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate a checkpoint, print its report and write its files."""
    parser = argparse.ArgumentParser(description="Ask a model the tasks.")
    parser.add_argument("model", nargs="?", default=str(BASE), help="a folder or hub id")
    parser.add_argument("--tasks", default="verbalizer_sst2", help="`verbalizer` is all 108")
    parser.add_argument("--data", default="sample", help="`hub`, or a folder with the real rows")
    parser.add_argument("--limit", type=int, default=4, help="documents a task; 0: all")
    parser.add_argument("--dtype", default="float32", help="`bfloat16` for large models")
    parser.add_argument("--output", default="out/evaluated")
    args = parser.parse_args(argv)

    run = vb.evaluate(
        "verbalizer-llm",
        {"pretrained": args.model, "dtype": args.dtype},
        tasks=args.tasks,
        data=args.data,
        limit=args.limit or None,
        apply_chat_template=True,
        batch_size="auto",
        output=args.output,
    )
    report = vb.report(run)
    print(report)
    print(vb.explain(run))
    print("Wrote", *report.write(args.output))


if __name__ == "__main__":
    main()
