"""What a recipe trains: loaded, with what is trained chosen, and saved as a stock folder."""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from peft import LoraConfig
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    AutoTokenizer,
    ProcessorMixin,
)

from verbalizer_bench.models.chat.bos import append_nothing, leave_bos_to_template
from verbalizer_bench.models.checkpoints.compose import IMAGE_TOKEN, join_configs, load_parts
from verbalizer_bench.models.checkpoints.connector import (
    fix_identity,
    lora_targets,
    new_connector,
    trained_connector_modules,
)
from verbalizer_bench.models.checkpoints.strict_loading import check_vocabulary, load_whole, reading
from verbalizer_bench.trainers.checkpoints.dtypes import cast, hold, own_dtypes, stored_dtypes
from verbalizer_bench.trainers.checkpoints.image_processor import with_aspect_ratio
from verbalizer_bench.trainers.conversations.formats import chat_template, end_generation
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.training.non_finite import check_weights

_CONNECTOR = "multi_modal_projector"


class Checkpoint(NamedTuple):
    """A model with what encodes its inputs.

    Attributes:
        model: A causal LM for `sft`, a `CLIPModel` for `tower`, else a
            `LlavaForConditionalGeneration`.
        processor: The LLaVA's processor; a text model's tokenizer.
        saved_dtype: The type that a checkpoint made from it says it has.
        dtypes: The types of the base's own weights, by name, in which they are saved.
        config: The model's as it is saved: trainers set what they like in the model's own.
    """

    model: Any
    processor: Any
    saved_dtype: torch.dtype = torch.float32
    dtypes: Mapping[str, torch.dtype] = MappingProxyType({})
    config: Any = None

    @property
    def tokenizer(self) -> Any:
        """Return the tokenizer."""
        return getattr(self.processor, "tokenizer", self.processor)

    @property
    def image_tokens(self) -> int:
        """Return how many tokens an image takes; 0 for a text model or a CLIP."""
        return int(getattr(self.model.config, "image_seq_length", 0))

    @property
    def image_token_id(self) -> int | None:
        """Return the id that stands for an image; None for a text model."""
        if self.model.config.model_type == "clip":
            found: int = self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
            return found
        return getattr(self.model.config, "image_token_index", None)


def load(recipe: Recipe, exact: bool = False) -> Checkpoint:
    """Load a recipe's model and choose what is trained.

    Weights that are trained are float32; what only an adapter or a connector is trained on is in
    the recipe's precision.

    Args:
        recipe: The recipe.
        exact: Hold what is not trained in the base's own types instead, for saving.

    Raises:
        ValueError: The model is not what the method trains, or the number of trained parameters is
            not the recipe's.
    """
    own = recipe.model
    base = _config(recipe)
    if not own.llm or own.config:
        _check_kind(recipe, base)
    low = recipe.precision == "bf16" and (recipe.lora is not None or recipe.method == "pretrain")
    found = _read(recipe, base, exact or low)
    choose_trained(found.model, recipe)
    if low and not exact:
        hold(found.model, torch.bfloat16)
    _set_template(found, recipe)
    config = getattr(found.model, "generation_config", None)
    end_generation(config, recipe.format, found.tokenizer)
    if (images := getattr(found.processor, "image_processor", None)) is not None:
        found.processor.image_processor = with_aspect_ratio(images, recipe.image_aspect_ratio)
    return found._replace(config=copy.deepcopy(found.model.config))


def _read(recipe: Recipe, base: Any, own_types: bool) -> Checkpoint:
    """Read a base, in its own types or in float32."""
    own = recipe.model
    # Now: `from_config` writes its own into it.
    dtype = base.dtype or torch.float32
    if own.config:
        torch.manual_seed(recipe.seed)
        model = _auto_model(recipe).from_config(base, dtype=torch.float32)
        if recipe.method in ("pretrain", "vit"):
            new_connector(model, recipe.seed)
        processor = _processor(recipe, own.config)
        return Checkpoint(model, processor, dtype, own_dtypes(model, {}, dtype))
    if own.path:
        what = f"model.path={own.path}"
        with reading(what):
            stored = stored_dtypes(own.path)
        read_as = _one(stored) if own_types else torch.float32
        model = load_whole(_auto_model(recipe), own.path, what, dtype=read_as)
        dtypes = own_dtypes(model, stored, dtype)
        dtype = base.dtype or next(iter(dtypes.values()))
        found = Checkpoint(model, _processor(recipe, own.path), dtype, dtypes)
        if recipe.method != "tower":
            fix = "give tokenizer=DIR of the one that the weights were trained with"
            check_vocabulary(model, found.tokenizer, what, fix)
        return found
    assert own.llm and own.vision_tower and own.connector
    with reading(f"model.llm={own.llm}, model.vision_tower={own.vision_tower}"):
        llm, tower = (_one(stored_dtypes(part)) for part in (own.llm, own.vision_tower))
    model, processor = load_parts(
        own.vision_tower,
        own.llm,
        own.connector,
        chat_template=None,
        seed=recipe.seed,
        dtype=_name(llm if own_types else torch.float32),
        tower_dtype=_name(tower if own_types else torch.float32),
    )
    dtypes = {
        name: tower if "vision_tower." in name else llm for name in own_dtypes(model, {}, llm)
    }
    return Checkpoint(model, processor, base.dtype or llm, dtypes)


