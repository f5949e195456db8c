"""The files of a submission, as pydantic models.

submissions/<org>__<model>/<YYYYMMDD>-<8 hex>/
  submission.yaml  results.json  run.json  SHA256SUMS  samples/<task>.jsonl.gz
"""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from verbalizer_bench.leaderboard.submission.names import check_name
from verbalizer_bench.results.schema import Count, Line, Score
from verbalizer_bench.tasks.spec import LabelType

SCHEMA_VERSION = 1

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# A line that people read as a name; beyond the pattern it is checked for look-alikes.
Name = Annotated[Line, AfterValidator(check_name)]
Text = Annotated[str, StringConstraints(max_length=4000)]
Link = Annotated[str, StringConstraints(max_length=500, pattern=r"^https?://[^\s\x00-\x1f\x7f]+$")]
ModelId = Annotated[
    str,
    StringConstraints(
        max_length=150, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?$"
    ),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Loose(BaseModel):
    """A part of a file that lm-eval writes: what is read is checked, the rest is left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class Model(_Strict):
    """The model that was asked: a hub commit, or weights that a hash names."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["revision"]}, {"required": ["weights_sha256"]}]}
    )

    id: ModelId
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")] | None = None
    weights_sha256: Hash | None = Field(
        None, description="of the weights as stored: `fingerprint.weights` of run.json"
    )
    kind: Literal["llm", "lvlm"]
    base: ModelId | None = Field(None, description="the id of the model that it was tuned from")
    base_weights_sha256: Hash | None = Field(
        None, description="the stored weights of that model: `fingerprint.weights` of its run"
    )
    parameters: Count | None = None
    recipe: Name | None = None

    @model_validator(mode="after")
    def _has_weights(self) -> "Model":
        if self.revision is None and self.weights_sha256 is None:
            raise ValueError("revision or weights_sha256 is needed: which weights are these?")
        if self.base == self.id:
            raise ValueError("base is the model itself; name what it was tuned from")
        if self.base_weights_sha256 and self.base_weights_sha256 == self.weights_sha256:
            raise ValueError("base_weights_sha256 are the model's own; name what it was tuned from")
        return self


class Submission(_Strict):
    """submission.yaml: who submits what."""

    schema_version: Literal[1] = 1
    protocol: Literal["paper", "stock-beams", "vllm-beams", "greedy", "toy", "other"]
    model: Model
    submitter: Name
    date: date
    links: Annotated[tuple[Link, ...], Field(max_length=10)] = ()
    licence: Name
    image_mode: Name = "n/a"
    notes: Text = ""


class SubmittedSample(_Strict):
    """One line of a samples file. No data set text: its licences are not ours."""

    # Titles are those of the published schemas.
    model_config = ConfigDict(title="Row", strict=True)

    doc_id: Annotated[int, Field(ge=0, lt=10**9)]
    doc_hash: Hash
    raw_prompt_hash: Hash
    prompt_hash: Hash
    target: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    response: Annotated[str, StringConstraints(max_length=10_000)]
    f1: Score


class Image(BaseModel):
    """What an adapter says of its blank image; the processor's settings are of any name."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    mode: Line


class Rendering(_Loose):
    """How an adapter says that it rendered the chat template."""

    contents: list[Line] = []
    date: Line | None = None
    arguments: dict[str, Any] = {}


class Token(_Strict):
    """A token of a tokenizer."""

    id: Count
    token: Line


class Record(_Loose):
    """What our adapters add to results.json; lm-eval's own models have none."""

    adapter: Line
    engine: dict[Line, Count] = {}
    scores: dict[Line, Count] = {}
    calibration: dict[str, Any] | None = None
    gguf_file: Text | None = None
    fingerprint: dict[str, Any] = {}
    language_model: dict[Line, Count] = {}
    generation_config: dict[str, Any] = {}
    image: Image | None = None
    first_input_ids: list[int] | None = None
    bos_counts: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    truncated_prompts: Count = 0
    escaped_prompts: Count = 0
    unknown_prompts: Count = 0
    special_tokens: dict[Line, Count] = {}
    eos_token_ids: list[int] | None = None
    chat_template_sha256: Hash | None = None
    rendering: Rendering | None = None
    dtype: Line | None = None
    device: Line | None = None
    world_size: Count | None = None
    responses_by_rank: list[Count] | None = None
    versions: dict[Line, Line] | None = None
    endings: dict[Line, Count] = {}
    thoughts: dict[Line, Count] = {}
    tokenizer_eos: Token | None = None
    turn_end: Token | None = None
    opened_thought: Line | None = None


