"""The files of a run directory as pydantic models: lm-eval's results, our record in them, samples.

Of lm-eval's keys those that are read stand here; another version may write others. What our tasks
and adapters write is checked. What has a default is missing in runs of an earlier version.
"""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    StrictInt,
    StringConstraints,
    ValidationError,
)

from verbalizer_bench.tasks.metrics import OUTCOMES
from verbalizer_bench.tasks.spec import Verbalizer

# Without control characters, and without marks that turn the direction of what stands beside them.
_LINE = r"^[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+$"
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_LINE)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Share = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
# A response may hold half a surrogate pair, which pydantic's own texts may not.
Text = InstanceOf[str]
_StrictScore = Annotated[Score, Field(strict=True)]
_Model = TypeVar("_Model", bound=BaseModel)


class _Part(BaseModel):
    """Part of a file; can be made of a stricter model's object, see `leaderboard.submission`."""

    model_config = ConfigDict(extra="ignore", frozen=True, from_attributes=True)


class ShownImage(BaseModel):
    """What an LVLM was shown with every prompt; other keys describe its size."""

    model_config = ConfigDict(extra="allow", frozen=True, from_attributes=True)

    mode: str = "none"
    sha256: str = "not hashed"


class TemplateRendering(_Part):
    """How a chat template was applied: forms of contents, the date it writes, its arguments."""

    contents: list[str] = []
    date: str | None = None
    arguments: dict[str, Any] | None = None


class TokenizerToken(_Part):
    """A token of a tokenizer."""

    id: int
    token: str


class Served(_Part):
    """How a served model was asked, and what its server says of itself.

    Attributes:
        address: The server's.
        model: The name that was asked for.
        protocol: `greedy` or `vllm-beams`.
        beams: Their number.
        conversation: Whether prompts were conversations (`--apply_chat_template`), or each one user
            message; the server applies its own template to both.
        reported: Replies by the name that the server gave the model.
        system_fingerprints: Replies by the server's `system_fingerprint`.
        parameters: What was sent besides model and messages, each set of them once.
        reasoning: Replies with a thought in a field of its own.
        spent: Calls, tokens and money.
    """

    address: str
    model: str
    protocol: str
    beams: Annotated[int, Field(ge=1)] = 1
    conversation: bool = False
    reported: dict[str, int] = {}
    system_fingerprints: dict[str, int] = {}
    parameters: list[dict[str, Any]] = []
    reasoning: int = 0
    spent: dict[str, float] = {}


class RunRecord(_Part):
    """What our adapters say of a run: `config.verbalizer_bench` of the results file."""

    adapter: str | None = None
    engine: dict[str, int] = {}
    responses_by_rank: list[int] | None = None
    image: ShownImage | None = None
    served: Served | None = None
    dtype: str | None = None
    device: str | None = None
    world_size: int | None = None
    eos_token_ids: list[int] | None = None
    tokenizer_eos: TokenizerToken | None = None
    generation_config: dict[str, Any] = {}
    chat_template_sha256: str | None = None
    rendering: TemplateRendering | None = None
    turn_end: TokenizerToken | None = None
    opened_thought: str | None = None
    endings: dict[str, int] = {}
    thoughts: dict[str, int] = {}
    fingerprint: dict[str, Any] = {}
    language_model: dict[str, int] = {}
    first_input_ids: list[int] | None = None
    bos_counts: tuple[int, int] | None = None
    truncated_prompts: int = 0
    escaped_prompts: int = 0
    unknown_prompts: int = 0
    special_tokens: dict[str, int] = {}
    versions: dict[str, str] | None = None


class Settings(_Part):
    """`config` of the results file: how lm-eval was called, and what model it had.

    Attributes:
        harness: Whose run it is, `lm-eval` or `lmms-eval`; no file has this key.
    """

    harness: str = "lm-eval"
    model: str
    model_args: dict[str, Any] | str | None = None
    model_sha: Any = None
    model_num_parameters: Any = None
    model_dtype: Any = None
    batch_size: Any = None
    limit: int | float | None = None
    random_seed: Any = None
    numpy_seed: Any = None
    torch_seed: Any = None
    fewshot_seed: Any = None
    verbalizer_bench: RunRecord | None = None

    @property
    def seeds(self) -> dict[str, Any]:
        """Return the seeds that were recorded, by their keys."""
        given = self.model_fields_set
        return {key: seed for key, seed in self if key.endswith("_seed") and key in given}


