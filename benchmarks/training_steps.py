"""Time optimiser steps of ours and of plain TRL at real sizes on a GPU, in bfloat16.

    python -m benchmarks.training_steps --device cuda               # one GPU that holds the case
    python -m benchmarks.training_steps --device cpu --quick        # a rehearsal, tiny

LLaVA-1.5-7B and Qwen2.5-VL-7B by their published shapes, weights drawn on the device, by a
low-rank adapter and in full. Both arms train the same weights on the same records; the table gives
tokens a second and the peak of memory. Qwen's processor needs torchvision.
"""

import argparse
import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import TrainerCallback

from benchmarks.machine import FOLDER, device_environment
from benchmarks.measure import spread
from benchmarks.real_shapes import SHAPES
from benchmarks.table import markdown
from benchmarks.trainers import plain_trainer
from tests.helpers.toy import make_tokenizer
from verbalizer_bench.models.images import make_image
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.recipe_settings import LoraSettings, ModelSettings
from verbalizer_bench.trainers.training.inputs import encoded_data, make_collator, sample_order
from verbalizer_bench.trainers.training.progress_bar import TrainingProgressBar
from verbalizer_bench.trainers.training.trainer import make_trainer, training_arguments

OURS, PLAIN = "ours", "plain TRL"
ARMS = (OURS, PLAIN)
# Steps of a run: the first ones, in which kernels are chosen and buffers made, are not counted.
_WARMING, _COUNTED = 2, 6
_BATCH = 8
_TEXT = (
    "the a picture shows two people who walk along street beside red car while dog looks at them "
    "and it rains in this town near an old bridge with trees under grey sky"
)
_WORDS = _TEXT.split()
_MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] if m['content'] is string else m['content'][0]['text'] }}"
    "<|im_end|>{% endgeneration %}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}SLOT{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class StepCase(NamedTuple):
    """A model's shape and what is trained of it."""

    shape: str
    lora: bool

    @property
    def name(self) -> str:
        """Return the case as the table names it."""
        return f"{self.shape}, {'LoRA' if self.lora else 'full'}"


CASES = tuple(
    StepCase(shape, lora) for lora in (True, False) for shape in ("LLaVA-1.5-7B", "Qwen2.5-VL-7B")
)


class StepRun(NamedTuple):
    """One run of an arm: seconds of each counted step, losses of all, GiB at the peak."""

    seconds: list[float]
    losses: list[float]
    peak_gib: float | None


class StepClock(TrainerCallback):
    """Notes when each step ended, and forgets the peak of memory before those that count."""

    def __init__(self, device: str) -> None:
        """Take the device whose work is waited for."""
        self.cuda, self.ends = device.startswith("cuda"), list[float]()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Wait for the device, and note the time."""
        if self.cuda:
            torch.cuda.synchronize()
            if len(self.ends) + 1 == _WARMING:
                torch.cuda.reset_peak_memory_stats()
        self.ends.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Return how long each counted step took."""
        counted = self.ends[_WARMING - 1 :]
        return [after - before for before, after in pairwise(counted)]


def write_case(case: StepCase, tiny: bool, folder: Path) -> Path:
    """Write a configuration and a processor, records and an image; return the records' file."""
    llava = case.shape.startswith("LLaVA")
    marks = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = _tokenizer(() if llava else marks, "<image>" if llava else marks[2])
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    config = SHAPES[case.shape].config(tiny, {n: getattr(tokenizer, n) for n in names})
    pixels = 56 if tiny else 336
    if llava:
        config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
        template = _MARKED.replace("SLOT", "<image>\n")
        processor: Any = _llava_processor(config, tokenizer, pixels, template)
    else:
        ids = tokenizer.convert_tokens_to_ids(list(marks))
        kinds = ("vision_start", "vision_end", "image", "video")
        for kind, number in zip(kinds, ids, strict=True):
            setattr(config, f"{kind}_token_id", number)
        template = _MARKED.replace("SLOT", "".join((marks[0], marks[2], marks[1])))
        processor = _qwen_processor(tokenizer, pixels, template)
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    image = make_image("noise", (pixels, pixels))
    assert image is not None
    image.save(folder / "image.png")
    return _write_records(folder / "records.json")


