"""Which of two answers does a judge prefer? Your own instructions, any chat endpoint as judge.

Shows: `judge alpacaeval` on files of your own: win rate, ties counted half, lengths beside it.
Prints: what the judging would cost, then the win rate. Every verdict is paid for once.
Costs: a short request for each instruction. Start a judge first, for example one of
    vllm serve NAME --generation-config vllm
    transformers serve                              # NAME: a folder or hub id
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from verbalizer_bench.cli import main as verbalizer_bench

# (instruction, answer, what it is held against)
MADE = [
    ("Name a colour of the sky.", "Blue.", "The sky has a colour."),
    ("How much is 6 x 7?", "42", "It is about forty."),
    ("Say good night in German.", "Guten Morgen.", "Gute Nacht."),
    ("Which planet is the largest?", "Jupiter", "Jupiter"),
]
PROMPT = """Which output answers the instruction better? Rank both; 1 is the better one.

Instruction: {instruction}
model_1: {output_1}
model_2: {output_2}

Answer with a list only: [{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]
"""


def rows(place: int) -> list[dict[str, str]]:
    """Return the made answers (1) or references (2) as alpaca_eval has them."""
    return [{"instruction": made[0], "output": made[place]} for made in MADE]


def main(argv: Sequence[str] | None = None) -> int:
    """Have answers held against references; return the command's exit code."""
    parser = argparse.ArgumentParser(description="Have answers judged.")
    parser.add_argument("judge", help="the judge's name at its server")
    parser.add_argument("--answers", type=Path, help="JSON: instruction and output each")
    parser.add_argument("--references", type=Path, help="the same of the other model")
    parser.add_argument("--base-url", default="http://localhost:8000/v1")
    parser.add_argument("--key-variable", default="", help="environment variable with the key")
    parser.add_argument("--output", type=Path, default=Path("out/judged"))
    args = parser.parse_args(argv)

    args.output.mkdir(parents=True, exist_ok=True)
    files = {"answers": args.answers, "references": args.references}
    for place, name in enumerate(files, start=1):
        if files[name] is None:
            files[name] = args.output / f"made_{name}.json"
            files[name].write_text(json.dumps(rows(place)))
    (args.output / "prompt.txt").write_text(PROMPT)

    command = ["judge", "alpacaeval", "--judge", args.judge, "--output", str(args.output)]
    command += ["--data", str(files["answers"]), "--prompt", str(args.output / "prompt.txt")]
    command += [word for name, file in files.items() for word in (f"--{name}", str(file))]
    command += [f"base_url={args.base_url}", f"key_variable={json.dumps(args.key_variable)}"]
    return verbalizer_bench([*command, "--dry-run"]) or verbalizer_bench(command)


if __name__ == "__main__":
    raise SystemExit(main())