def _as_given(value: Any) -> Any:
    """Return the values that stand in a stricter model of the same part."""
    if not isinstance(value, BaseModel):
        return value
    return value.model_dump(exclude_unset=True, exclude_none=True)


class TaskProvenance(_Part):
    """What one of our tasks says of itself: label words, rows, prompts."""

    dataset: str
    verbalizer: Annotated[Verbalizer, BeforeValidator(_as_given)]
    source: str
    identity: str
    identity_unordered: str | None = None
    fewshot_from: str | None = None
    shard: str | None = None


def _ours(metadata: Any) -> Any:
    """Leave out what another's task says of itself, which may be a list."""
    is_ours = isinstance(metadata, dict) and "verbalizer" in metadata
    return metadata if is_ours or isinstance(metadata, BaseModel) else None


class EvaluatedTask(_Part):
    """A task's settings; `metadata` is None for tasks that are not ours."""

    doc_to_text: Any = None
    generation_kwargs: Annotated[dict[str, Any], BeforeValidator(_as_given)] | None = None
    metadata: Annotated[TaskProvenance | None, BeforeValidator(_ours)] = None


class DocumentCounts(_Part):
    """How many documents a task has, and how many were asked about."""

    original: int
    effective: int


class EvalResults(_Part):
    """`results_*.json`, which lm-eval writes."""

    model_config = ConfigDict(validate_by_name=True)

    results: dict[str, Any]
    configs: dict[str, EvaluatedTask]
    config: Settings
    n_samples: dict[str, DocumentCounts] = Field(alias="n-samples")
    n_shot: dict[str, int | None] = Field({}, alias="n-shot")
    date: float | None = None
    model_name: str | None = None
    system_instruction: str | None = None
    fewshot_as_multiturn: bool | None = None
    chat_template: Any = None
    chat_template_sha: str | None = None


class Sample(_Part):
    """A response and its scores: a row of `samples_<task>_*.jsonl`.

    Attributes:
        doc_id: The document's number in its data set.
        doc: Its fields.
        target: The label word of its class.
        arguments: What the model was given, as lm-eval keeps it.
        filtered_resps: The response, which stands in a list.
        doc_hash: lm-eval's, of the document.
        prompt_hash: lm-eval's, of the prompt as it was asked: with the chat template, if any.
    """

    doc_id: Annotated[StrictInt, Field(ge=0)]
    doc: dict[str, Any]
    target: Text
    arguments: dict[str, dict[str, Any]]
    filtered_resps: Annotated[list[Text], Field(min_length=1)]
    doc_hash: str
    prompt_hash: str
    f1: _StrictScore
    exact_match: _StrictScore
    contains_label: _StrictScore
    follows: _StrictScore
    verbose: _StrictScore
    flipped: _StrictScore
    both: _StrictScore
    neither: _StrictScore

    @property
    def prompt(self) -> str:
        """Return what the model was asked, with the chat template, if any."""
        return str(self.arguments["gen_args_0"]["arg_0"])

    @property
    def response(self) -> str:
        """Return what the model said."""
        return self.filtered_resps[0]

    @property
    def outcome(self) -> str:
        """Return what the response did, of `metrics.OUTCOMES`."""
        return next(name for name in OUTCOMES if getattr(self, name))


def validate(model: type[_Model], value: Any, where: str | Path) -> _Model:
    """Return a value of a file as a model.

    Raises:
        ValueError: It is not what a run writes; names place, key, value and fix.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        text = f"{where}: not as a run writes it: {explain(error)}; run it again"
        raise ValueError(text) from error


def explain(error: ValidationError) -> str:
    """Return the first mistake that pydantic found: key, message, value."""
    mistakes = error.errors(include_url=False)
    # An unknown key is often the cause of a missing one.
    first = min(mistakes, key=lambda mistake: mistake["type"] != "extra_forbidden")
    key = ".".join(map(str, first["loc"])) or "the line"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    value = "" if first["type"] == "missing" else f", got {short(first['input'], 60)}"
    return f"{short(key)[1:-1]}: {first['msg']}{value}{more}"


def short(value: Any, length: int = 80) -> str:
    """Return a value for a message: one line of ASCII, cut."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # a number of more than 4,300 digits, or too deep
        text = f"<{type(value).__name__}>"
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"
