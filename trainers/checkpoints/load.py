"""Load what a recipe trains: a checkpoint, the parts of a LLaVA, or random weights."""

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
    ProcessorMixin,
)

from verbalizer_bench.models.chat.bos import append_nothing, leave_bos_to_template
from verbalizer_bench.models.checkpoints.compose import IMAGE_TOKEN, join_configs, load_parts
from verbalizer_bench.models.checkpoints.connector import new_connector
from verbalizer_bench.models.checkpoints.image_families import is_llava
from verbalizer_bench.models.checkpoints.strict_loading import load_whole, one_line, reading
from verbalizer_bench.models.checkpoints.vocabulary import check_vocabulary
from verbalizer_bench.trainers.checkpoints.dtypes import file_dtypes, hold_frozen, stored_dtypes
from verbalizer_bench.trainers.checkpoints.image_processor import with_aspect_ratio
from verbalizer_bench.trainers.checkpoints.own_processor import (
    check_own_processor,
    processor_texts,
    sees_by_own_processor,
)
from verbalizer_bench.trainers.checkpoints.quantized import compute_alike, quantization_config
from verbalizer_bench.trainers.checkpoints.trainable import choose_trained, mismatch
from verbalizer_bench.trainers.conversations.answers import end_generation
from verbalizer_bench.trainers.conversations.formats import chat_template
from verbalizer_bench.trainers.conversations.processor_texts import ProcessorTexts
from verbalizer_bench.trainers.conversations.steering import steered
from verbalizer_bench.trainers.conversations.thoughts import with_thinking
from verbalizer_bench.trainers.data.flat_batch import check_flat
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.recipe_checks import EITHER