def _one(stored: Mapping[str, torch.dtype]) -> torch.dtype:
    """Return the type that files have, or where they have several one that holds them all."""
    kinds = set(stored.values())
    return kinds.pop() if len(kinds) == 1 else torch.float32


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def load_shapes(recipe: Recipe) -> Any:
    """Return a recipe's model on the meta device: every shape, no weight read or allocated.

    Raises:
        OSError: A configuration is not at hand.
    """
    own = recipe.model
    if own.config or own.path:
        config = _config(recipe)
    else:
        assert own.llm and own.vision_tower and own.connector
        vision, text = AutoConfig.from_pretrained(own.vision_tower), _config(recipe)
        # The image token comes behind the language model's vocabulary.
        config = join_configs(vision, text, own.connector, text.vocab_size, text.vocab_size + 1)
    _check_kind(recipe, config)
    with torch.device("meta"):
        model = _auto_model(recipe).from_config(config)
    choose_trained(model, recipe)
    return model


def choose_trained(model: Any, recipe: Recipe) -> None:
    """Set what is trained, before an adapter is added; `requires_grad` is saved nowhere.

    Of a CLIP all; else the connector (but for the fixed layer of a linear one) and, unless an
    adapter is trained, the language model; the vision tower never.

    Raises:
        ValueError: Another number of parameters is trained than the recipe says.
    """
    whole = recipe.lora is None and recipe.method != "pretrain"
    connector = tuple(trained_connector_modules(model.config))
    for name, weight in model.named_parameters():
        tower = "vision_tower." in name
        weight.requires_grad_(
            any(f"{module}." in name for module in connector)
            or (whole and not tower and _CONNECTOR not in name)
        )
    if connector and not any(weight.is_meta for weight in model.parameters()):
        fix_identity(model)
    # Without autocast of its weights a connector in bfloat16 would lose small updates.
    for weight in model.parameters():
        if weight.requires_grad and not weight.is_meta:
            weight.data = weight.data.float()
    wanted, found = recipe.trained_parameters, count(model, recipe)[0]
    if wanted is not None and found != wanted:
        raise ValueError(
            f"trained_parameters={wanted:,}, and this model trains {found:,}; "
            f"correct the model, or give trained_parameters={found}"
        )


def count(model: Any, recipe: Recipe) -> tuple[int, int]:
    """Return how many parameters are trained and frozen.

    The model is as `load` gives it; the adapter that is still to be added counts as trained.
    """
    trained = sum(w.numel() for w in model.parameters() if w.requires_grad)
    frozen = sum(w.numel() for w in model.parameters() if not w.requires_grad)
    if recipe.lora:
        adapted = re.compile(lora_targets(model))
        trained += recipe.lora.r * sum(
            sum(module.weight.shape)
            for name, module in model.named_modules()
            if adapted.fullmatch(name)
        )
    return trained, frozen


def lora_config(model: Any, recipe: Recipe) -> LoraConfig | None:
    """Return PEFT's configuration; the connector is trained and saved beside the adapter."""
    if recipe.lora is None:
        return None
    return LoraConfig(
        r=recipe.lora.r,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules=lora_targets(model),
        modules_to_save=trained_connector_modules(model.config) if recipe.method == "vit" else None,
        task_type="CAUSAL_LM",
    )