def _tokenizer(marks: Sequence[str], image_token: str) -> Any:
    made = make_tokenizer([_TEXT] * 4, 512)
    made.add_tokens(["<|im_start|>", "<|im_end|>", *marks], special_tokens=True)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made.backend_tokenizer,
        bos_token=made.bos_token,
        eos_token=made.eos_token,
        pad_token=made.pad_token,
        extra_special_tokens={"image_token": image_token},
    )


def _llava_processor(config: Any, tokenizer: Any, pixels: int, template: str) -> Any:
    side = {"height": pixels, "width": pixels}
    image_processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": pixels}, crop_size=side
    )
    return transformers.LlavaProcessor(
        image_processor,
        tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        chat_template=template,
    )


def _qwen_processor(tokenizer: Any, pixels: int, template: str) -> Any:
    size = {"shortest_edge": pixels**2, "longest_edge": pixels**2}
    return transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(size=size),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(),
        chat_template=template,
    )


def _write_records(file: Path) -> Path:
    """Write as many records as the steps take: 24 words are asked, 40 to 120 answer."""
    draw = random.Random(0)
    rows = [
        {
            "id": str(number),
            "image": "image.png",
            "conversations": [
                {"from": "human", "value": f"<image>\n{' '.join(draw.choices(_WORDS, k=24))}?"},
                {"from": "gpt", "value": " ".join(draw.choices(_WORDS, k=draw.randint(40, 120)))},
            ],
        }
        for number in range(_BATCH * (_WARMING + _COUNTED))
    ]
    file.write_text(json.dumps(rows))
    return file


def recipe_of(case: StepCase, folder: Path, device_batch: int) -> Recipe:
    """Return the recipe of a case."""
    return Recipe(
        method="vit",
        output=folder / "out",
        model=ModelSettings(config=str(folder)),
        data=(folder / "records.json",),
        images=folder,
        format="tokenizer",
        max_length=2048,
        num_train_epochs=1,
        global_batch_size=_BATCH,
        per_device_batch_size=device_batch,
        learning_rate=1e-5,
        lora=LoraSettings(r=16, alpha=32) if case.lora else None,
        group="none",
        cache=folder / "cache",
    )


def run_arm(arm: str, recipe: Recipe, device: str) -> tuple[StepRun, list[int]]:
    """Train once; return what it took and the tokens of each counted step."""
    with torch.device(device):
        checkpoint = load(recipe)
    arguments = training_arguments(recipe)
    data = encoded_data(recipe, checkpoint, recipe.data)
    order = sample_order(recipe, data.lengths, data.has_image).order().reshape(-1, _BATCH)
    tokens = [int(data.lengths[rows].sum()) for rows in order[_WARMING:]]
    clock = StepClock(device)
    if arm == OURS:
        collator = make_collator(recipe, checkpoint)
        trainer: Any = make_trainer(recipe, checkpoint, data, arguments, collator)
    else:
        trainer = plain_trainer(recipe, checkpoint, arguments)
    trainer.remove_callback(TrainingProgressBar)
    trainer.add_callback(clock)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    peak = torch.cuda.max_memory_allocated() / 2**30 if clock.cuda else None
    return StepRun(clock.seconds(), losses, peak), tokens


