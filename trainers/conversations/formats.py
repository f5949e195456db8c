"""The conversation formats: how turns become text, and which of it is trained.

Each is a chat template whose `{% generation %}` blocks stand around exactly what is trained: an
answer and what ends it. Without the marks it is what a checkpoint is saved with, so that a model is
asked as it was trained. `<image>` stands where the image tokens go. The tokenizer's own template is
left as it is: where it has no marks, `assistant_spans.py` finds the same by rendering.
"""

import re
from importlib.resources import files
from typing import Any

FORMATS = ("plain", "llama-2", "vicuna-v1", "tokenizer")
MARK = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")


def training_template(name: str, tokenizer: Any) -> str:
    """Return the chat template for training; ours mark what is trained.

    Raises:
        ValueError: No such format, or the tokenizer lacks what the format needs.
    """
    if name not in FORMATS:
        raise ValueError(f"format {name!r} is not known: it is one of {', '.join(FORMATS)}")
    if name == "tokenizer":
        if not tokenizer.chat_template:
            raise ValueError(
                "format 'tokenizer': this tokenizer has no chat template; use llama-2 or vicuna-v1"
            )
        return str(tokenizer.get_chat_template())
    if name != "plain" and tokenizer.eos_token is None:
        raise ValueError(
            f"format {name!r} ends answers with the EOS token: set it in the tokenizer"
        )
    return (files(__package__) / "templates" / f"{name}.jinja").read_text("utf-8")


def chat_template(name: str, tokenizer: Any) -> str:
    """Return the template that a checkpoint is saved with: the same text, nothing marked.

    The marks of ours become a condition that is always true, because they may trim the space around
    them. The tokenizer's own template stays as it is.
    """
    template = training_template(name, tokenizer)
    if name == "tokenizer":
        return template
    return MARK.sub(
        lambda mark: f"{{%{mark[1]} {'endif' if mark[2] else 'if true'} {mark[3]}%}}", template
    )