class SubmittedRun(_Strict):
    """run.json: how the run was made; no command line, whose paths are the submitter's own."""

    model_config = ConfigDict(title="RunRecord")

    results: Line
    started: Line | None = None
    wall_seconds: Annotated[float, Field(ge=0, le=1e12)] | None = None
    model: Line
    model_args: dict[str, Any] | Text | None = None
    adapter: Line | None = None
    engine: dict[Line, Count] | None = None
    scores: dict[Line, Count] = {}
    calibration: dict[str, Any] | None = None
    gguf_file: Text | None = None
    responses_by_rank: list[Count] | None = None
    image: dict[str, Any] | None = None
    dtype: Line | None = None
    device: Line | None = None
    world_size: Count | None = None
    eos_token_ids: list[int] | None = None
    generation_config: dict[str, Any] | None = None
    chat_template_sha256: Hash | None = None
    rendering: Rendering | None = None
    endings: dict[Line, Count] = {}
    thoughts: dict[Line, Count] = {}
    tokenizer_eos: Token | None = None
    turn_end: Token | None = None
    opened_thought: Line | None = None
    fingerprint: dict[str, Any] | None = None
    language_model: dict[Line, Count] = {}
    first_input_ids: list[int] | None = None
    bos_counts: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    truncated_prompts: Count | None = None
    escaped_prompts: Count | None = None
    unknown_prompts: Count | None = None
    special_tokens: dict[Line, Count] = {}
    versions: dict[Line, Line] | None = None
    merged_from: list[Text] | None = None
    seeds: dict[Line, Any] | None = None
    batch_size: Any = None


class Words(_Strict):
    """A verbalizer in results.json."""

    type: LabelType
    first: Line
    second: Line


class TaskMetadata(_Loose):
    """What a task says of itself in results.json."""

    dataset: Line
    source: Line
    documents: Count
    identity: Hash
    identity_unordered: Hash | None = None
    fewshot_from: Line = "unknown"
    verbalizer: Words
    shard: Line | None = None


class Generation(BaseModel):
    """How responses were generated; other keys are lm-eval's, of any name."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    num_beams: Annotated[int, Field(ge=1, le=10_000)] = 1
    max_gen_toks: Annotated[int, Field(ge=1, le=10**6)] = 256
    do_sample: bool = False
    until: list[Annotated[str, StringConstraints(max_length=200)]] | Line | None = None

    __pydantic_extra__: dict[str, float | int | bool | Line | None]


class TaskConfig(_Loose):
    """A task's settings in results.json."""

    generation_kwargs: Generation
    num_fewshot: Count | None = None
    metadata: TaskMetadata


class Counts(_Loose):
    """How many documents a task has and how many were asked about."""

    original: Count
    effective: Count


class Config(_Loose):
    """The run's settings in results.json."""

    model: Line
    model_sha: str | None = None
    # lm-eval writes -1 where it does not know.
    model_num_parameters: int | None = None
    model_args: dict[str, Any] | Text | None = None
    model_dtype: Line | None = None
    device: Line | None = None
    batch_size: Any = None
    random_seed: Any = None
    numpy_seed: Any = None
    torch_seed: Any = None
    fewshot_seed: Any = None
    limit: float | None = None
    verbalizer_bench: Record | None = None


class SubmittedResults(_Loose):
    """lm-eval's results file, as far as it is read."""

    model_config = ConfigDict(title="Results")

    results: dict[str, dict[str, Any]]
    configs: dict[str, TaskConfig]
    n_samples: dict[str, Counts] = Field(alias="n-samples")
    date: Annotated[float, Field(ge=0, le=253402300799)] | None = None
    system_instruction: str | None = None
    chat_template: str | None = None
    chat_template_sha: Hash | None = None
    lm_eval_version: Line | None = None
    transformers_version: Line | None = None
    n_shot: dict[str, Count] = Field({}, alias="n-shot")
    task_hashes: dict[str, Hash]
    config: Config
