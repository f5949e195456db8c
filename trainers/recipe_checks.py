"""What the values of a `Recipe` must be, and what excludes what; each fault is one line."""

from importlib.util import find_spec
from typing import Any

from verbalizer_bench.config import check
from verbalizer_bench.models.checkpoints.choices import PARTS
from verbalizer_bench.trainers.choices import CONTEXT, GROUPS, THOUGHTS
from verbalizer_bench.trainers.conversations.formats import FORMATS
from verbalizer_bench.trainers.optimizers import OPTIMIZERS
from verbalizer_bench.trainers.recipe_settings import ALL, LORA, NONE

METHODS = ("pretrain", "vit", "sft", "tower", "dpo", "rejection", "steerlm")
# They train a LLaVA where `images` is given, and a text model where it is not.
EITHER = ("dpo", "rejection", "steerlm")
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3")
REPORTERS = ("wandb", "trackio", "tensorboard")


def check_recipe(recipe: Any) -> None:
    """Check all of a recipe that can be told from its values alone.

    Raises:
        ValueError: A value is wrong, or two exclude each other.
    """
    check(
        "group",
        recipe.group,
        recipe.group in GROUPS,
        f"one of {', '.join(GROUPS)}; true is called length now, and LLaVA's is modality",
    )
    for name, value, known in (
        ("loss", recipe.loss, ("tokens", "micro_batches")),
        ("method", recipe.method, METHODS),
        ("format", recipe.format, FORMATS),
        ("image_aspect_ratio", recipe.image_aspect_ratio, ("square", "pad")),
        ("bad_records", recipe.bad_records, ("error", "skip")),
        ("precision", recipe.precision, ("bf16", "fp32")),
        ("trained_modules", recipe.trained_modules, PARTS),
        ("optim", recipe.optim, tuple(OPTIMIZERS)),
        ("attn_implementation", recipe.attn_implementation, (None, *ATTENTIONS)),
    ):
        check(name, value, value in known, f"one of {', '.join(filter(None, known))}")
    thoughts = recipe.thoughts
    check("thoughts", thoughts, thoughts in (None, *THOUGHTS), f"one of {', '.join(THOUGHTS)}")
    _check_numbers(recipe)
    for name in recipe.report_to:
        check("report_to", name, name in REPORTERS, f"one of {', '.join(REPORTERS)}")
        check("report_to", name, bool(find_spec(name)), f"not installed; pip install {name}")
    check("adam_beta2", recipe.adam_beta2, 0 <= recipe.adam_beta2 < 1, "from 0 to below 1")
    check(
        "warmup_ratio",
        recipe.warmup_ratio,
        0 <= recipe.warmup_ratio < 1,
        "a share from 0 to below 1",
    )
    check("data", "[]", bool(recipe.data), "at least one file")
    check("held_out", "[]", recipe.held_out != (), "at least one file, or leave it out")
    for file in recipe.held_out or ():
        check("held_out", file, file not in recipe.files, "is trained on; give another file")
    _check_mixture(recipe)
    _check_method(recipe)
    _check_evaluation(recipe)
    if (name := recipe.push_to_hub) is not None:
        owner, slash, rest = name.partition("/")
        check("push_to_hub", name, owner and slash and rest, "owner/name of a repository")
    _check_memory(recipe)
    _check_scheduler(recipe.lr_scheduler_type)


def _check_scheduler(name: str) -> None:
    # Last, and not before: transformers takes seconds to import, and other faults wait for none.
    from transformers import SchedulerType

    known = [kind.value for kind in SchedulerType]
    check("lr_scheduler_type", name, name in known, f"one of {', '.join(known)}")


def _check_numbers(recipe: Any) -> None:
    for name in (
        "num_train_epochs",
        "learning_rate",
        "connector_learning_rate",
        "vision_tower_learning_rate",
        "max_grad_norm",
    ):
        value = getattr(recipe, name)
        check(name, value, value is None or value > 0, "above 0")
    for name in ("max_length", "global_batch_size", "per_device_batch_size", "save_steps"):
        value = getattr(recipe, name)
        check(name, value, value is None or value >= 1, "at least 1")
    for name in ("dataloader_num_workers", "seed", "weight_decay"):
        check(name, getattr(recipe, name), getattr(recipe, name) >= 0, "at least 0")


