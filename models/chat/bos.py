"""Who writes BOS, the chat template or the tokenizer: exactly one. Neither writes behind a prompt.

A processor adds the tokenizer's BOS to a text that a chat template has rendered, BOS included:
transformers' `processor(text=…)` and lm-eval's `hf-multimodal` then ask with two. So what is saved
with such a template is a tokenizer that adds none. A text model's tokenizer is left as it is: what
renders its template tokenizes without special tokens.

A tokenizer that was trained with `add_eos_token` puts EOS behind every text, also behind a prompt,
whose answer is then over before it begins.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer

from verbalizer_bench.models.chat.template import ChatTemplate, default_template

log = logging.getLogger(__name__)
# Where a tokenizer's configuration keeps what was changed, so that its text model gets it back.
_KEPT = "post_processor_with_bos"


def put_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before a text by itself, and those behind it."""
    ids, plain = (
        list(tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (True, False)
    )
    if not plain:
        return ids, []
    places = (n for n in range(len(ids)) if ids[n : n + len(plain)] == plain)
    start = next(places, None)
    return ([], []) if start is None else (ids[:start], ids[start + len(plain) :])


def openings(tokenizer: Any) -> tuple[str, ...]:
    """Return what a text may begin with so that nothing is put before it: it stands there already.

    That is BOS, or all that the tokenizer puts there (GLM's `[gMASK]<sop>`).
    """
    front = "".join(tokenizer.convert_ids_to_tokens(put_around(tokenizer)[0]))
    return tuple(text for text in (tokenizer.bos_token, front) if text)


def append_nothing(tokenizer: Any, what: str) -> None:
    """Change a tokenizer so that it puts nothing behind a text.

    Args:
        tokenizer: Is changed.
        what: Whose it is, for the error.

    Raises:
        ValueError: It does, and cannot be changed.
    """
    if not (tail := put_around(tokenizer)[1]):
        return
    token = "".join(tokenizer.convert_ids_to_tokens(tail))
    if tokenizer.is_fast:
        processor = _post_processor(tokenizer)
        _change_templates(processor, _without_suffix)
        _set_post_processor(tokenizer, processor)
    elif getattr(tokenizer, "add_eos_token", False):
        tokenizer.add_eos_token = False
    if put_around(tokenizer)[1]:
        raise ValueError(
            f"{what}: its tokenizer ({type(tokenizer).__name__}) writes {token!r} behind every "
            "text, so that a prompt is over before its answer; take it out of the post_processor "
            "in tokenizer.json, or set add_eos_token to false"
        )
    log.warning("%s: its tokenizer wrote %r behind every text; it does not now", what, token)


def adds_bos(tokenizer: Any) -> bool:
    """Return whether the tokenizer puts BOS in front of a text."""
    return put_around(tokenizer)[0][:1] == [tokenizer.bos_token_id]


def writes_bos(template: Any, tokenizer: Any) -> bool:
    """Return whether a chat template (of several the default) begins a conversation with BOS.

    False if it cannot be told.
    """
    if not (text := default_template(template)):
        return False
    chat = ChatTemplate(text, tokenizer.special_tokens_map, "chat template", image_slot="<image>")
    try:
        rendered = chat.render([{"role": "user", "content": "x"}])
    except ValueError:
        return False
    return bool(tokenizer.bos_token) and rendered.startswith(tokenizer.bos_token)


def leave_bos_to_template(processor: Any) -> None:
    """Change a processor's tokenizer so that it adds no BOS where its chat template writes one."""
    tokenizer = processor.tokenizer
    if not (writes_bos(processor.chat_template, tokenizer) and adds_bos(tokenizer)):
        return
    bos = str(tokenizer.bos_token)
    if tokenizer.is_fast:
        post_processor = _post_processor(tokenizer)
        tokenizer.init_kwargs.setdefault(_KEPT, json.dumps(post_processor))
        _change_templates(
            post_processor,
            lambda pieces: [p for p in pieces if p.get("SpecialToken", {}).get("id") != bos],
        )
        _set_post_processor(tokenizer, post_processor)
    if adds_bos(tokenizer):
        raise ValueError(
            f"chat template and tokenizer both write BOS ({tokenizer.bos_token!r}), and this "
            f"tokenizer's ({type(tokenizer).__name__}) cannot be taken out; take it out of either"
        )


def give_bos_back(tokenizer: Any) -> None:
    """Undo `leave_bos_to_template`: for a text model, or an adapter that adds none to a BOS."""
    if kept := tokenizer.init_kwargs.pop(_KEPT, None):
        _set_post_processor(tokenizer, json.loads(kept))


def bos_note(template: Any, tokenizer: Any, sees_images: bool) -> str | None:
    """Return the sentence that users of other software must know, or None."""
    if not template or tokenizer.bos_token_id is None:
        return None
    if writes_bos(template, tokenizer):
        if sees_images and not adds_bos(tokenizer):
            return (
                "The chat template writes BOS and the saved tokenizer adds none: plain "
                "`processor(text=…)` and lm-eval's `hf-multimodal` make the tokens that were "
                "trained. A text without the template gets no BOS from them."
            )
        if adds_bos(tokenizer):
            return (
                "The chat template writes BOS, and the tokenizer adds one to any text: tokenize "
                "what the template renders with `add_special_tokens=False`, as "
                "`apply_chat_template(tokenize=True)` and lm-eval's `hf` do."
            )
    elif adds_bos(tokenizer):
        return (
            "The chat template writes no BOS and the tokenizer adds it, as it did in training: "
            "tokenize what the template renders with special tokens, as lm-eval does; a "
            "tokenizer's own `apply_chat_template(tokenize=True)` leaves it out."
        )
    return None


def _post_processor(tokenizer: Any) -> dict[str, Any]:
    """Return a fast tokenizer's post-processor as tokenizer.json has it."""
    processor: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())["post_processor"]
    return processor


def _change_templates(
    processor: dict[str, Any], change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> None:
    """Change what a post-processor writes around a text, given as a list of pieces."""
    for part in processor.get("processors") or ():
        _change_templates(part, change)
    for key in ("single", "pair"):
        if isinstance(processor.get(key), list):
            processor[key] = change(processor[key])


def _without_suffix(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    while pieces and "SpecialToken" in pieces[-1]:
        pieces = pieces[:-1]
    return pieces


def _set_post_processor(tokenizer: Any, processor: dict[str, Any]) -> None:
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["post_processor"] = processor
    made = Tokenizer.from_str(json.dumps(backend)).post_processor
    tokenizer.backend_tokenizer.post_processor = made
    # The attributes' setters would make a post-processor of their own.
    object.__setattr__(tokenizer, "_add_bos_token", adds_bos(tokenizer))
    object.__setattr__(tokenizer, "_add_eos_token", bool(put_around(tokenizer)[1]))