class Checkpoint(NamedTuple):
    """A model with what encodes its inputs.

    Attributes:
        model: A vision-language model, a causal LM, or for `tower` a `CLIPModel`.
        processor: The vision-language model's processor; a text model's tokenizer.
        saved_dtype: The type that the saved checkpoint's configuration states.
        dtypes: The types of the base's weights in its files, by name; they are saved in these.
        config: The configuration to save: trainers change the model's own.
        texts: Asks the processor what images become, where the model is no LLaVA.
    """

    model: Any
    processor: Any
    saved_dtype: torch.dtype = torch.float32
    dtypes: Mapping[str, torch.dtype] = MappingProxyType({})
    config: Any = None
    texts: ProcessorTexts | None = None

    @property
    def tokenizer(self) -> Any:
        """Return the tokenizer."""
        return getattr(self.processor, "tokenizer", self.processor)

    @property
    def saved_dtype_name(self) -> str:
        """Return the saved type as configurations write it, such as `bfloat16`."""
        return _name(self.saved_dtype)

    @property
    def image_tokens(self) -> int:
        """Return how many tokens an image of a LLaVA takes; 0 for other models."""
        return 0 if self.texts else int(getattr(self.model.config, "image_seq_length", 0))

    @property
    def image_token_id(self) -> int | None:
        """Return the id that stands for an image; None for a text model."""
        if self.model.config.model_type == "clip":
            return cast(int, self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
        return getattr(self.model.config, "image_token_index", None)


def load(recipe: Recipe, exact: bool = False) -> Checkpoint:
    """Load a recipe's model and choose what is trained.

    Trained weights are float32; frozen ones are in the recipe's precision where an adapter or a
    connector alone is trained.

    Args:
        recipe: The recipe.
        exact: Hold frozen weights in the types of the base's files instead, for saving.

    Raises:
        ValueError: The model is not what the method trains, or the number of trained parameters is
            not the recipe's.
    """
    config = _config(recipe)
    if not recipe.model.llm or recipe.model.config:
        _check_kind(recipe, config)
    if recipe.packing:
        check_flat(config)
    low = recipe.frozen_in_bf16
    _check_quantized(recipe, config)
    checkpoint = _read(recipe, config, exact or low, exact)
    model, processor = checkpoint.model, checkpoint.processor
    choose_trained(model, recipe)
    if fault := mismatch(model, recipe):
        raise ValueError(fault)
    if low and not exact:
        hold_frozen(model, torch.bfloat16)
    if recipe.attn_implementation and not exact:
        _set_attention(model, recipe.attn_implementation)
    _set_template(checkpoint, recipe)
    generation_config = getattr(model, "generation_config", None)
    end_generation(generation_config, recipe.format, checkpoint.tokenizer)
    if sees_by_own_processor(recipe, config):
        checkpoint = checkpoint._replace(texts=processor_texts(recipe, config, processor))
    elif (image_processor := getattr(processor, "image_processor", None)) is not None:
        processor.image_processor = with_aspect_ratio(image_processor, recipe.image_aspect_ratio)
    return checkpoint._replace(config=copy.deepcopy(model.config))


def shapes_texts(recipe: Recipe, config: Any) -> ProcessorTexts | None:
    """Return what asks a model's processor, as `load` has it; None for other models.

    Args:
        recipe: The recipe.
        config: The model's configuration.

    Raises:
        ValueError: There is no processor, or what it makes of images cannot be known.
    """
    if not sees_by_own_processor(recipe, config):
        return None
    processor = _processor(recipe, str(recipe.model.config or recipe.model.path))
    _set_template(Checkpoint(None, processor), recipe)
    return processor_texts(recipe, config, processor)


def _read(recipe: Recipe, config: Any, stored_types: bool, exact: bool) -> Checkpoint:
    """Read a base, in the types of its files or in float32; in few bits unless exactly."""
    if recipe.model.config:
        return _from_config(recipe, config)
    if recipe.model.path:
        return _from_checkpoint(
            recipe, config, stored_types, bool(recipe.quantization) and not exact
        )
    return _from_parts(recipe, config, stored_types)


def _from_config(recipe: Recipe, config: Any) -> Checkpoint:
    # `from_config` writes its own type into the configuration.
    dtype = config.dtype or torch.float32
    torch.manual_seed(recipe.seed)
    model = _auto_model(recipe).from_config(config, dtype=torch.float32)
    if not recipe.text_model and is_llava(config):
        new_connector(model, recipe.seed)
    processor = _processor(recipe, str(recipe.model.config))
    return Checkpoint(model, processor, dtype, file_dtypes(model, {}, dtype))


def _from_checkpoint(
    recipe: Recipe, config: Any, stored_types: bool, quantized: bool
) -> Checkpoint:
    path = str(recipe.model.path)
    what, default = f"model.path={path}", config.dtype or torch.float32
    with reading(what):
        stored = stored_dtypes(path)
    dtype = _common(stored) if stored_types else torch.float32
    bits = {}
    if quantized:
        bits["quantization_config"] = quantization_config(recipe, load_shapes(recipe))
    model = load_whole(_auto_model(recipe), path, what, dtype=dtype, **bits)
    compute_alike(model)
    dtypes = {} if quantized else file_dtypes(model, stored, default)
    saved_dtype = config.dtype or next(iter(dtypes.values()), default)
    checkpoint = Checkpoint(model, _processor(recipe, path), saved_dtype, dtypes)
    if recipe.method != "tower":
        fix = "give tokenizer=DIR of the one that the weights were trained with"
        check_vocabulary(model, checkpoint.tokenizer, what, fix)
    return checkpoint


def _from_parts(recipe: Recipe, config: Any, stored_types: bool) -> Checkpoint:
    parts = recipe.model
    assert parts.llm and parts.vision_tower and parts.connector
    with reading(f"model.llm={parts.llm}, model.vision_tower={parts.vision_tower}"):
        llm, tower = (_common(stored_dtypes(part)) for part in (parts.llm, parts.vision_tower))
    second = parts.second and _common(stored_dtypes(parts.second.tower))
    model, processor = load_parts(
        parts.vision_tower,
        parts.llm,
        parts.connector,
        chat_template=None,
        seed=recipe.seed,
        dtype=_name(llm if stored_types else torch.float32),
        tower_dtype=_name(tower if stored_types else torch.float32),
        second=parts.second,
        second_dtype=_name(second if second and stored_types else torch.float32),
    )
    dtypes = dict.fromkeys(file_dtypes(model, {}, llm), llm)
    for prefix, dtype in (("model.vision_tower.", tower), ("model.second_vision_tower.", second)):
        dtypes |= {name: dtype for name in dtypes if dtype and name.startswith(prefix)}
    return Checkpoint(model, processor, config.dtype or llm, dtypes)


def _check_quantized(recipe: Recipe, config: Any) -> None:
    """Refuse a base in few bits, and one that is to be held in them and is not in files yet.

    Raises:
        ValueError: It is.
    """
    place = recipe.model.config or recipe.model.path or recipe.model.llm
    if getattr(config, "quantization_config", None):
        raise ValueError(
            f"model {place}: its weights are quantised already, and an adapter is merged into "
            "weights that are not; give the base that they were made of, with quantization: "
            "{load_in_4bit: true} to hold it so"
        )
    if recipe.quantization and not recipe.model.path:
        fix = (
            "`verbalizer-bench compose` makes one of parts"
            if recipe.model.llm
            else "or leave it out"
        )
        raise ValueError(f"quantization: weights are quantised from files; give model.path, {fix}")


def _set_attention(model: Any, name: str) -> None:
    """Have a model compute attention in another way than transformers chooses.

    Raises:
        ValueError: It has no such way.
    """
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        raise ValueError(f"attn_implementation={name}: {one_line(error)}; leave it out") from error
    parts = {type(one).__name__: one for one in model.modules() if isinstance(one, PreTrainedModel)}
    for kind, part in parts.items():
        if (used := part.config._attn_implementation) != name:
            raise ValueError(f"attn_implementation={name}: {kind} keeps {used}; leave it out")


def _common(stored: Mapping[str, torch.dtype]) -> torch.dtype:
    """Return the files' type, or float32, which holds them all, where they have several."""
    kinds = set(stored.values())
    return kinds.pop() if len(kinds) == 1 else torch.float32


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def load_shapes(recipe: Recipe) -> Any:
    """Return a recipe's model on the meta device: every shape, no weight read or allocated.

    Raises:
        OSError: A configuration is not at hand.
    """
    config, parts = _config(recipe), recipe.model
    if not parts.config and not parts.path:
        assert parts.vision_tower and parts.connector
        vision, words = AutoConfig.from_pretrained(parts.vision_tower), config.vocab_size
        # The image token comes behind the language model's vocabulary.
        config = join_configs(
            vision, config, parts.connector, words, words + 1, second=parts.second
        )
    _check_kind(recipe, config)
    if recipe.packing:
        check_flat(config)
    with torch.device("meta"):
        model = _auto_model(recipe).from_config(config)
    choose_trained(model, recipe)
    return model


def _auto_model(recipe: Recipe) -> Any:
    if recipe.method == "tower":
        return AutoModelForZeroShotImageClassification
    return AutoModelForCausalLM if recipe.text_model else AutoModelForImageTextToText


def _config(recipe: Recipe) -> Any:
    """Return the configuration of the model, or of a LLaVA's language model.

    Raises:
        FileNotFoundError: It cannot be read, in one line.
    """
    key = next(key for key in ("config", "path", "llm") if getattr(recipe.model, key))
    place = getattr(recipe.model, key)
    fix = "give a checkpoint (other recipes make some), or a hub id that can be reached"
    try:
        with reading(f"model.{key}={place}", fix):
            return AutoConfig.from_pretrained(place)
    except ValueError as error:
        raise FileNotFoundError(str(error)) from error


def _check_kind(recipe: Recipe, config: Any) -> None:
    second, mixed = recipe.model.second, getattr(config, "mixture", None)
    if recipe.model.config and second and second.mixture != mixed:
        what = f"has mixture={mixed}" if mixed else "has one vision tower"
        raise ValueError(
            f"model.config={recipe.model.config} {what}, and model.second.mixture="
            f"{second.mixture}; leave model.second out, or give parts (llm, vision_tower, "
            "connector) in place of config"
        )
    kind = "clip" if config.model_type == "clip" else "llava" if is_llava(config) else "text"
    if kind == "text" and type(config) not in AutoModelForCausalLM._model_mapping:
        kind = "other"
    if sees_by_own_processor(recipe, config):
        check_own_processor(recipe, config)
        return
    wanted = "text" if recipe.text_model else "clip" if recipe.method == "tower" else "llava"
    if kind == wanted:
        return
    how = ""
    if recipe.method in EITHER:
        how = " without images" if recipe.text_model else f" with images={recipe.images}"
    fix = {
        "text": "give a text model (`verbalizer-bench extract-llm` takes one out of a LLaVA), or "
        + ("method=vit" if recipe.method == "sft" else "images=FOLDER for a LLaVA"),
        "clip": "give a CLIP with both halves",
        "llava": "give a LLaVA (`verbalizer-bench compose` makes one), its parts, "
        + ("" if recipe.method == "pretrain" else "another vision-language model, ")
        + "or "
        + ("leave images out" if recipe.method in EITHER else "method=sft"),
    }[wanted]
    raise ValueError(
        f"model {recipe.model.config or recipe.model.path}: method={recipe.method}{how} does not "
        f"train a {config.model_type} model; {fix}"
    )


def _processor(recipe: Recipe, folder: str) -> Any:
    """Load the processor, or a text model's tokenizer.

    Raises:
        ValueError: It cannot be read, or a LLaVA comes without a processor.
    """
    place = recipe.tokenizer or folder
    key = "tokenizer"
    if not recipe.tokenizer:
        key = "model.config" if recipe.model.config else "model.path"
    kind = AutoTokenizer if recipe.text_model else AutoProcessor
    with reading(f"{key}={place}: its tokenizer", "give tokenizer=DIR of a whole one"):
        processor = kind.from_pretrained(place)
    if not recipe.text_model and not isinstance(processor, ProcessorMixin):
        raise ValueError(f"{place}: no processor in it; give tokenizer=DIR of a LLaVA's processor")
    return processor


def _set_template(checkpoint: Checkpoint, recipe: Recipe) -> None:
    """Save the format that is trained as the chat template, with one BOS and no EOS."""
    processor, tokenizer = checkpoint.processor, checkpoint.tokenizer
    append_nothing(tokenizer, "tokenizer")
    if recipe.format == "plain":
        return
    if recipe.format == "tokenizer":
        # A LLaVA is asked with its processor's, if it has one.
        template = processor.chat_template or tokenizer.chat_template
    else:
        template = chat_template(recipe.format, tokenizer)
    if recipe.method == "steerlm":
        template = steered(template)
    template = with_thinking(template, recipe.thoughts, tokenizer)
    processor.chat_template = tokenizer.chat_template = template
    if processor is not tokenizer:
        leave_bos_to_template(processor)