def _check_mixture(recipe: Any) -> None:
    records, weights = recipe.data_records, recipe.data_weights
    temperature = recipe.data_temperature
    names = ("data_records", "data_weights", "data_temperature")
    given = [name for name in names if getattr(recipe, name) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other; give one of them")
    wanted = f"a number for each of {len(recipe.data)} files, above 0"
    if records is not None:
        right = all(number is None or number >= 1 for number in records)
        check("data_records", list(records), right and len(records) == len(recipe.data), wanted)
    if weights is not None:
        right = all(weight > 0 for weight in weights)
        check("data_weights", list(weights), right and len(weights) == len(recipe.data), wanted)
    if temperature is not None:
        check("data_temperature", temperature, temperature >= 1, "at least 1, which is whole files")
        several = len(recipe.data) > 1
        check("data_temperature", temperature, several, "data is one file; leave it out")
    if recipe.text_replay and recipe.format == "plain":
        raise ValueError(
            f"text_replay: method={recipe.method} has an image in every record; leave it out"
        )


def _check_method(recipe: Any) -> None:
    if recipe.text_model and (given := _seeing_keys(recipe)):
        other = "method=vit" if recipe.method == "sft" else "images=FOLDER for a LLaVA"
        raise ValueError(
            f"method={recipe.method} trains a text model: leave out {', '.join(given)}, or give "
            f"{other}"
        )
    if (recipe.method in ("pretrain", "tower")) != (recipe.format == "plain"):
        raise ValueError(
            f"method={recipe.method}, format={recipe.format}: pretrain or tower, and plain, "
            "belong together"
        )
    if recipe.method == "pretrain" and recipe.lora:
        raise ValueError("lora: method=pretrain trains the connector alone; leave lora out")
    if recipe.method in ("pretrain", "tower") and recipe.trained_modules != "all":
        raise ValueError(
            f"trained_modules={recipe.trained_modules}: method={recipe.method} trains no language "
            "model; leave it out"
        )
    if recipe.thoughts and recipe.format == "plain":
        raise ValueError(f"thoughts: method={recipe.method} trains captions; leave it out")
    if recipe.method == "dpo":
        _check_dpo(recipe)
    elif recipe.dpo:
        raise ValueError(f"dpo: method={recipe.method} has no pairs; leave it out, or method=dpo")
    if recipe.method == "tower":
        _check_tower(recipe)
    else:
        _check_train(recipe)
    # A step's answers and prompts are weighted against each other, so that it is one batch.
    if recipe.loss_weights and recipe.per_device_batch_size != recipe.global_batch_size:
        raise ValueError(
            f"loss_weights: per_device_batch_size={recipe.per_device_batch_size} must be "
            f"global_batch_size={recipe.global_batch_size}, on one process; make them equal, or "
            "leave loss_weights out"
        )


def _seeing_keys(recipe: Any) -> list[str]:
    """Return the keys of a recipe that only a model that sees has."""
    model = recipe.model
    names = ("llm", "vision_tower", "connector", "second") if model.llm else ()
    given = [f"model.{name}" for name in names if getattr(model, name)]
    return given + [key for key in ("connector_learning_rate", "images") if getattr(recipe, key)]


def _check_memory(recipe: Any) -> None:
    if recipe.quantization and not recipe.lora:
        raise ValueError(
            "quantization: weights in few bits cannot be trained; give lora, whose adapter is "
            "trained on them, or leave quantization out"
        )
    if recipe.packing and recipe.method in ("dpo", "tower"):
        raise ValueError(f"packing: method={recipe.method} compares its rows; leave packing out")
    if recipe.adam_beta2 != 0.999 and not OPTIMIZERS[recipe.optim].betas:
        raise ValueError(
            f"adam_beta2={recipe.adam_beta2}: optim={recipe.optim} has none; leave it out"
        )


def _check_train(recipe: Any) -> None:
    """Check what is trained: said once, by keys that agree, and with rates that something has."""
    parts = recipe.trained_parts
    for name in ("vision_tower", "connector"):
        value, rate = getattr(parts, name), getattr(recipe, f"{name}_learning_rate")
        if recipe.text_model and value == ALL:
            raise ValueError(
                f"train.{name}={value}: method={recipe.method} trains a text model; leave it out"
            )
        if rate is not None and value == NONE:
            raise ValueError(
                f"{name}_learning_rate={rate}: the {name} is not trained; give train.{name}=all, "
                "or leave the rate out"
            )
    language = recipe.train and recipe.train.language_model
    if language == LORA and not recipe.lora:
        raise ValueError("train.language_model=lora: give lora.r and lora.alpha too")
    if language and language != LORA and recipe.lora:
        raise ValueError(
            f"train.language_model={language}, and lora is given; give train.language_model=lora, "
            "or leave lora out"
        )
    if language and language != LORA and recipe.trained_modules != ALL:
        raise ValueError(
            f"train.language_model={language} and trained_modules={recipe.trained_modules} say "
            "what is trained of the language model; leave trained_modules out"
        )
    if {parts.vision_tower, parts.connector, parts.language_model} == {NONE}:
        raise ValueError("train: nothing would be trained; give all of a part that shall be")


def _check_tower(recipe: Any) -> None:
    unfit = ["lora", "loss_weights", "connector_learning_rate", "held_out", "evaluation"]
    unfit += ["train", "vision_tower_learning_rate", "use_liger_kernel"]
    given = [name for name in unfit if getattr(recipe, name)]
    given += ["model.llm"] if recipe.model.llm else []
    if given:
        raise ValueError(
            f"method=tower trains a CLIP, model.path or model.config: leave out {', '.join(given)}"
        )
    # Each caption is compared with all images of its micro-batch.
    if recipe.per_device_batch_size != recipe.global_batch_size:
        raise ValueError(
            f"method=tower: per_device_batch_size={recipe.per_device_batch_size} must be "
            f"global_batch_size={recipe.global_batch_size}, on one process: captions are told "
            "apart within a batch"
        )


def _check_dpo(recipe: Any) -> None:
    if recipe.model.llm:
        raise ValueError(
            "method=dpo begins with a model that answers: give model.path of one, in place of "
            "model.llm, model.vision_tower and model.connector"
        )
    if recipe.thoughts == CONTEXT:
        raise ValueError(
            "thoughts=context: the answers of method=dpo have one prompt, without either's "
            "thought; give train or drop"
        )
    for name, given in (("loss", recipe.loss != "tokens"), ("loss_weights", recipe.loss_weights)):
        if given:
            raise ValueError(f"{name}: method=dpo has the losses of pairs, in dpo.loss_type")


def _check_evaluation(recipe: Any) -> None:
    settings = recipe.evaluation
    if settings and not settings.tasks and not (settings.held_out and recipe.held_out):
        raise ValueError(
            "evaluation: has nothing to measure; give evaluation.tasks, or held_out=FILE with "
            "evaluation.held_out=true"
        )
    if settings and settings.image and recipe.text_model:
        raise ValueError(f"evaluation.image={settings.image}: a text model sees none; leave it out")
    stopping = recipe.early_stopping
    if not stopping:
        return
    if not settings:
        raise ValueError("early_stopping: goes by evaluations; give evaluation.steps=N too")
    if stopping.metric == "held_out_loss" and not (settings.held_out and recipe.held_out):
        raise ValueError(
            "early_stopping.metric=held_out_loss: give held_out=FILE, and evaluation.held_out=true"
        )
    if stopping.metric != "held_out_loss" and not settings.tasks:
        raise ValueError(f"early_stopping.metric={stopping.metric}: give evaluation.tasks")