def save(
    checkpoint: Checkpoint, state: Mapping[str, torch.Tensor] | None, folder: Path
) -> Mapping[str, torch.Tensor]:
    """Write a folder that transformers loads by itself, each weight in the base's own type.

    Args:
        checkpoint: The model and its processor.
        state: Its weights gathered from all processes, in place of the model's own.
        folder: Where.

    Returns:
        The weights that were written.

    Raises:
        ValueError: The fixed layer of a linear connector was changed, or weights are not finite.
    """
    model = checkpoint.model if state is None else _assemble(checkpoint, state)
    fix_identity(model)
    cast(model, checkpoint.dtypes)
    weights: Mapping[str, torch.Tensor] = model.state_dict()
    fix = f"in {_name(checkpoint.saved_dtype)}, the base's type; give a base in another one"
    check_weights(weights, f"{fix}. No checkpoint was written")
    model.config = checkpoint.config
    model.save_pretrained(folder)
    if model.config.dtype != checkpoint.saved_dtype:
        # transformers writes the type of whichever weight comes first.
        model.config.dtype = checkpoint.saved_dtype
        model.config.save_pretrained(folder)
    checkpoint.processor.save_pretrained(folder)
    return weights


def _assemble(checkpoint: Checkpoint, state: Mapping[str, torch.Tensor]) -> Any:
    """Return a model of the stock class with weights that were gathered from all processes.

    FSDP2 gives the one that was trained a class of its own: saved from that, transformers 5.23
    gives a LLaVA's weights names that no LLaVA has.
    """
    config = checkpoint.model.config
    auto = AutoModelForImageTextToText if checkpoint.image_tokens else AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config)
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    model.generation_config = checkpoint.model.generation_config
    return model


def _auto_model(recipe: Recipe) -> Any:
    kinds = {"sft": AutoModelForCausalLM, "tower": AutoModelForZeroShotImageClassification}
    return kinds.get(recipe.method, AutoModelForImageTextToText)


def _config(recipe: Recipe) -> Any:
    """Return the configuration of the model, or of a LLaVA's language model.

    Raises:
        FileNotFoundError: It cannot be read, in one line.
    """
    own = recipe.model
    key = "config" if own.config else "path" if own.path else "llm"
    place = getattr(own, key)
    fix = "give a checkpoint (other recipes make some), or a hub id that can be reached"
    try:
        with reading(f"model.{key}={place}", fix):
            return AutoConfig.from_pretrained(place)
    except ValueError as error:
        raise FileNotFoundError(str(error)) from error


def _check_kind(recipe: Recipe, config: Any) -> None:
    kind = {"llava": "llava", "clip": "clip"}.get(config.model_type, "text")
    wanted = {"sft": "text", "tower": "clip"}.get(recipe.method, "llava")
    if kind == wanted:
        return
    fix = {
        "text": "give a text model (`verbalizer-bench extract-llm` takes one out of a LLaVA), or "
        "method=vit",
        "clip": "give a CLIP with both halves",
        "llava": "give a LLaVA (`verbalizer-bench compose` makes one), its parts, or method=sft",
    }[wanted]
    raise ValueError(
        f"model {recipe.model.config or recipe.model.path}: method={recipe.method} does not train "
        f"a {config.model_type} model; {fix}"
    )


def _processor(recipe: Recipe, folder: str) -> Any:
    """Load what encodes inputs.

    Raises:
        ValueError: It cannot be read, or a LLaVA comes without a processor.
    """
    place = recipe.tokenizer or folder
    key = (
        "tokenizer" if recipe.tokenizer else "model.config" if recipe.model.config else "model.path"
    )
    kind = AutoTokenizer if recipe.method == "sft" else AutoProcessor
    with reading(f"{key}={place}: its tokenizer", "give tokenizer=DIR of a whole one"):
        processor = kind.from_pretrained(place)
    if recipe.method != "sft" and not isinstance(processor, ProcessorMixin):
        raise ValueError(f"{place}: no processor in it; give tokenizer=DIR of a LLaVA's processor")
    return processor


def _set_template(checkpoint: Checkpoint, recipe: Recipe) -> None:
    """Have the checkpoint asked in the format that it was trained in, with one BOS, and no EOS."""
    processor, tokenizer = checkpoint.processor, checkpoint.tokenizer
    append_nothing(tokenizer, "tokenizer")
    if recipe.format == "plain":
        return
    if recipe.format == "tokenizer":
        # What a LLaVA is asked with is its processor's, where it has one.
        template = processor.chat_template or tokenizer.chat_template
    else:
        template = chat_template(recipe.format, tokenizer)
    processor.chat_template = tokenizer.chat_template = template
    if processor is not tokenizer:
        leave_bos_to_template(processor)


def stand_in_tokenizer(folder: str) -> tuple[Any, Any]:
    """Return a tokenizer that knows the image token, and the image processor beside it if any."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if IMAGE_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    try:
        return tokenizer, AutoImageProcessor.from_pretrained(folder)
    except (OSError, ValueError):
        return tokenizer, None
