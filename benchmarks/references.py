"""Memory of preference optimisation with stored reference log-probabilities and with a live model.

    python -m benchmarks.references

The same weights, pairs and steps, each arm in a process of its own: ours, and TRL's `DPOTrainer`
as it is, whose reference is a second model in full training and the model without its adapter
with LoRA. Peak resident size (`VmHWM`) of the steps alone, the model loaded before.
"""

import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.memory import reset_peak, status_mib

ARMS = ("stored", "live")
_TINY = Path(__file__).parents[1] / "recipes" / "tiny"
# Some 39 million weights, 150 MiB in float32, and two pairs.
_SIZES = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 12}
_PAIRS = 2
_SIZES |= {"num_attention_heads": 8, "num_key_value_heads": 8}
_LORA = ["lora.r=8", "lora.alpha=8"]


def main() -> None:
    """Measure each arm once, and print a table."""
    print("| training | reference | peak MiB | MiB before the steps |\n|---|---|---|---|")
    for how in ("full", "lora"):
        for arm in ARMS:
            words = [sys.executable, "-m", "benchmarks.references", arm, how]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            before, peak = map(float, done.stdout.splitlines()[-1].split())
            print(f"| {how} | {arm} | {peak:,.0f} | {before:,.0f} |", flush=True)


def measure(arm: str, how: str, folder: Path) -> tuple[float, float]:
    """Return the size before two steps of a pair, and their peak, in MiB."""
    from verbalizer_bench.trainers.checkpoints.load import load
    from verbalizer_bench.trainers.recipe import read_recipe
    from verbalizer_bench.trainers.training.trainer import training_arguments

    config = json.loads((_TINY / "llama" / "config.json").read_text()) | _SIZES
    config.pop("head_dim", None)
    (folder / "llama").mkdir()
    for file in (_TINY / "llama").iterdir():
        (folder / "llama" / file.name).write_bytes(file.read_bytes())
    (folder / "llama" / "config.json").write_text(json.dumps(config))
    words = ["model.path=null", f"model.config={folder / 'llama'}", "images=null"]
    lines = (_TINY / "data" / "pairs_text.jsonl").read_text().splitlines(keepends=True)
    (folder / "pairs.jsonl").write_text("".join(lines[:_PAIRS]))
    words += [f"data={folder / 'pairs.jsonl'}", "trained_parameters=null", "num_train_epochs=1"]
    words += [f"output={folder / 'out'}", f"cache={folder / 'cache'}"]
    words += ["global_batch_size=1", "per_device_batch_size=1", *(_LORA if how == "lora" else [])]
    recipe = read_recipe("tiny/dpo", words)
    made = {"stored": _stored, "live": _live}[arm]
    trainer = made(recipe, load(recipe), training_arguments(recipe))
    gc.collect()
    reset_peak()
    before = status_mib("VmRSS")
    trainer.train()
    return before, status_mib("VmHWM")


def _stored(recipe: Any, checkpoint: Any, arguments: Any) -> Any:
    from verbalizer_bench.trainers.training.inputs import encoded_data, make_collator
    from verbalizer_bench.trainers.training.reference import reference
    from verbalizer_bench.trainers.training.trainer import make_trainer

    data = encoded_data(recipe, checkpoint, recipe.data)
    collator: Any = make_collator(recipe, checkpoint)
    collator.reference = reference(recipe, checkpoint, [data], collator, arguments).logps
    return make_trainer(recipe, checkpoint, data, arguments, collator)


def _live(recipe: Any, checkpoint: Any, arguments: Any) -> Any:
    from datasets import Dataset
    from trl import DPOTrainer

    from verbalizer_bench.trainers.checkpoints.load import load
    from verbalizer_bench.trainers.checkpoints.trainable import lora_config

    rows = [json.loads(line) for line in recipe.data[0].read_text().splitlines()]
    names = ("prompt", "chosen", "rejected")
    arguments.precompute_ref_log_probs = False
    return DPOTrainer(
        model=checkpoint.model,
        ref_model=None if recipe.lora else load(recipe).model,
        args=arguments,
        train_dataset=Dataset.from_list([{name: row[name] for name in names} for row in rows]),
        processing_class=checkpoint.processor,
        peft_config=lora_config(checkpoint.model, recipe),
    )


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        with tempfile.TemporaryDirectory() as temporary:
            print(*measure(sys.argv[1], sys.argv[2], Path(temporary)))
