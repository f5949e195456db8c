r"""Sets: accepted samples as training records in LLaVA's layout, and where each comes from.

    {"id": "000007", "image": "7.jpg", "conversations": [{"from": "human", "value": "<image>\n…"},
                                                         {"from": "gpt", "value": "…"}]}

Records without an image have no `image`. `<set>.provenance.jsonl` has a line for each, in order.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from verbalizer_bench.builders.pipeline.prompts import PromptTemplates, fill
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import TrainingSample
from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import write_whole
from verbalizer_bench.io.preferences import IMAGE


class Layout(Protocol):
    """How a set is made: its name and file, and which samples are which records."""

    @property
    def name(self) -> str:
        """Return the set's name."""

    @property
    def file(self) -> str:
        """Return the name of its file: `.json` is a list, `.jsonl` has a record a line."""

    def takes(self, sample: TrainingSample) -> bool:
        """Return whether a sample is in the set."""

    def record(self, sample: TrainingSample, prompts: PromptTemplates) -> dict[str, Any]:
        """Return a sample's record."""


@dataclass(frozen=True)
class SetLayout:
    """How a set in LLaVA's layout is made.

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

    @property
    def file(self) -> str:
        """Return the name of its file."""
        return f"{self.name}.json"

    def takes(self, sample: TrainingSample) -> bool:
        """Return whether a sample is in the set."""
        return sample.rejection is None and sample.arm in self.arms

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
        sets: The samples of each set, by its file's name.
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


def divide(samples: Sequence[TrainingSample], layouts: Sequence[Layout], most: int | None) -> Sets:
    """Return which samples are accepted, and the first ones for each set."""
    accepted = tuple(sample for sample in samples if sample.rejection is None)
    chosen = {
        layout.file: tuple(sample for sample in accepted if layout.takes(sample))[:most]
        for layout in layouts
    }
    return Sets(accepted, tuple(sample for sample in samples if sample.rejection), chosen)


def write_sets(
    samples: Sequence[TrainingSample],
    layouts: Sequence[Layout],
    recipe: DataRecipe,
    prompts: PromptTemplates,
) -> Sets:
    """Write the sets with their provenance, and all samples as accepted or rejected."""
    sets = divide(samples, layouts, recipe.sets)
    for layout in layouts:
        chosen = sets.sets[layout.file]
        records = [layout.record(sample, prompts) for sample in chosen]
        lines = layout.file.endswith(".jsonl")
        content = jsonl.dumps(records) if lines else json_list(records)
        write_whole(recipe.output / layout.file, content)
        pairs = zip(chosen, records, strict=True)
        origin = jsonl.dumps(provenance(sample, record, prompts) for sample, record in pairs)
        write_whole(recipe.output / f"{layout.name}.provenance.jsonl", origin)
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
        **_preference(sample),
    }


def _preference(sample: TrainingSample) -> dict[str, Any]:
    """Return how a sample's completions were sampled and judged; nothing without any."""
    if not sample.candidates:
        return {}
    # The texts stand in records, and those that are in none in the stages' files.
    kept = ("ending", "seed", "problem")
    return {
        "completions": [{name: getattr(one, name) for name in kept} for one in sample.candidates],
        "verdicts": [verdict._asdict() for verdict in sample.verdicts],
    }
