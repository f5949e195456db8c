"""Evaluate a model that a server answers for: vLLM, SGLang, TGI, Ollama, a provider.

Shows: `verbalizer-api`, which keeps every reply on the disk before it is used.
Prints: F1 by label type, and how many tokens were sent and received.
Costs: 48 short requests. Start a server first, for example one of
    vllm serve NAME --generation-config vllm
    transformers serve                              # NAME: a folder or hub id
"""

import argparse
import json
from collections.abc import Sequence

import verbalizer_bench as vb


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate a served model and count its tokens."""
    parser = argparse.ArgumentParser(description="Evaluate a served model.")
    parser.add_argument("model", help="the model's name at the server")
    parser.add_argument("--base-url", default="http://localhost:8000/v1")
    parser.add_argument("--key-variable", default="", help="environment variable with the key")
    parser.add_argument("--tasks", default="verbalizer_sst2", help="`verbalizer` is all 108")
    parser.add_argument("--data", default="sample", help="`hub`, or a folder with the real rows")
    parser.add_argument("--limit", type=int, default=4, help="documents a task; 0: all")
    parser.add_argument("--output", default="out/served")
    args = parser.parse_args(argv)

    served = {"model": args.model, "base_url": args.base_url, "key_variable": args.key_variable}
    run = vb.evaluate(
        "verbalizer-api",
        served | {"image": "none", "concurrency": 16},
        tasks=args.tasks,
        data=args.data,
        limit=args.limit or None,
        apply_chat_template=True,
        output=args.output,
    )
    print(vb.report(run))
    spent = json.loads((run.folder / "run.json").read_text("utf-8"))["served"]["spent"]
    sent, received = spent["input_tokens"], spent["output_tokens"]
    print(f"{spent['calls']} requests, {sent:,} tokens sent, {received:,} received")


if __name__ == "__main__":
    main()
