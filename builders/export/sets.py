r"""Sets: accepted rows as training records in LLaVA's layout, and where each comes from.

    {"id": "000007", "image": "7.jpg", "conversations": [{"from": "human", "value": "<image>\n…"},
                                                         {"from": "gpt", "value": "…"}]}

Records without an image have no `image`. `<set>.provenance.jsonl` has a line for each, in order.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from verbalizer_bench.builders.filters.wording import IMAGE
from verbalizer_bench.builders.pipeline.prompts import Prompts, fill
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import Row
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole


@dataclass(frozen=True)
class Layout:
    """How a set is made.

    Attributes:
        name: Of its file.
        arms: The rows that are in it.
        image: Whether records have the image.
        template: Text of the prompts' `records` for the first question; None: the set's name.
            `arm` for the row's.
    """

    name: str
    arms: tuple[str, ...]
    image: bool
    template: str | None = None

    def record(self, row: Row, prompts: Prompts) -> dict[str, Any]:
        """Return a row's training record."""
        template = row.arm if self.template == "arm" else self.template or self.name
        first = fill(prompts.records[template], _values(row))
        questions = [f"{IMAGE}\n{first}" if self.image else first]
        questions += [turn.question for turn in row.turns[1:]]
        conversation = []
        for question, turn in zip(questions, row.turns, strict=True):
            conversation.append({"from": "human", "value": question})
            conversation.append({"from": "gpt", "value": turn.answer})
        image = {"image": row.image} if self.image else {}
        return {"id": row.id, **image, "conversations": conversation}


@dataclass(frozen=True)
class Sets:
    """What was written.

    Attributes:
        accepted: Rows that are records.
        set_aside: Rows that are not, with their reasons.
        sets: The rows of each set.
    """

    accepted: tuple[Row, ...]
    set_aside: tuple[Row, ...]
    sets: dict[str, tuple[Row, ...]]


def _values(row: Row) -> dict[str, str]:
    return {
        "question": row.turns[0].question,
        "caption": row.caption or "",
        "context": row.context or "",
        "instruction": row.instruction.text if row.instruction else "",
    }


def divide(rows: Sequence[Row], layouts: Sequence[Layout], most: int | None) -> Sets:
    """Return which rows are accepted, and which of them, the first ones, are in each set."""
    accepted = tuple(row for row in rows if row.set_aside is None)
    chosen = {
        layout.name: tuple(row for row in accepted if row.arm in layout.arms)[:most]
        for layout in layouts
    }
    return Sets(accepted, tuple(row for row in rows if row.set_aside), chosen)


def write_sets(
    rows: Sequence[Row], layouts: Sequence[Layout], recipe: DataRecipe, prompts: Prompts
) -> Sets:
    """Write the sets with their provenance, and all rows as accepted or set aside."""
    found = divide(rows, layouts, recipe.sets)
    for layout in layouts:
        chosen = found.sets[layout.name]
        records = [layout.record(row, prompts) for row in chosen]
        write_whole(recipe.output / f"{layout.name}.json", json_list(records))
        lines = (
            provenance(row, record, prompts) for row, record in zip(chosen, records, strict=True)
        )
        write_whole(recipe.output / f"{layout.name}.provenance.jsonl", jsonl.dumps(lines))
    for name, part in (("accepted", found.accepted), ("set_aside", found.set_aside)):
        path = recipe.work / f"{name}.jsonl"
        write_whole(path, jsonl.dumps(row.as_json() for row in part))
    return found


def json_list(records: Sequence[Any]) -> str:
    """Return a JSON list with a record a line."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    return f"[\n{lines}\n]\n" if lines else "[]\n"


def provenance(row: Row, record: Any, prompts: Prompts) -> dict[str, Any]:
    """Return where a record comes from."""
    text = json.dumps(record, sort_keys=True, ensure_ascii=False)
    return {
        "id": row.id,
        "image": row.image,
        "image_sha256": row.image_sha256,
        "record_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "prompts": {"version": prompts.version, "sha256": prompts.sha256},
        "models": sorted({attempt.model for attempt in row.attempts}),
        "attempts": [attempt._asdict() for attempt in row.attempts],
        "instruction": asdict(row.instruction) if row.instruction else None,
        "verified": row.verified,
        "pair": row.pair,
    }
