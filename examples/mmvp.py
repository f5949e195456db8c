"""Does a vision-language model see? MMVP's pairs of images that CLIP takes for alike.

Shows: a task with images of its own, and its control without the image.
Prints: how many pairs and single questions are right, with the image and blind.
Costs: a minute on one core; no network. Without MODEL a tiny LLaVA is trained, which sees nothing.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import verbalizer_bench as vb


def tiny_llava(folder: Path) -> Path:
    """Train a LLaVA of random parts in seconds."""
    connected = vb.train(
        "tiny/pretrain", resume=True, output=folder / "pretrain", cache=folder / "cache"
    )
    tuned = vb.train(
        "tiny/vit",
        model={"path": connected.path},
        num_train_epochs=1,
        resume=True,
        output=folder / "tiny-llava",
        cache=folder / "cache",
    )
    return tuned.path


def main(argv: Sequence[str] | None = None) -> None:
    """Ask a model MMVP's questions with and without their images."""
    parser = argparse.ArgumentParser(description="Ask MMVP's pairs.")
    parser.add_argument(
        "model", nargs="?", help="a folder or hub id, e.g. llava-hf/llava-1.5-7b-hf"
    )
    parser.add_argument("--data", default="sample", help="`hub`, or a folder with MMVP's files")
    parser.add_argument("--dtype", default="float32", help="`bfloat16` for large models")
    parser.add_argument("--output", type=Path, default=Path("out/mmvp"))
    args = parser.parse_args(argv)

    run = vb.evaluate(
        "verbalizer-lvlm",
        {"pretrained": args.model or tiny_llava(args.output), "dtype": args.dtype},
        tasks=["mmvp_letters", "mmvp_letters_blind"],
        data=args.data,
        apply_chat_template=True,
        batch_size="auto",
        output=args.output / "run",
    )
    report = vb.report(run)
    print(report)
    print("Wrote", *report.write(args.output))


if __name__ == "__main__":
    main()
