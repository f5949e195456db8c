"""Recipes: the YAML of a checkpoint as frozen dataclasses, checked before any weight is read.

verbalizer-bench train recipes/paper/llm_foit.yaml seed=1 output=checkpoints/foit-1

The YAML's keys are the fields below, those of its blocks the fields in `recipe_settings.py`;
`verbalizer_bench/config.py` says how they are read.
"""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verbalizer_bench.config import Choice, OneOrMore, plain, read
from verbalizer_bench.io.record_files import beside
from verbalizer_bench.models.checkpoints.model_parts import CONNECTOR, VISION_TOWER
from verbalizer_bench.trainers.choices import LossWeights
from verbalizer_bench.trainers.evaluation_settings import EarlyStoppingSettings, EvaluationSettings
from verbalizer_bench.trainers.recipe_checks import EITHER, check_recipe
from verbalizer_bench.trainers.recipe_settings import (
    ALL,
    LORA,
    NONE,
    DpoSettings,
    LoraSettings,
    ModelSettings,
    QuantizationSettings,
    TextReplaySettings,
    TrainSettings,
)

log = logging.getLogger(__name__)

# Keys of older recipes, and what transformers calls them.
RENAMED = {
    "epochs": "num_train_epochs",
    "global_batch": "global_batch_size",
    "device_batch": "per_device_batch_size",
    "schedule": "lr_scheduler_type",
    "warmup": "warmup_ratio",
    "workers": "dataloader_num_workers",
}

_REFUSED = {
    "lr": "there is no such key; did you mean learning_rate?",
    "streaming": "order, draws and resumption are exact because records are indexed: they "
    "are encoded once, into files that are mapped, so that memory does not grow with "
    "them; leave it out",
}


