r"""Sets: accepted samples as training records in LLaVA's layout, and where each comes from.

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
from verbalizer_bench.builders.pipeline.prompts import PromptTemplates, fill
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import TrainingSample
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole


@dataclass(frozen=True)
class SetLayout:
    """How a set is made.

    Attributes:
        name: Of its file.
        arms: The arms whose samples are in it.
        image: Whether records have the image.
        template: Text of the prompts' `records` for the first question; None: the set's name;
            `arm`: the sample's arm.
    """

    name: str
    arms: tuple[str, ...]
    image: bool
    template: str | None = None

    def record(self, sample: TrainingSample, prompts: PromptTemplates) -> dict[str, Any]:
        """Return a sample's training record."""
        template = sample.arm if self.template == "arm" else self.template or self.name
        first = fill(prompts.records[template], _values(sample))
        questions = [f"{IMAGE}\n{first}" if self.image else first]
        questions += [turn.question for turn in sample.turns[1:]]
        conversation = []
        for question, turn in zip(questions, sample.turns, strict=True):
            conversation.append({"from": "human", "value": question})
            conversation.append({"from": "gpt", "value": turn.answer})
        image = {"image": sample.image} if self.image else {}
        return {"id": sample.id, **image, "conversations": conversation}


@dataclass(frozen=True)
class Sets:
    """What was written.

    Attributes:
        accepted: Samples that are records.
        rejected: Samples that are not, with their reasons.
        sets: The samples of each set.
    """

    accepted: tuple[TrainingSample, ...]
    rejected: tuple[TrainingSample, ...]
    sets: dict[str, tuple[TrainingSample, ...]]


def _values(sample: TrainingSample) -> dict[str, str]:
    return {
        "question": sample.turns[0].question,
        "caption": sample.caption or "",
        "context": sample.context or "",
        "instruction": sample.instruction.text if sample.instruction else "",
    }


def divide(
    samples: Sequence[TrainingSample], layouts: Sequence[SetLayout], most: int | None
) -> Sets:
    """Return which samples are accepted, and the first ones for each set."""
    accepted = tuple(sample for sample in samples if sample.rejection is None)
    chosen = {
        layout.name: tuple(sample for sample in accepted if sample.arm in layout.arms)[:most]
        for layout in layouts
    }
    return Sets(accepted, tuple(sample for sample in samples if sample.rejection), chosen)


def write_sets(
    samples: Sequence[TrainingSample],
    layouts: Sequence[SetLayout],
    recipe: DataRecipe,
    prompts: PromptTemplates,
) -> Sets:
    """Write the sets with their provenance, and all samples as accepted or rejected."""
    sets = divide(samples, layouts, recipe.sets)
    for layout in layouts:
        chosen = sets.sets[layout.name]
        records = [layout.record(sample, prompts) for sample in chosen]
        write_whole(recipe.output / f"{layout.name}.json", json_list(records))
        pairs = zip(chosen, records, strict=True)
        lines = jsonl.dumps(provenance(sample, record, prompts) for sample, record in pairs)
        write_whole(recipe.output / f"{layout.name}.provenance.jsonl", lines)
    for name, part in (("accepted", sets.accepted), ("set_aside", sets.rejected)):
        path = recipe.work / f"{name}.jsonl"
        write_whole(path, jsonl.dumps(sample.as_json() for sample in part))
    return sets


def json_list(records: Sequence[Any]) -> str:
    """Return a JSON list with a record a line."""
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    return f"[\n{lines}\n]\n" if lines else "[]\n"


def provenance(sample: TrainingSample, record: Any, prompts: PromptTemplates) -> dict[str, Any]:
    """Return where a record comes from."""
    text = json.dumps(record, sort_keys=True, ensure_ascii=False)
    return {
        "id": sample.id,
        "image": sample.image,
        "image_sha256": sample.image_sha256,
        "record_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "prompts": {"version": prompts.version, "sha256": prompts.sha256},
        "models": sorted({attempt.model for attempt in sample.attempts}),
        "attempts": [attempt._asdict() for attempt in sample.attempts],
        "instruction": asdict(sample.instruction) if sample.instruction else None,
        "verified": sample.verified,
        "pair": sample.pair,
    }
