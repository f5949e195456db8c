"""Does a vision-language model see? MMVP's pairs of images that CLIP takes for alike.

Shows: a task with images of its own, and its control without the image.
Prints: how many pairs and single questions are right, with the image and blind.
Costs: 40 s of one core to train a toy, which without MODEL is asked the drawings that it learned by
    heart; then 48 short answers. No network.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import verbalizer_bench as vb

SAMPLE = Path(str(files("verbalizer_bench.tasks"))) / "samples" / "mmvp"
ASKED = "<image>{}\nA. {}\nB. {}\nAnswer with the option's letter from the given choices directly."


def right_answer(row: dict[str, str]) -> dict[str, object]:
    """Return a question of the sample, and the letter of its right answer, as a record."""
    a, b = row["Options"].removeprefix("(a) ").split(" (b) ")
    asked, letter = ASKED.format(row["Question"], a, b), row["Correct Answer"].strip("()").upper()
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": letter}]
    return {"image": f"{row['Index']}.png", "conversations": turns}


def learned_by_heart(folder: Path) -> Path:
    """Train a LLaVA of random parts on the sample itself: a toy, to show what the tasks show."""
    with (SAMPLE / "Questions.csv").open(encoding="utf-8") as rows:
        records = [right_answer(row) for row in csv.DictReader(rows)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sample.json").write_text(json.dumps(records), encoding="utf-8")
    seen = {"data": folder / "sample.json", "images": SAMPLE / "MMVP Images"}
    steps = {"num_train_epochs": 60, "per_device_batch_size": 8}
    keys = {"resume": True, "cache": folder / "cache"}
    connected = vb.train("tiny/pretrain", output=folder / "pretrain", **keys)
    base, output = {"path": connected.path}, folder / "learned-by-heart"
    tuned = vb.train("tiny/vit", model=base, output=output, **steps, **seen, **keys)
    return tuned.path


def main(argv: Sequence[str] | None = None) -> None:
    """Ask a model MMVP's questions with and without their images."""
    parser = argparse.ArgumentParser(description="Ask MMVP's pairs.")
    parser.add_argument("model", nargs="?", help="e.g. llava-hf/llava-1.5-7b-hf, or a folder")
    parser.add_argument("--data", default="sample", help="`hub`, or a folder with MMVP's files")
    parser.add_argument("--dtype", default="float32", help="`bfloat16` for large models")
    parser.add_argument("--output", type=Path, default=Path("out/mmvp"))
    args = parser.parse_args(argv)

    run = vb.evaluate(
        "verbalizer-lvlm",
        {"pretrained": args.model or learned_by_heart(args.output), "dtype": args.dtype},
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
