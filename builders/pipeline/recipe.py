"""Data recipes: a YAML file of one data set, read into frozen dataclasses, checked before any call.

verbalizer-bench build recipes/data/format_oriented.yaml images.n=100 --dry-run

The YAML's keys are the fields below; `kind` says of which class. `verbalizer_bench/config.py` says
how they are read.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from verbalizer_bench.builders.pipeline.blocks import (
    Captions,
    Duplicates,
    Images,
    Instructions,
    Leakage,
)
from verbalizer_bench.builders.pipeline.preference_blocks import (
    Completions,
    Judge,
    PairRule,
    PromptRecords,
    PublishedPairs,
)
from verbalizer_bench.client.budget import Budget
from verbalizer_bench.client.endpoint import Endpoint, endpoint_for
from verbalizer_bench.config import OneOrMore, check, find, read
from verbalizer_bench.io.yaml_reading import CoreLoader, read_yaml


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """The settings of all kinds of data sets.

    Attributes:
        kind: `format_oriented`, `llava_style`, `response_format`, `preference`, `format_pairs` or
            `existing_pairs`.
        output: Folder of the data set; its stages and calls are in a folder of the kind's name.
        prompts: YAML of the prompts; None for kinds that need none.
        endpoints: By role; `default` for roles without one of their own.
        budget: What all runs in the folder may cost.
        retries: Further attempts at a record whose response is refused, empty or wrong.
        failures: What becomes of a record whose call fails for good: `stop` (the stage is not
            completed; a later run asks again) or `set_aside` (it is rejected). A record whose
            request the server refuses is rejected either way; if it refuses one after the other,
            the build stops.
        mentions: What becomes of an answer that mentions the caption: `rewrite` (another attempt,
            one of the retries) or `drop`.
        sets: Records of a set at most; the first accepted ones are taken.
        duplicates: When questions are near-duplicates.
        leakage: Evaluation data that records must share no words with.
        limit: Images, or records of existing data, to begin with; None: all.
        stage: The only stage to run, on what the one before has written; None: all.
        licence: The terms of images and captions, for the card.
        push_to_hub: Whether the data set is uploaded.
        hub_id: Where it is uploaded to.
    """

    kind: str
    output: Path
    prompts: Path | None = None
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    retries: int = 3
    failures: str = "stop"
    mentions: str = "rewrite"
    sets: int | None = None
    duplicates: Duplicates = field(default_factory=Duplicates)
    leakage: Leakage = field(default_factory=Leakage)
    limit: int | None = None
    stage: str | None = None
    licence: str = ""
    push_to_hub: bool = False
    hub_id: str | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("kind", tuple(KINDS)),
            ("failures", ("stop", "set_aside")),
            ("mentions", ("rewrite", "drop")),
        ):
            value = getattr(self, name)
            check(name, value, value in known, f"one of {', '.join(known)}")
        check("retries", self.retries, self.retries >= 0, "at least 0")
        for name in ("sets", "limit"):
            value = getattr(self, name)
            check(name, value, value is None or value >= 1, "at least 1")
        if self.push_to_hub and not self.hub_id:
            raise ValueError("push_to_hub=True: give hub_id, such as me/fovit")

    @property
    def work(self) -> Path:
        """Return the folder of stages and calls."""
        return self.output / self.kind


@dataclass(frozen=True, kw_only=True)
class FormatOriented(DataRecipe):
    """FOVIT, FOIT, NoFOVIT and NoFOIT (Shiono et al. 2024, arXiv 2512.23572).

    Attributes:
        images: Images to caption.
        captions: Images that come with captions.
        ifeval: `hub`, or a file of IFEval's rows.
        instructions: Which of its instructions are drawn.
        pairing: Whether the sets without instruction are about other images (`disjoint`: every
            second one) or about the same with the same questions (`same_items`). The paper can be
            read either way; the latter isolates the effect of instruction and format.
    """

    images: Images
    captions: Captions | None = None
    ifeval: str = "hub"
    instructions: Instructions = field(default_factory=Instructions)
    pairing: str = "disjoint"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ("disjoint", "same_items")
        check("pairing", self.pairing, self.pairing in known, f"one of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class LlavaStyle(DataRecipe):
    """Data in the manner of LLaVA-Instruct (Liu et al. 2023, arXiv 2304.08485).

    Attributes:
        images: With captions and boxes in their annotations.
        answers: What is generated for each image.
    """

    images: Images
    answers: OneOrMore[str] = ("conversation", "detail", "complex")

    def __post_init__(self) -> None:
        super().__post_init__()
        known = ("conversation", "detail", "complex")
        for name in self.answers:
            check("answers", name, name in known, f"some of {', '.join(known)}")
        once = bool(self.answers) and len(set(self.answers)) == len(self.answers)
        check("answers", list(self.answers), once, f"some of {', '.join(known)}, each once")


@dataclass(frozen=True, kw_only=True)
class ResponseFormat(DataRecipe):
    """Existing records and how their answers are asked for (Liu et al. 2023, arXiv 2310.03744).

    Attributes:
        records: JSON list or JSON lines with `image`, `question`, and `answer`, `answers` or
            `choices`; or of text with `question`, `answer`, `formatted` and `instruction`.
    """

    records: Path


@dataclass(frozen=True, kw_only=True)
class Preference(DataRecipe):
    """Completions that a judge rated, and pairs of them (Li et al. 2024, arXiv 2402.10884).

    Attributes:
        images: Folder that images' names in the records written are relative to.
        records: Where prompts are from, by a name.
        completions: What is sampled for each prompt.
        judge: How it is judged.
        pairs: Which pairs are made, by the name of their file.
    """

    images: Path | None = None
    records: dict[str, PromptRecords]
    completions: Completions = field(default_factory=Completions)
    judge: Judge = field(default_factory=Judge)
    pairs: dict[str, PairRule] = field(default_factory=lambda: {"pairs": PairRule()})

    def __post_init__(self) -> None:
        super().__post_init__()
        check("records", self.records, self.records, "a name with `file` at least")
        for block in ("records", "pairs"):
            for name in getattr(self, block):
                if not re.fullmatch(r"[\w-]+", name) or name == "completions":
                    raise ValueError(
                        f"{block}.{name}: it is part of a file's name; give another, of letters, "
                        "digits, - and _, other than completions"
                    )
        _check_sampling(self.completions, self.endpoints)


@dataclass(frozen=True, kw_only=True)
class FormatPairs(DataRecipe):
    """Pairs without a judge: answers that an IFEval verifier accepts, against refused ones.

    Attributes:
        samples: `accepted.jsonl` in the work folder of a `format_oriented` data set, or of a
            `response_format` one of text.
        images: Folder that its images' names are relative to.
        prompted: How the prompt is made: `fovit` (with the image), `foit` (with its caption),
            `text` (of items that have neither).
        chosen: The data set's answer (`set`), or a completion that the verifier accepts
            (`sampled`).
        rejected: The answer that its item has without the instruction (`plain`; needs
            `pairing: same_items`), or a completion that the verifier refuses (`sampled`).
        completions: What is sampled, if anything is.
    """

    samples: Path
    images: Path | None = None
    prompted: OneOrMore[str] = ("fovit", "foit")
    chosen: str = "set"
    rejected: str = "plain"
    completions: Completions = field(default_factory=Completions)

    def __post_init__(self) -> None:
        super().__post_init__()
        arms = ("fovit", "foit", "text")
        for name in self.prompted:
            check("prompted", name, name in arms, f"some of {', '.join(arms)}")
        for name, known in (("chosen", ("set", "sampled")), ("rejected", ("plain", "sampled"))):
            value = getattr(self, name)
            check(name, value, value in known, " or ".join(known))
        if self.is_sampled:
            _check_sampling(self.completions, self.endpoints)
            if "fovit" in self.prompted and not self.images:
                raise ValueError("images: missing; fovit's completions are asked with them")

    @property
    def is_sampled(self) -> bool:
        """Whether completions are needed."""
        return "sampled" in (self.chosen, self.rejected)


@dataclass(frozen=True, kw_only=True)
class ExistingPairs(DataRecipe):
    """Pairs that are published in layouts of their own.

    Attributes:
        records: The files, by a name.
        images: Folder that images' names in the records written are relative to.
    """

    records: dict[str, PublishedPairs]
    images: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check("records", self.records, self.records, "a name with `file` and `layout` at least")


def _check_sampling(completions: Completions, endpoints: Mapping[str, Endpoint]) -> None:
    """Raise ValueError if the record would not say how completions were sampled."""
    if completions.checkpoint:
        return
    endpoint, where = endpoint_for(endpoints, "completion"), "endpoints.completion.parameters"
    if "temperature" not in endpoint.parameters:
        raise ValueError(f"{where}.temperature: missing; give it, as it is part of the data")
    if completions.k > 1 and endpoint.parameters["temperature"] == 0:
        raise ValueError(
            f"{where}.temperature=0: all {completions.k} completions of a prompt would be the "
            "same; give more than 0, or completions.k=1"
        )
    if "seed" in endpoint.parameters:
        raise ValueError(f"{where}.seed: each completion has its own; give completions.seed")


KINDS: dict[str, type[DataRecipe]] = {
    "format_oriented": FormatOriented,
    "llava_style": LlavaStyle,
    "response_format": ResponseFormat,
    "preference": Preference,
    "format_pairs": FormatPairs,
    "existing_pairs": ExistingPairs,
}


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> DataRecipe:
    """Read and check a recipe; see `config.read`.

    Raises:
        FileNotFoundError: There is no such recipe.
        ValueError: A key or value is wrong, in one line.
    """
    file = find(Path(path))
    given = next((one[5:] for one in reversed(overrides) if one.startswith("kind=")), None)
    kind = given or _kind(file)
    if kind and kind not in KINDS:
        raise ValueError(f"{file}: kind={kind}: one of {', '.join(KINDS)}")
    recipe = read(KINDS.get(kind, DataRecipe), file, overrides)
    return _with_licence(recipe, file, overrides)


def _kind(file: Path) -> str:
    """Return the kind that a file names, "" if the file is faulty, which `read` will report."""
    try:
        values = read_yaml(file, CoreLoader)
    except ValueError:
        return ""
    return str(values.get("kind", "")) if isinstance(values, dict) else ""


def sources(recipe: DataRecipe) -> dict[str, Path]:
    """Return the folders and files that a data set's images and texts are from, by their keys."""
    paths: dict[str, Path | None] = {}
    if isinstance(recipe, (FormatOriented, LlavaStyle)):
        images = recipe.images
        paths = {"images.folder": images.folder, "images.annotations": images.annotations}
        paths["images.boxes"] = images.boxes
    if isinstance(recipe, FormatOriented) and recipe.captions:
        paths["captions.file"] = recipe.captions.file
    if isinstance(recipe, ResponseFormat):
        paths["records"] = recipe.records
    if isinstance(recipe, (Preference, ExistingPairs)):
        paths["images"] = recipe.images
        paths |= {f"records.{name}": one.file for name, one in recipe.records.items()}
    if isinstance(recipe, FormatPairs):
        paths |= {"images": recipe.images, "samples": recipe.samples}
    return {name: path for name, path in paths.items() if path}


def _with_licence(recipe: DataRecipe, file: Path, overrides: Sequence[str]) -> DataRecipe:
    """Return a recipe without the file's licence if it uses other sources than the file's."""
    if any(one.startswith("licence=") for one in overrides) or not recipe.licence:
        return recipe
    try:
        written = sources(read(type(recipe), file))
    except ValueError:  # the file is incomplete by itself: the command line names no other source
        return recipe
    other = [
        name for name, path in sources(recipe).items() if written.get(name) not in (None, path)
    ]
    return dataclasses.replace(recipe, licence="") if other else recipe
