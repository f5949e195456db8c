"""What is said of the answers of a format, and what stops generation behind one."""

import logging
from typing import Any

from verbalizer_bench.trainers.conversations.encoder import Encoder
from verbalizer_bench.trainers.conversations.thoughts import DESCRIBED

log = logging.getLogger(__name__)

_MAX_LENGTH = 1 << 20


def describe_answers(name: str, tokenizer: Any, thoughts: str | None = None) -> str:
    """Describe how a format's answers are found, and which of them are not trained."""
    how = _how_found(name, tokenizer)
    return f"{how}; {DESCRIBED[thoughts]}" if thoughts else how


def _how_found(name: str, tokenizer: Any) -> str:
    if name != "tokenizer":
        return f"the marks of the format {name}"
    encoder = Encoder(tokenizer, name, None, 0, 1)
    if encoder.has_marks:
        return "the marks of the tokenizer's chat template"
    how = "rendering the tokenizer's chat template with and without each of them"
    for ending in encoder.unknown_endings:
        how += f"; {ending} at their end is no token of the tokenizer: nothing will stop the model"
    if encoder.context_alone():
        how += "; those before the last that it writes otherwise once more follows are context"
    return how


def end_generation(config: Any, name: str, tokenizer: Any) -> None:
    """Add the tokenizer's EOS and what ends a format's answers to a generation config's EOS ids.

    A base may state another one, and a model trained on turns would never stop after one.
    """
    if name == "plain" or config is None:
        return
    known = config.eos_token_id if config.eos_token_id is not None else []
    known = list(known) if isinstance(known, list | tuple) else [known]
    endings = Encoder(tokenizer, name, None, 0, _MAX_LENGTH).ending_ids()
    if not endings:
        log.warning(
            "format %r: answers end with no token of the tokenizer's, so that nothing will stop "
            "the model after one; use llama-2 or vicuna-v1",
            name,
        )
    wanted = dict.fromkeys((*known, tokenizer.eos_token_id, *endings))
    if new := [token for token in wanted if token is not None and token not in known]:
        config.eos_token_id = [*known, *new]
        log.info("generation stops at %s too", tokenizer.convert_ids_to_tokens(new))
