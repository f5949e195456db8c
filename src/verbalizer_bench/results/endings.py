"""Say which answers did not end, and why: EOS ids that are not the checkpoint's, thoughts."""

from verbalizer_bench.results.schema import RunRecord


def ending_warnings(record: RunRecord, limit: int | None) -> list[str]:
    """Return what a reader must know of how responses ended, a sentence each.

    Args:
        record: What our adapters say of the run; of another model class, and in runs of an earlier
            version, it says nothing of this.
        limit: The most new tokens.
    """
    ends, thoughts = record.endings, record.thoughts
    total = sum(ends.values())
    warnings = []
    if cut := ends.get("limit"):
        where = "" if limit is None else f" at {limit} tokens"
        one = cut == 1
        warnings.append(
            f"{cut} of {total} responses {'was' if one else 'were'} cut off{where}: no EOS ended "
            f"{'it' if one else 'them'}"
        )
    if unknown := ends.get("unknown"):
        warnings.append(f"of {unknown} of {total} responses it is not known what ended them")
    if withheld := ends.get("filtered"):
        warnings.append(f"{withheld} of {total} responses were withheld by the server's filter")
    warnings += _eos_warnings(record)
    if mark := record.opened_thought:
        warnings.append(
            f"the chat template opens a thought ({mark}) at the end of each prompt, so that the "
            "answers are thoughts; give enable_thinking=False, if the template knows it"
        )
    if count := thoughts.get("open"):
        warnings.append(f"{count} of {total} responses are thoughts that did not end")
    if count := thoughts.get("closed"):
        warnings.append(
            f"{count} of {total} responses hold a thought, which was scored with the answer; give "
            "enable_thinking=False, or think_end_token"
        )
    return warnings


def _eos_warnings(record: RunRecord) -> list[str]:
    """Name tokens that end a turn and do not end a response."""
    ids = record.eos_token_ids or []
    tokens = {
        "the tokenizer's EOS": record.tokenizer_eos,
        "which closes turns in the chat template": record.turn_end,
    }
    roles: dict[tuple[int, str], list[str]] = {}
    for role, token in tokens.items():
        if token and token.id not in ids:
            roles.setdefault((token.id, token.token), []).append(role)
    return [
        f"{text!r} (id {number}), {', '.join(named)}, does not end a response: eos_token_id of "
        f"generation_config.json is {', '.join(map(str, ids))}"
        for (number, text), named in roles.items()
    ]
