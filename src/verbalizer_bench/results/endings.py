"""Say which answers did not end, and why: EOS ids that are not the checkpoint's, thoughts."""

from collections.abc import Mapping
from typing import Any


def ending_warnings(record: Mapping[str, Any], limit: int | None) -> list[str]:
    """Return what a reader must know of how responses ended, a sentence each.

    Args:
        record: What our adapters say of the run; empty for another model class, and without these
            keys in runs of an earlier version.
        limit: The most new tokens.
    """
    ends, thoughts = record.get("endings") or {}, record.get("thoughts") or {}
    total = sum(ends.values())
    found = []
    if cut := ends.get("limit"):
        where = "" if limit is None else f" at {limit} tokens"
        found.append(f"{cut} of {total} responses were cut off{where}: no EOS ended them")
    if unknown := ends.get("unknown"):
        found.append(f"of {unknown} of {total} responses it is not known what ended them")
    found += _eos_warnings(record)
    if mark := record.get("opened_thought"):
        found.append(
            f"the chat template opens a thought ({mark}) at the end of each prompt, so that the "
            "answers are thoughts; give enable_thinking=False, if the template knows it"
        )
    if count := thoughts.get("open"):
        found.append(f"{count} of {total} responses are thoughts that did not end")
    if count := thoughts.get("closed"):
        found.append(
            f"{count} of {total} responses hold a thought, which was scored with the answer; give "
            "enable_thinking=False, or think_end_token"
        )
    return found


def _eos_warnings(record: Mapping[str, Any]) -> list[str]:
    """Name tokens that end a turn and do not end a response."""
    ids = record.get("eos_token_ids") or []
    roles = {
        "the tokenizer's EOS": record.get("tokenizer_eos"),
        "which closes turns in the chat template": record.get("turn_end"),
    }
    found: dict[tuple[int, str], list[str]] = {}
    for role, token in roles.items():
        if token and token["id"] not in ids:
            found.setdefault((token["id"], token["token"]), []).append(role)
    return [
        f"{text!r} (id {number}), {', '.join(own)}, does not end a response: eos_token_id of "
        f"generation_config.json is {', '.join(map(str, ids))}"
        for (number, text), own in found.items()
    ]