def default_cache() -> Path:
    """Return where encoded data are kept; that of older versions where it is there."""
    caches = Path.home() / ".cache"
    older = caches / "verbalizer_bench"
    return older if older.is_dir() else caches / "verbalizer-bench"


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint is made.

    Attributes:
        method: `tower` (a CLIP on images and captions, `plain` format), `pretrain` (the connector
            alone, `plain` format), `vit` (visual instruction tuning: connector and language model,
            vision tower frozen), `sft` (a text model); or a vision-language or a text model on
            preference data: `dpo` (pairs), `rejection` (the best of each prompt's completions),
            `steerlm` (all of them, each with its scores in the question).
        output: Folder of the checkpoint.
        model: What is trained.
        data: Files of records: JSON, JSON lines or parquet, shards of them, or a hub's data set;
            see `io/record_files.py`.
        data_records: How many records of each file are drawn, by the seed; null for all of it. More
            than it has: each as often as that goes, and the rest is drawn.
        data_weights: In place of that the files' proportion: the first is there whole, and the
            others are drawn to fit; [2, 1] has half as many of the second as the first has.
        data_temperature: In place of both each file's share is proportional to n^(1/T), where n is
            the number of its records: 1 draws each file whole, and the higher, the more equal they
            are. The total stays that of all files.
        text_replay: Records of text that are drawn beside those.
        format: Conversation format, one of `trainers.conversations.formats.FORMATS`.
        thoughts: What becomes of an answer's thought, `<think>…</think>` at its beginning or its
            message's `reasoning_content`. `train`: it is in the loss. `context`: what follows it
            alone is in the loss. `drop`: it is left out. A template that knows `enable_thinking` is
            told. None: in a text it is trained as the rest is, and `reasoning_content` is refused.
        tokenizer: A folder or hub id, where the model's own is not at hand.
        images: Folder that the records' image names are relative to; default: the data file's
            (of a hub's data set the working folder; images in the rows need none). With
            preference data it says that a model with images is trained, also where no record has
            one.
        held_out: Files of records that are not trained on: their loss is measured at the end,
            before the weights are saved in the base's precision.
        max_length: Tokens of a sample, image tokens counted; longer ones are cut at the right.
        image_aspect_ratio: `square` (the processor's crop) or `pad` (LLaVA-1.5: padded with its
            mean colour; the saved processor does so too).
        bad_records: `error`, or `skip`, which leaves out and counts what cannot be trained on.
        num_train_epochs: Passes over the data.
        global_batch_size: Samples of an optimiser step, over all processes and micro-batches.
        per_device_batch_size: Samples of a micro-batch on one device.
        group: What a step's samples have in common. `modality`: all have an image or none has, as
            in LLaVA. `length`: they are of similar length too, with less padding, but a short
            answer counts as much as a long one then. `none`: nothing.
        loss: What a step's loss is the mean over. `tokens`: all tokens of its answers.
            `micro_batches`: the means of its micro-batches of `per_device_batch_size`, as in LLaVA
            (transformers before 4.46), so that `per_device_batch_size` changes what tokens count.
        learning_rate: Of the language model; of the connector too unless it has its own.
        connector_learning_rate: Of the connector.
        vision_tower_learning_rate: Of the vision tower, where `train` has it trained.
        lr_scheduler_type: transformers' name of a learning rate schedule.
        warmup_ratio: Share of the steps in which the learning rate rises.
        weight_decay: AdamW's.
        adam_beta2: AdamW's decay of the second moment.
        loss_weights: What prompts and short answers count; None: answers alone, each token alike.
        max_grad_norm: Gradients are clipped to this norm.
        precision: `bf16` (autocast; a frozen base of an adapter is held in it) or `fp32`.
        gradient_checkpointing: Trade time for memory.
        lora: Train an adapter instead of the language model's weights.
        quantization: Hold the adapter's base in 4 or 8 bits (QLoRA, bitsandbytes); None: as it is.
        optim: transformers' name of an optimiser, one of `trainers.optimizers.OPTIMIZERS`.
        packing: Put a micro-batch's records into one row, without padding; none is cut or moved.
        attn_implementation: transformers' name of how attention is computed; None: its choice.
        use_liger_kernel: Compute norms, rotations and MLPs by liger-kernel, on a GPU.
        trained_modules: What of the language model is trained, or adapted. `all`; `attention`: the
            projections of its attention; `mlp`: those of its MLPs; `mlp_in`: those into them, gate
            and up (arXiv 2510.08564).
        train: Which parts of the model are trained, where not those of the method.
        dpo: Loss of `dpo`; None: TRL's default.
        trained_parameters: How many parameters must turn out to be trained; None: any number.
        seed: Of weights that are initialised, and of the order of the data.
        save_steps: Steps between checkpoints that `resume` can go on from; None: none are kept.
        resume: Go on from the output folder's last checkpoint.
        dataloader_num_workers: Processes that read images.
        report_to: Where else losses go: wandb, trackio, tensorboard.
        evaluation: Evaluate the model every some steps: `curve.csv`.
        early_stopping: End training, or choose the step that is saved, by the evaluations.
        push_to_hub: owner/name of a repository on the hub that gets checkpoint and card at the end.
        hub_private_repo: Whether that is private where it is new.
        cache: Where the data are kept as Arrow files; default: `~/.cache/verbalizer-bench`, or
            `~/.cache/verbalizer_bench`, which was its name, if it is there.
    """

    method: Choice
    output: Path
    model: ModelSettings
    data: OneOrMore[Path]
    format: Choice
    max_length: int
    num_train_epochs: float
    global_batch_size: int
    per_device_batch_size: int
    learning_rate: float
    thoughts: Choice | None = None
    tokenizer: str | None = None
    images: Path | None = None
    data_records: OneOrMore[int | None] | None = None
    data_weights: OneOrMore[float] | None = None
    data_temperature: float | None = None
    text_replay: TextReplaySettings | None = None
    held_out: OneOrMore[Path] | None = None
    image_aspect_ratio: Choice = "square"
    bad_records: Choice = "error"
    group: Any = "modality"
    loss: Choice = "tokens"
    connector_learning_rate: float | None = None
    vision_tower_learning_rate: float | None = None
    lr_scheduler_type: str = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    adam_beta2: float = 0.999
    loss_weights: LossWeights | None = None
    max_grad_norm: float = 1.0
    precision: Choice = "bf16"
    gradient_checkpointing: bool = True
    lora: LoraSettings | None = None
    quantization: QuantizationSettings | None = None
    optim: Choice = "adamw_torch_fused"
    packing: bool = False
    attn_implementation: Choice | None = None
    use_liger_kernel: bool = False
    trained_modules: Choice = "all"
    train: TrainSettings | None = None
    dpo: DpoSettings | None = None
    trained_parameters: int | None = None
    seed: int = 0
    save_steps: int | None = None
    resume: bool = False
    dataloader_num_workers: int = 0
    report_to: OneOrMore[str] = ()
    evaluation: EvaluationSettings | None = None
    early_stopping: EarlyStoppingSettings | None = None
    push_to_hub: str | None = None
    hub_private_repo: bool = True
    cache: Path = dataclasses.field(default_factory=default_cache)

    def __post_init__(self) -> None:
        # Older recipes say `false` for `none`.
        object.__setattr__(self, "group", "none" if self.group is False else self.group)
        check_recipe(self)
        self.gradient_accumulation_steps(processes=1)

    @property
    def text_model(self) -> bool:
        """Tell whether a text model is trained, not a LLaVA or a CLIP."""
        return self.method == "sft" or (self.method in EITHER and not self.images)

    @property
    def trained_parts(self) -> TrainSettings:
        """Return what is trained of each part, whoever says it; of a CLIP all."""
        asked = self.train or TrainSettings()
        language = LORA if self.lora else self.trained_modules
        return TrainSettings(
            vision_tower=asked.vision_tower or (ALL if self.method == "tower" else NONE),
            connector=asked.connector or (NONE if self.text_model else ALL),
            language_model=asked.language_model
            or (NONE if self.method == "pretrain" else language),
        )

    @property
    def frozen_in_bf16(self) -> bool:
        """Tell whether training holds frozen weights in bfloat16: of a frozen language model."""
        return self.precision == "bf16" and self.trained_parts.language_model in (LORA, NONE)

    @property
    def learning_rates(self) -> dict[str, float]:
        """Return the learning rates of parts that have their own."""
        rates = {
            CONNECTOR: self.connector_learning_rate,
            VISION_TOWER: self.vision_tower_learning_rate,
        }
        return {part: rate for part, rate in rates.items() if rate is not None}

    @property
    def files(self) -> tuple[Path, ...]:
        """Return all that is trained on: the data, then what is replayed."""
        return self.data + (self.text_replay.data if self.text_replay else ())

    @property
    def images_folder(self) -> Path | None:
        """Return the folder that image names are relative to; None for a text model."""
        return None if self.text_model else self.images or beside(self.data[0])

    def gradient_accumulation_steps(self, processes: int) -> int:
        """Return how many micro-batches make an optimiser step on each of so many processes.

        Raises:
            ValueError: The global batch cannot be dealt evenly.
        """
        steps, rest = divmod(self.global_batch_size, self.per_device_batch_size * processes)
        if rest or not steps:
            raise ValueError(
                f"global_batch_size={self.global_batch_size} is no multiple of "
                f"per_device_batch_size={self.per_device_batch_size} on {processes} processes; "
                "change per_device_batch_size"
            )
        return steps

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as the YAML has them."""
        return plain(dataclasses.asdict(self))


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe; see `config.read`.

    The number of trained parameters that a recipe states is that of its own method and adapter:
    where these are replaced, it is not asked for.
    """
    keys = {override.partition("=")[0] for override in overrides}
    parts = ("lora", "method", "train", "trained_modules")
    changed = sorted(key for key in keys if key.partition(".")[0] in parts)
    recipe = read(Recipe, path, overrides, renamed=RENAMED, refused=_REFUSED)
    if not changed or "trained_parameters" in keys or recipe.trained_parameters is None:
        return recipe
    log.warning(
        "%s on the command line: the recipe's trained_parameters=%s does not apply; --dry-run and "
        "training.json say how many are trained",
        ", ".join(changed),
        f"{recipe.trained_parameters:,}",
    )
    return dataclasses.replace(recipe, trained_parameters=None)
