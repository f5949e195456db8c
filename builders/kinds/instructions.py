"""Instructions: drawn from IFEval, with what is needed to verify an answer."""

import difflib
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from verbalizer_bench.builders.filters import verifiers
from verbalizer_bench.builders.pipeline.blocks import Instructions
from verbalizer_bench.builders.pipeline.sample import Instruction
from verbalizer_bench.io import jsonl

log = logging.getLogger(__name__)

_HUB = "google/IFEval"


def draw(ifeval: str, wanted: Instructions) -> list[Instruction]:
    """Return the first n instructions of the wanted types, by the sha256 of seed and place.

    No random generator is involved, so that no library version changes the choice. Instructions
    part of which the verifier draws at random are left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A type is unknown or cannot be verified here, or there are too few.
    """
    rows = list(read_ifeval(ifeval))
    types = _types(wanted.filter)
    for kind in types:
        verifiers.check_type(kind)
    known = [instruction for row in rows for instruction in _of(row, types)]
    if len(known) < wanted.n:
        raise ValueError(
            f"instructions.n={wanted.n}: {ifeval} has {len(known)} of the types in "
            f"instructions.filter={', '.join(wanted.filter)}; lower n, or add types"
        )
    return sorted(known, key=lambda one: _order(wanted.seed, one.source))[: wanted.n]


def read_ifeval(ifeval: str) -> Iterator[Mapping[str, Any]]:
    """Yield IFEval's rows: key, prompt, instruction_id_list and kwargs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is no row.
        ConnectionError: The hub does not answer.
    """
    if ifeval == "hub":
        yield from _hub_rows()
        return
    path = Path(ifeval).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"ifeval={ifeval}: no such file; give hub or a file of its rows")
    for place, row in jsonl.read(path):
        if wrong := _wrong(row):
            raise ValueError(f"ifeval={path}, {place}: not a row of IFEval: {wrong}")
        yield {name: row[name] for name in ("key", "instruction_id_list", "kwargs")}


def _wrong(row: Any) -> str | None:
    """Return why a row is not IFEval's."""
    if not isinstance(row, dict):
        return f"{type(row).__name__} in place of an object"
    for name in ("key", "instruction_id_list", "kwargs"):
        if name not in row:
            return f"it has no {name}"
    types, arguments = row["instruction_id_list"], row["kwargs"]
    if not isinstance(types, list) or not all(isinstance(one, str) for one in types):
        return f"instruction_id_list={types!r}: a list of types is expected"
    if not isinstance(arguments, list) or not all(isinstance(one, dict) for one in arguments):
        return f"kwargs={arguments!r}: a list of objects is expected"
    if len(types) != len(arguments):
        return f"{len(types)} types and {len(arguments)} kwargs"
    return None


def _hub_rows() -> list[Mapping[str, Any]]:
    import datasets

    try:
        return list(datasets.load_dataset(_HUB, split="train"))
    # `datasets` raises dozens of types without a network; each becomes a line with the fix.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConnectionError(
            f"ifeval=hub: cannot load {_HUB} ({reason}); without a network give ifeval=FILE, a "
            "file of its rows"
        ) from error


def _types(names: Sequence[str]) -> tuple[str, ...]:
    """Return the types that names, or groups, stand for, in the registry's order."""
    known = list(verifiers.registry())
    groups = {kind.partition(":")[0] for kind in known}
    for name in names:
        if name not in groups and name not in known:
            near = difflib.get_close_matches(name, [*groups, *known], n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(groups))}"
            raise ValueError(f"instructions.filter={name}: no such type; {hint}")
    return tuple(kind for kind in known if kind in names or kind.partition(":")[0] in names)


def _of(row: Mapping[str, Any], types: Sequence[str]) -> Iterator[Instruction]:
    pairs = zip(row["instruction_id_list"], row["kwargs"], strict=True)
    for place, (kind, given) in enumerate(pairs):
        if kind not in types:
            continue
        # The hub's rows have all arguments of all types, None where they do not apply.
        arguments = {name: _whole(value) for name, value in given.items() if value is not None}
        source = f"{row['key']}:{place}"
        try:
            yield Instruction(kind, arguments, verifiers.describe(kind, arguments), source)
        except verifiers.RandomInstruction as error:  # two of IFEval's: the letters # and !
            log.warning("IFEval %s is left out: %s", source, error)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value == int(value) else value


def _order(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\t{name}".encode()).hexdigest()