def run_case(case: StepCase, device: str, tiny: bool, repetitions: int) -> dict[str, Any]:
    """Run both arms in turning order."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_case(case, tiny, folder)
        recipe = recipe_of(case, folder, device_batch=2 if tiny else _BATCH)
        runs: dict[str, list[StepRun]] = {arm: [] for arm in ARMS}
        for repetition in range(repetitions):
            for arm in ARMS[:: -1 if repetition % 2 else 1]:
                found, tokens = run_arm(arm, recipe, device)
                runs[arm].append(found)
                gc.collect()
                torch.cuda.empty_cache()
    speeds = {arm: [sum(tokens) / sum(one.seconds) for one in found] for arm, found in runs.items()}
    pairs = zip(runs[OURS][0].losses, runs[PLAIN][0].losses, strict=True)
    return {
        "case": case.name,
        "tokens_a_step": spread([float(number) for number in tokens]),
        "tokens_a_second": {arm: spread(values) for arm, values in speeds.items()},
        "ratio": spread([a / b for a, b in zip(speeds[OURS], speeds[PLAIN], strict=True)]),
        "peak_gib": {arm: found[0].peak_gib for arm, found in runs.items()},
        "first_loss": runs[OURS][0].losses[0],
        "largest_difference_of_losses": max(abs(a - b) for a, b in pairs),
    }


def render(result: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    where = result["environment"]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    rehearsal = f"{where['device']}, tiny models: a rehearsal, whose numbers mean nothing"
    head = (
        f"# A training step at real sizes\n\n{where['gpu'] or rehearsal}; "
        f"Python {where['python']}, {versions}; commit {where['git_commit']}; "
        "autocast to bfloat16, gradient checkpointing, "
        f"batches of {_BATCH}.\n\nRandom weights at the shapes of the checkpoints named, one image "
        f"of noise a record. {_WARMING} steps are not counted, {_COUNTED} are; "
        f"{result['repetitions']} runs of each arm in turning order: median and range; ratios are "
        "taken within a repetition."
    )
    columns = ["Case", "Tokens a step", *(f"{arm}, tokens / s" for arm in ARMS), "Ours / plain"]
    columns += [f"{arm}, peak GiB" for arm in ARMS] + ["Losses differ by at most"]
    rows = [_row(found) for found in result["cases"]]
    parts = [head, markdown([columns, *rows])] if rows else [head]
    if result["not_run"]:
        lines = (f"- {name}: {reason}" for name, reason in result["not_run"].items())
        parts.append("Not run:\n\n" + "\n".join(lines))
    parts.append(
        "Not measured:\n\n- several GPUs, quantised bases, packing, kernels of Liger or "
        "FlashAttention\n- data that a disk or a processor's images slow down: one image is read "
        "over and over"
    )
    return "\n\n".join(parts) + "\n"


def _row(found: Mapping[str, Any]) -> list[str]:
    speeds, ratio = found["tokens_a_second"], found["ratio"]
    peaks = [found["peak_gib"][arm] for arm in ARMS]
    return [
        found["case"],
        f"{found['tokens_a_step']['median']:,.0f}",
        *(_spread(speeds[arm], ",.0f") for arm in ARMS),
        _spread(ratio, ".2f"),
        *("not counted" if peak is None else f"{peak:.1f}" for peak in peaks),
        f"{found['largest_difference_of_losses']:.1e} of {found['first_loss']:.2f}",
    ]


def _spread(values: Mapping[str, float], form: str) -> str:
    low, high = (format(values[name], form) for name in ("min", "max"))
    return f"{values['median']:{form}} [{low}, {high}]"


def run(
    cases: Sequence[StepCase], device: str, tiny: bool, repetitions: int, output: Path
) -> dict[str, Any]:
    """Measure the cases; write the JSON and the table after each."""
    name = "training-steps-quick" if tiny else "training-steps"
    result: dict[str, Any] = {
        "environment": device_environment(device, tiny),
        "repetitions": repetitions,
        "cases": [],
        "not_run": {},
    }
    for case in cases:
        try:
            result["cases"].append(run_case(case, device, tiny, repetitions))
        # A GPU's time is dear: what other cases gave is kept.
        except Exception as error:
            if tiny:
                raise
            first = str(error).splitlines()[:1]
            result["not_run"][case.name] = f"{type(error).__name__}: {''.join(first)}"
        output.mkdir(parents=True, exist_ok=True)
        (output / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        (output / f"{name}.md").write_text(render(result))
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="a device of torch")
    parser.add_argument("--quick", action="store_true", help="tiny models: is it still whole?")
    parser.add_argument("--cases", default="*", help="a glob of names of cases")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each arm")
    parser.add_argument("--output", type=Path, default=FOLDER / "results", help="folder")
    given = parser.parse_args(arguments)
    cuda = given.device.startswith("cuda")
    if not cuda and not given.quick:
        sys.exit(f"--device {given.device}: real sizes are for cuda; add --quick for a rehearsal")
    if cuda and not torch.cuda.is_available():
        sys.exit(f"--device {given.device}: torch {torch.__version__} finds no GPU here")
    cases = [case for case in CASES if fnmatch(case.name, given.cases)]
    if not cases:
        sys.exit(f"--cases {given.cases}: none of {'; '.join(case.name for case in CASES)}")
    print(render(run(cases, given.device, given.quick, given.repetitions, given.output)))


if __name__ == "__main__":
    main()
