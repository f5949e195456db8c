"""Compose a LLaVA from a vision tower and an LLM, and take the LLM out of it again.

    verbalizer-bench compose --vision-tower DIR --llm DIR --connector mlp2x_gelu -o DIR
    verbalizer-bench extract-llm DIR -o DIR

What is written is a stock `LlavaForConditionalGeneration`: transformers, lm-eval and lmms-eval
load it without this package, with a second tower by `trust_remote_code` (`models/mof`);
`connector.py` says how a connector of one layer is written in it. The
identity there is exact in every floating type, but not in TF32 arithmetic and not when quantised.
vLLM has the activation of `mlp2x_gelu` and not `linear`; it was not run.
"""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jinja2 import TemplateError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from verbalizer_bench.models.chat.bos import append_nothing, give_bos_back, leave_bos_to_template
from verbalizer_bench.models.checkpoints.choices import CONNECTORS, FEATURE_LAYER
from verbalizer_bench.models.checkpoints.connector import (
    ACTIVATIONS,
    CONNECTOR_KEY,
    check_choice,
    connectors,
    new_connector,
)
from verbalizer_bench.models.checkpoints.llava_parts import (
    IMAGE_TOKEN,
    load_llm,
    load_part,
    load_tower,
)
from verbalizer_bench.models.checkpoints.mixtures import mixed_config, mixed_tokens
from verbalizer_bench.models.checkpoints.second_tower import SecondTower
from verbalizer_bench.models.checkpoints.strict_loading import (
    one_line,
    reading,
    writing,
)
from verbalizer_bench.models.checkpoints.vision_tower import (
    image_size,
    processed_size,
    tower_features,
)
from verbalizer_bench.models.mof import MofLlavaConfig, MofLlavaForConditionalGeneration

_DTYPES = ("auto", "float32", "float16", "bfloat16", "float64")


class Llava(NamedTuple):
    """A LLaVA in memory.

    Attributes:
        model: The model, in evaluation mode.
        processor: Its processor.
    """

    model: LlavaForConditionalGeneration
    processor: LlavaProcessor


def compose(
    vision_tower: str,
    llm: str,
    connector: str,
    output: Path,
    *,
    chat_template: str | None = None,
    seed: int = 0,
    dtype: str = "auto",
    second: SecondTower | None = None,
) -> Path:
    """Write a LLaVA folder: model, processor, tokenizer and the LLM's generation config.

    Args:
        vision_tower: Folder or hub id of a vision model, or of a CLIP or SigLIP with both halves.
        llm: Folder or hub id of a causal language model.
        connector: One of `CONNECTORS`.
        output: A folder that is empty or not there.
        chat_template: See `load_parts`.
        seed: See `load_parts`.
        dtype: See `load_parts`.
        second: See `load_parts`.

    Returns:
        `output`.

    Raises:
        ValueError: `output` is not empty, or the parts do not fit (`load_parts`).
    """
    _check_output(output)
    model, processor = load_parts(
        *(vision_tower, llm, connector),
        chat_template=chat_template,
        seed=seed,
        dtype=dtype,
        second=second,
    )
    with writing(output):
        model.save_pretrained(output)
        processor.save_pretrained(output)
    return output


