"""What a model card says to those who ask with other software: BOS, contents, the date."""

from typing import Any

from verbalizer_bench.models.chat.bos import bos_note
from verbalizer_bench.models.chat.template import DATE, PARTS, ChatTemplate, default_template
from verbalizer_bench.trainers.checkpoints.load import Checkpoint


def asking_notes(checkpoint: Checkpoint) -> list[str]:
    """Return what a model card says of it, a sentence or two each."""
    template, tokenizer = default_template(checkpoint.processor.chat_template), checkpoint.tokenizer
    if not template:
        return []
    sees_images = checkpoint.processor is not tokenizer
    notes = [bos_note(template, tokenizer, sees_images)]
    notes.append(_content_note(template, tokenizer, sees_images))
    if "strftime_now" in template:
        notes.append(
            f"The chat template may write the date: it was trained with {DATE:%Y-%m-%d}, which "
            "`verbalizer-bench run` asks with; other software writes the day's own."
        )
    return [note for note in notes if note]


def _content_note(template: str, tokenizer: Any, sees_images: bool) -> str | None:
    """Say where the template takes contents otherwise than other software gives them."""
    slot = "<image>" if sees_images else None
    chat = ChatTemplate(template, tokenizer.special_tokens_map, "chat template", image_slot=slot)
    image = [{"type": "image"}] if sees_images else []
    try:
        chat.render([{"role": "user", "content": [*image, {"type": "text", "text": "x"}]}])
    except ValueError:
        return None
    if sees_images and PARTS not in chat.forms:
        return (
            "The chat template takes contents as strings alone: plain processors and lm-eval's "
            f"`hf-multimodal` give a list of parts, which it cannot take. Give {slot}, a line "
            "break and the text as one string, as `verbalizer-bench run` does."
        )
    if not sees_images and PARTS in chat.forms:
        return (
            "The chat template takes contents as lists of parts alone, and lm-eval's `hf` gives "
            'strings, which it drops. Give `[{"type": "text", "text": …}]`, as `verbalizer-bench '
            "run` does."
        )
    return None
