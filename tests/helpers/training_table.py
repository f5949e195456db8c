"""Find out again what docs/families.md says of training language models.

    python -m tests.helpers.training_table docs/families.md

It writes the rows; the page's text stays. test_language_families.py holds each row.
"""

import sys
from pathlib import Path
from typing import Any

from tests.helpers.chat_families import CHAT_FAMILIES, ChatFamily
from verbalizer_bench.io.conversations import BadRecordError, Conversation, Message
from verbalizer_bench.trainers.conversations.encoder import Encoded, Encoder

HEADER = "| chat of | model | system turn | answers before the last | ends |"
SYSTEM = "Be brief."


def encoded(tokenizer: Any, *turns: tuple[str, str]) -> Encoded:
    """Return a conversation as training has it."""
    messages = tuple(Message(role, text) for role, text in turns)
    encoder = Encoder(tokenizer, "tokenizer", None, 0, 4096)
    return encoder.encode(Conversation(7, "seven", messages, ()))


def runs(found: Encoded) -> list[list[int]]:
    """Return the ids that are trained, one list for each answer."""
    each: list[list[int]] = [[]]
    for token, on in zip(found.input_ids, found.assistant_mask, strict=True):
        if on:
            each[-1].append(token)
        else:
            each.append([])
    return [run for run in each if run]


def row(family: ChatFamily) -> str:
    """Return a family's row."""
    tokenizer = family.tokenizer()
    chat = [("user", "q"), ("assistant", "a b"), ("user", "r"), ("assistant", "c")]
    answers = runs(encoded(tokenizer, *chat))
    earlier = "trained" if len(answers) > 1 else "context"
    endings = [f"`{tokenizer.decode([run[-1]])}`".replace("|", r"\|") for run in answers]
    cells = (family.name, f"`{family.model_type}`", _system(tokenizer), earlier)
    return f"| {' | '.join([*cells, ' and '.join(dict.fromkeys(endings))])} |"


def _system(tokenizer: Any) -> str:
    """Return where a system turn stands, or that it cannot be trained with."""
    try:
        found = encoded(tokenizer, ("system", SYSTEM), ("user", "q"), ("assistant", "a"))
    except BadRecordError:
        return "refused"
    text = tokenizer.decode(found.input_ids)
    between = text[text.index(SYSTEM) + len(SYSTEM) : text.rindex("q")]
    return "a turn" if between.strip() not in ("", "<</SYS>>") else "in the first question"


def with_rows_of_now(page: str) -> str:
    """Return the page with its rows as they are found now."""
    start = page.index(HEADER)
    table = page[start:].partition("\n\n")[0].rstrip()
    rows = "\n".join([HEADER, table.splitlines()[1], *map(row, CHAT_FAMILIES)])
    return page.replace(table, rows)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_rows_of_now(path.read_text(encoding="utf-8")), encoding="utf-8")