def load_parts(
    vision_tower: str,
    llm: str,
    connector: str,
    *,
    chat_template: str | None = None,
    seed: int = 0,
    dtype: str = "auto",
    tower_dtype: str | None = None,
    second: SecondTower | None = None,
    second_dtype: str | None = None,
) -> Llava:
    """Put a vision tower and a new connector before an LLM; its answers to texts do not change.

    The tokenizer gets `IMAGE_TOKEN`. Where it has no padding token, or pads with EOS, which is
    trained, `unk` becomes it as in LLaVA, else a new `<pad>`. The embeddings have a row for each
    token, and more only if the LLM's had more; new rows are the mean of the old ones.

    Args:
        vision_tower: Folder or hub id; its image processor is taken too.
        llm: Folder or hub id.
        connector: One of `CONNECTORS`.
        chat_template: Jinja template of processor and tokenizer. None keeps the tokenizer's own,
            which for a text model has no place for an image.
        seed: Of the connector.
        dtype: Floating type of the whole model; `auto` is the LLM's.
        tower_dtype: Another one of the vision tower.
        second: A second vision tower, whose features are mixed with the first one's.
        second_dtype: Another floating type of it.

    Returns:
        Model and processor.

    Raises:
        ValueError: There is no such connector or dtype, a part cannot be read, lacks weights, or is
            of a kind that LLaVA cannot hold; or the chat template does not render an image.
    """
    check_choice("connector", connector, CONNECTORS)
    check_choice("dtype", dtype, _DTYPES)
    with torch.random.fork_rng(devices=[]):
        # Rows that a tokenizer with holes leaves unused, and a pooler that LLaVA does not use.
        torch.manual_seed(seed)
        tokenizer, language = load_llm(llm, dtype)
        tower = load_tower("vision_tower", vision_tower, tower_dtype or language.dtype)
        second_tower = None
        if second:
            name = second.tower
            second_tower = load_tower("second_tower", name, second_dtype or language.dtype)
    with reading(f"vision_tower={vision_tower}"):
        image_processor = AutoImageProcessor.from_pretrained(vision_tower)
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    size = processed_size(image_processor, vision_tower)
    config = join_configs(
        *(tower.config, language.config, connector, image_token),
        size=size,
        second=second,
        image_processor=image_processor,
    )
    model = _assemble(config, tower, language, second_tower)
    new_connector(model, seed)
    _check_logits(model, language, f"llm={llm}")
    processor = _processor(tokenizer, image_processor, config, size, chat_template)
    append_nothing(tokenizer, f"llm={llm}")
    leave_bos_to_template(processor)
    return Llava(model, processor)


def _processor(
    tokenizer: Any,
    image_processor: Any,
    config: LlavaConfig,
    size: tuple[int, int],
    chat_template: str | None,
) -> LlavaProcessor:
    """Return the stock processor; what towers give beside the first one's patches is additional."""
    tokenizer.chat_template = chat_template or tokenizer.chat_template
    strategy, patch = config.vision_feature_select_strategy, config.vision_config.patch_size
    patches = (size[0] // patch) * (size[1] // patch)
    processor = LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy=strategy,
        image_token=IMAGE_TOKEN,
        # The class token, which the strategy takes away again.
        num_additional_image_tokens=config.image_seq_length - patches + int(strategy == "default"),
        chat_template=tokenizer.chat_template,
    )
    if chat_template:
        _check_chat_template(processor)
    return processor


def join_configs(
    vision_config: Any,
    text_config: Any,
    connector: str,
    image_token_id: int,
    vocab_size: int | None = None,
    *,
    size: tuple[int, int] | None = None,
    second: SecondTower | None = None,
    image_processor: Any = None,
) -> LlavaConfig:
    """Make the configuration of a LLaVA; reads no weights.

    Features are those of the last but one layer, without the class token (arXiv 2310.03744).

    Args:
        vision_config: Of a vision model, or of a CLIP or SigLIP with both halves.
        text_config: Of a causal language model.
        connector: One of `CONNECTORS`.
        image_token_id: Id of `IMAGE_TOKEN`.
        vocab_size: Rows of the embeddings; None is what `text_config` says.
        size: Height and width of an image in pixels; None is what `vision_config` says.
        second: A second vision tower.
        image_processor: The first tower's, where the second one's pixels are its own.

    Returns:
        The configuration, with the marker. It holds `text_config` itself unless `vocab_size` is
        given.

    Raises:
        ValueError: There is no such connector, or the tower gives no patches (`TowerFeatures`).
    """
    check_choice("connector", connector, CONNECTORS)
    vision_config = getattr(vision_config, "vision_config", vision_config)
    features = tower_features(vision_config, size)
    if vocab_size is not None:
        text_config = copy.deepcopy(text_config)
        text_config.vocab_size = vocab_size
    settings = {
        "vision_config": vision_config,
        "text_config": text_config,
        "image_token_index": image_token_id,
        "image_seq_length": features.tokens,
        "projector_hidden_act": ACTIVATIONS[connector],
        "vision_feature_select_strategy": features.strategy,
        "vision_feature_layer": FEATURE_LAYER,
        "multimodal_projector_bias": True,
        "tie_word_embeddings": text_config.tie_word_embeddings,
        CONNECTOR_KEY: connector,
    }
    if second is None:
        return LlavaConfig(**settings)
    config = mixed_config(settings, second, image_processor)
    config.image_seq_length = mixed_tokens(config, size or image_size(vision_config))
    return config


