"""Tokens and embeddings: whether a model has a row for every token, and rows for new ones."""

import re
from typing import Any

import torch

# Tokens that no prompt has, by name: <image_soft_token>, [PAD], <|reserved_special_token_5|>.
_NEVER_ASKED = re.compile(
    r"(?<![a-z])(pad|padding|unused\d*|reserved|extra|image|audio|video|vision|speech)(?![a-z])",
    re.IGNORECASE,
)


def vocabulary_rows(model: Any) -> int:
    """Return how many tokens a model has embeddings for."""
    layer = model.get_input_embeddings()
    rows = getattr(layer, "num_embeddings", None) or layer.weight.shape[0]
    # Idefics keeps those of its own tokens apart.
    return int(rows) + int(getattr(layer, "num_additional_embeddings", 0))


def check_vocabulary(model: Any, tokenizer: Any, what: str, fix: str) -> None:
    """Raise ValueError if the tokenizer has tokens that the model has no embedding for.

    Tokens that stand for images and sounds need none: a model puts features in their place, or,
    as a Gemma 3 for texts alone, is never asked with them. Nor do tokens that are kept in reserve,
    nor padding, which is masked: it takes the id of another token.

    Args:
        model: A model of transformers.
        tokenizer: Its tokenizer; if only its padding is out of range, it gets another.
        what: The argument that named the two, with its value.
        fix: What to do.
    """
    rows = vocabulary_rows(model)
    replaced = {
        value
        for config in (model.config, model.config.get_text_config())
        for key, value in config.to_dict().items()
        if key.endswith(("token_id", "token_index")) and not key.startswith(("pad", "bos", "eos"))
    }
    outside = {
        token: number
        for token, number in tokenizer.get_vocab().items()
        if number >= rows and number not in replaced and not _NEVER_ASKED.search(token)
    }
    outside.pop(tokenizer.pad_token, None)
    if not outside and (tokenizer.pad_token_id or 0) >= rows:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    if outside:
        token = min(outside, key=lambda name: outside[name])
        raise ValueError(
            f"{what}: {len(outside)} tokens of its tokenizer have no row in the {rows} of the "
            f"embeddings, such as {token!r} ({outside[token]}); {fix}"
        )


def add_embedding_rows(language: Any, tokenizer: Any, new: list[int]) -> None:
    """Add rows so that every token has one; new ids get the mean of the rows before them.

    A token so initialised is never the likeliest (Hewitt 2021, Initializing New Word Embeddings).
    """
    rows = language.get_input_embeddings().weight.shape[0]
    needed = max(tokenizer.get_vocab().values()) + 1
    language.resize_token_embeddings(max(rows, needed), mean_resizing=False)
    if not new:
        return
    with torch.no_grad():
        for layer in (language.get_input_embeddings(), language.get_output_embeddings()):
            layer.weight[new] = (
                layer.weight[: min(rows, new[0])].float().mean(0).to(layer.weight.dtype)
            )
