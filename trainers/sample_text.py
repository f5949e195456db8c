"""A sample as text, with what is trained of it marked."""

from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any

from verbalizer_bench.models.checkpoints.compose import IMAGE_TOKEN
from verbalizer_bench.models.checkpoints.image_families import has_own_processor, image_token_ids
from verbalizer_bench.trainers.conversations.encoder import Encoded

_GREEN, _DIM, _PLAIN = "\033[32m", "\033[2m", "\033[0m"


def legend(colour: bool) -> str:
    """Return what is said above a first sample."""
    how = f"{_GREEN}in green{_PLAIN}" if colour else "between ⟦ and ⟧"
    return f"First sample; the loss is on what stands {how}:"


def show(encoded: Encoded, tokenizer: Any, model: Any, colour: bool) -> str:
    """Return a sample as text, with its trained tokens marked."""
    config = getattr(model, "config", None)
    text = ""
    for trained, run in groupby(
        zip(encoded.input_ids, encoded.assistant_mask, strict=True), lambda p: p[1]
    ):
        ids = [token for token, _ in run]
        if config is not None and has_own_processor(config):
            piece = _decode_expanded(ids, tokenizer, image_token_ids(config))
        else:
            piece = _decode(ids, tokenizer, getattr(config, "image_seq_length", None))
        if colour:
            text += f"{_GREEN if trained else _DIM}{piece}{_PLAIN}"
        else:
            text += f"⟦{piece}⟧" if trained else piece
    return text


def _decode(ids: Sequence[int], tokenizer: Any, image_tokens: int | None) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False)
    return text.replace(IMAGE_TOKEN, f"<image x {image_tokens}>") if image_tokens else text


def _decode_expanded(ids: Sequence[int], tokenizer: Any, images: Collection[int]) -> str:
    """Return ids as text, each run of image tokens as one with its length."""
    text = ""
    for image, run in groupby(ids, lambda token: token if token in images else None):
        piece = list(run)
        if image is None:
            text += tokenizer.decode(piece, skip_special_tokens=False)
        else:
            text += f"<{tokenizer.convert_ids_to_tokens(image).strip('<>')} x {len(piece)}>"
    return text