def extract_llm(folder: str, output: Path) -> Path:
    """Write the language model of a LLaVA as a causal language model with its tokenizer.

    Weights and answers to texts are the LLaVA's. The tokenizer keeps `IMAGE_TOKEN` and the
    embeddings its row, so that ids, rows and chat template go on agreeing.

    Args:
        folder: Folder or hub id of a LLaVA.
        output: A folder that is empty or not there.

    Returns:
        `output`.

    Raises:
        ValueError: `output` is not empty, or `folder` is no LLaVA that can be read.
    """
    _check_output(output)
    with reading(f"folder={folder}"):
        config = AutoConfig.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if not isinstance(config, LlavaConfig):
        raise ValueError(
            f"folder={folder}: a checkpoint of {config.model_type}, which has no language model to "
            "take out; give a LLaVA"
        )
    llava = load_part(AutoModelForImageTextToText, "folder", folder)
    text_config = llava.config.text_config
    text_config.tie_word_embeddings = llava.config.tie_word_embeddings
    with torch.device("meta"):
        language = AutoModelForCausalLM.from_config(text_config).eval()
    setattr(language, language.base_model_prefix, llava.model.language_model)
    language.set_output_embeddings(llava.lm_head)
    language.generation_config = llava.generation_config
    _check_logits(llava, language, f"folder={folder}")
    give_bos_back(tokenizer)
    # An LLM has no processor, and AutoProcessor would look for one.
    tokenizer.init_kwargs.pop("processor_class", None)
    tokenizer._set_processor_class(None)
    with writing(output):
        language.save_pretrained(output)
        tokenizer.save_pretrained(output)
    return output


def _assemble(
    config: LlavaConfig, tower: Any, language: Any, second_tower: Any
) -> LlavaForConditionalGeneration:
    """Put the parts themselves, not copies, into a stock LLaVA; the connectors stay empty."""
    mixed = isinstance(config, MofLlavaConfig)
    with torch.device("meta"):
        made = MofLlavaForConditionalGeneration if mixed else LlavaForConditionalGeneration
        model = made(config)
    model.model.vision_tower = tower
    if mixed:
        model.model.second_vision_tower = second_tower
    model.model.language_model = language.base_model
    model.lm_head = language.get_output_embeddings()
    for connector in connectors(model):
        connector.to_empty(device="cpu").to(language.dtype)
    model.generation_config = language.generation_config
    config.dtype = language.dtype
    return model.eval()


def _check_logits(llava: Any, language: Any, what: str) -> None:
    """Raise ValueError unless both answer a text alike: some models scale or cap their logits."""
    ids = torch.arange(8)[None]
    with torch.no_grad():
        one, other = llava(input_ids=ids).logits, language(input_ids=ids).logits
    if not torch.allclose(one, other, equal_nan=True):
        raise ValueError(
            f"{what}: {type(language).__name__} does more to its logits than LLaVA, which would "
            "answer differently; give a model of the Llama, Mistral or Qwen2 family"
        )


def _check_chat_template(processor: LlavaProcessor) -> None:
    content = [{"type": "image"}, {"type": "text", "text": "hello"}]
    try:
        text = processor.apply_chat_template([{"role": "user", "content": content}])
    except (TemplateError, TypeError) as error:
        raise ValueError(
            f"chat_template: cannot render a turn with an image and a text: {one_line(error)}; "
            "correct the template"
        ) from error
    if text.count(IMAGE_TOKEN) != 1 or "hello" not in text:
        raise ValueError(
            f"chat_template: renders a turn with one image and the text 'hello' as {text!r}; write "
            f"{IMAGE_TOKEN} for each content of type image, and the text for each of type text"
        )


def _check_output(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"output={output}: is there and not an empty folder; give another")
