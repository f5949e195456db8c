"""What a reader must know of two runs before their difference is put down to tuning.

Weights of two checkpoints are compared with tuning in mind. What the records say against that, and
what else tuning may have changed (the chat template, the ids that end a response), stands behind
the answer. A text model and an LVLM made from it differ in architecture, tokenizer and template by
their making: of them only the sizes of the language model and the ends of responses are compared.
"""

from collections.abc import Iterator

from verbalizer_bench.results.contrast import is_lvlm, same_weights
from verbalizer_bench.results.run import Run


def caveats(base: Run, run: Run) -> tuple[str, ...]:
    """Return a sentence for each thing that the records of two runs say; none of equal weights."""
    if same_weights(base, run):
        return ()
    return (*_kinship(base, run), *_ends(base, run))


def _kinship(base: Run, run: Run) -> Iterator[str]:
    """Say that two runs are not of one model before and after tuning, or of other templates."""
    sizes = [one.record.language_model for one in (base, run)]
    shared = [key for key in sizes[0] if key in sizes[1]]
    if other := [key for key in shared if sizes[0][key] != sizes[1][key]]:
        listed = ", ".join(f"{key} {sizes[0][key]:,} and {sizes[1][key]:,}" for key in other)
        names = f"{base.name} and {run.name}"
        yield f"{names}: these are not one language model before and after tuning: {listed}."
        return
    if is_lvlm(base) != is_lvlm(run):
        return
    parts = []
    if architectures := _both(base, run, "architecture"):
        parts.append(f"the architectures ({architectures[0]}, {architectures[1]})")
    tokenizers = _both(base, run, "tokenizer")
    if tokenizers:
        parts.append("the tokenizers")
    templates = [one.record.chat_template_sha256 for one in (base, run)]
    if all(templates) and templates[0] != templates[1]:
        parts.append("the chat templates")
    if not parts:
        return
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
    names = f"{base.name} and {run.name}"
    if architectures:
        yield f"{names}: these are not one model before and after tuning: {listed} differ."
    elif tokenizers:
        yield f"{names}: these may not be one model before and after tuning: {listed} differ."
    else:
        yield f"{names}: {listed} differ: what the template does is in the difference too."


def _ends(base: Run, run: Run) -> Iterator[str]:
    """Say that responses end by other ids, which are of one vocabulary."""
    ids = [one.record.eos_token_ids for one in (base, run)]
    if ids[0] is None or ids[1] is None or set(ids[0]) == set(ids[1]):
        return
    if is_lvlm(base) == is_lvlm(run) and _both(base, run, "tokenizer"):
        return
    rules = " and ".join(
        f"those of {one.name} at {', '.join(map(str, sorted(of_run))) or 'none'}{_cut(one)}"
        for one, of_run in zip((base, run), (ids[0], ids[1]), strict=True)
    )
    yield (
        f"Responses end at other ids, {rules}: one that runs on behind its answer loses F1, which "
        "tuning then seems to gain or to cost; write the same eos_token_id into both "
        "generation_config.json and run both again."
    )


def _cut(run: Run) -> str:
    ends = run.record.endings
    return f" ({ends.get('limit', 0)} of {sum(ends.values())} cut off)" if ends else ""


def _both(base: Run, run: Run, key: str) -> tuple[str, str] | None:
    """Return what both fingerprints have under a key, if they have it and differ."""
    one, other = (run.record.fingerprint.get(key) for run in (base, run))
    return (str(one), str(other)) if one and other and one != other else None
