"""What a recipe's model is, without its weights: its shapes, its tokenizer, and what encodes."""

from collections.abc import Collection
from typing import Any

from transformers import AutoTokenizer

from verbalizer_bench.models.checkpoints.compose import IMAGE_TOKEN
from verbalizer_bench.trainers.checkpoints.load import load_shapes, shapes_texts
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.training.inputs import make_encoder, make_processor_encoder

_SAID = "it is missing, as said above"


def model_shapes(recipe: Recipe, missing: Collection[str]) -> Any:
    """Return the model's shapes.

    Args:
        recipe: The recipe.
        missing: The keys of checkpoints that are known not to be at hand.

    Raises:
        OSError: A configuration is not at hand; what is known to be missing is not asked for.
    """
    if set(missing) - {"tokenizer"}:
        raise FileNotFoundError(_SAID)
    return load_shapes(recipe)


def recipe_tokenizer(recipe: Recipe, missing: Collection[str]) -> Any:
    """Return the tokenizer, or the one that stands in for it.

    Raises:
        OSError: It is not at hand.
    """
    places = {"tokenizer": recipe.tokenizer} | {
        f"model.{key}": getattr(recipe.model, key) for key in ("config", "path", "llm")
    }
    key, place = next((key, place) for key, place in places.items() if place)
    if key in missing:
        raise FileNotFoundError(_SAID)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
    # transformers raises it for a folder without one.
    except ValueError as error:
        raise FileNotFoundError(f"{place}: no tokenizer in it: {error}") from error
    if IMAGE_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    return tokenizer


def tokenizer_line(recipe: Recipe, tokenizer: Any) -> str:
    """Return what a tokenizer is, for people."""
    if recipe.tokenizer in (None, recipe.model.config):
        return f"{tokenizer.name_or_path}, {len(tokenizer):,} words"
    return f"{recipe.tokenizer}, {len(tokenizer):,} words (a stand-in: lengths are this one's)"


def shapes_encoder(recipe: Recipe, tokenizer: Any, model: Any) -> Any:
    """Return what makes token ids of a recipe's records.

    Args:
        recipe: The recipe.
        tokenizer: Of `recipe_tokenizer`.
        model: Of `model_shapes`; None: an image has no tokens.

    Raises:
        ValueError: What the model's processor makes of images cannot be known.
    """
    if model is not None and (texts := shapes_texts(recipe, model.config)):
        return make_processor_encoder(recipe, texts)
    return make_encoder(
        recipe,
        tokenizer,
        None if recipe.text_model else tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        int(getattr(getattr(model, "config", None), "image_seq_length", 0)),
    )
