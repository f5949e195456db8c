"""The arguments of `verbalizer-api`, checked before a request is sent or a file written."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from verbalizer_bench.client.budget import Budget
from verbalizer_bench.client.endpoint import OPENAI, RESERVED, Endpoint
from verbalizer_bench.config import build, check

# What the adapter sends itself, or what says how to decode.
_OURS = (
    *("temperature", "max_tokens", "max_completion_tokens", "max_gen_toks", "stop", "until"),
    *("use_beam_search", "best_of", "logprobs", "top_logprobs", "num_beams", "do_sample"),
)
# Names, which may look like numbers.
_TEXTS = ("model", "image", "base_url", "key_variable", "store", "think_end_token")
# lm-eval gives these to every model class; they are about weights on this machine.
_LM_EVAL = ("batch_size", "max_batch_size", "device")


@dataclass(frozen=True)
class BeamEndpoint(Endpoint):
    """An endpoint that can be asked for several answers at once, its beams."""

    reserved: ClassVar[tuple[str, ...]] = tuple(name for name in RESERVED if name != "n")


@dataclass(frozen=True)
class ServedSettings:
    """What `--model_args` says of a served model; those not named here are `Endpoint`'s.

    Attributes:
        image: `none`, or what goes with every text prompt, as in `verbalizer-lvlm`.
        key_variable: Environment variable with the key. None: OPENAI_API_KEY for OpenAI's own
            address, and no key for any other, which shall not be told that one.
        parameters: Sent with every request besides those of the decoding.
        beams: 1: greedy. More: vLLM's beam search of that width.
        budget_tokens: Of prompts and responses, in the output folder's runs together.
        budget_money: By the prices.
        max_gen_toks: New tokens where a task does not say.
        think_end_token: The text that ends a thought; what stands before it is cut away.
        store: The folder of the responses; None: the run's output folder.
    """

    model: str
    image: str
    base_url: str | None = None
    key_variable: str | None = None
    concurrency: int = 8
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    timeout: float = 120.0
    retries: int = 8
    backoff: float = 0.5
    parameters: dict[str, Any] = field(default_factory=dict)
    beams: int = 1
    budget_tokens: int | None = None
    budget_money: float | None = None
    input_price: float | None = None
    output_price: float | None = None
    max_gen_toks: int = 256
    think_end_token: str | None = None
    store: str | None = None

    def __post_init__(self) -> None:
        for name in ("beams", "max_gen_toks"):
            check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in sorted({*_OURS} & set(self.parameters)):
            raise ValueError(
                f"parameters.{name}: verbalizer-api decodes greedily, or with beams=N, and sends "
                "what that takes; --gen_kwargs says max_gen_toks and until; leave it out"
            )
        _ = self.endpoint, self.budget

    @property
    def endpoint(self) -> Endpoint:
        """Return the server, its limits, and what is sent with every request."""
        key = self.key_variable
        if key is None:
            key = "OPENAI_API_KEY" if (self.base_url or OPENAI).startswith(OPENAI) else ""
        names = {one.name for one in fields(Endpoint)} & {one.name for one in fields(self)}
        given = {name: getattr(self, name) for name in names}
        kind = BeamEndpoint if self.beams > 1 else Endpoint
        return kind(**{**given, "key_variable": key})

    def endpoint_with(self, parameters: Mapping[str, Any]) -> Endpoint:
        """Return the endpoint for requests with these parameters of the decoding."""
        endpoint = self.endpoint
        return replace(endpoint, parameters={**parameters, **endpoint.parameters})

    @property
    def budget(self) -> Budget | None:
        """Return what the run may cost; None: whatever it does."""
        if self.budget_tokens is None and self.budget_money is None:
            return None
        if self.budget_money is not None and None in (self.input_price, self.output_price):
            raise ValueError(
                f"budget_money={self.budget_money:g}: give input_price and output_price, the money "
                "for a million tokens, or budget_tokens instead"
            )
        return Budget(self.budget_money, self.budget_tokens)


def read_settings(arguments: Mapping[str, Any]) -> ServedSettings:
    """Return the settings that `--model_args` gives.

    Raises:
        ValueError: One is missing, wrong or unknown, in one line; values of unknown ones, which may
            be keys, are not repeated.
    """
    _check_names(arguments)
    given = {name: value for name, value in arguments.items() if name not in _LM_EVAL}
    # lm-eval reads `none` so, where its own command line parses.
    given["image"] = "none" if given["image"] is None else given["image"]
    for name in _TEXTS:
        if isinstance(given.get(name), (bool, int, float)):
            given[name] = str(given[name])
    try:
        if "parameters" in given:
            given["parameters"] = _parameters(given["parameters"])
        return build(ServedSettings, given)
    except ValueError as error:
        raise ValueError(f"verbalizer-api: model_args {error}") from error


def _check_names(arguments: Mapping[str, Any]) -> None:
    known = [one.name for one in fields(ServedSettings)]
    for name in arguments:
        if name in known or name in _LM_EVAL:
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}=?" if near else f"known: {', '.join(known)}"
        if name == "pretrained":
            hint = "give model=NAME, as the server calls it"
        if "key" in name or "token" in name:
            hint = "a key stands in an environment variable, which key_variable= names"
        raise ValueError(f"verbalizer-api: model_args {name}: no such argument; {hint}")
    if arguments.get("model") in (None, ""):
        raise ValueError(
            "verbalizer-api: model_args model=: missing; give model=NAME as the server calls it "
            "(`curl BASE_URL/models` lists its names)"
        )
    if arguments.get("image", "") == "":
        raise ValueError(
            "verbalizer-api: model_args image=: missing, and nobody here can tell what is served; "
            "give image=white for a vision-language model (the paper's protocol), image=none for a "
            "text model, or to ask without one"
        )


def _parameters(value: Any) -> dict[str, Any]:
    """Return the parameters, which stand in a JSON object on the command line."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"parameters: no JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError('parameters: give a JSON object, such as {"seed": 1}')
    return value


def store_folder(settings: ServedSettings, output: Path | None) -> Path | None:
    """Return the folder of the responses: as given, else the run's; None without either."""
    return Path(settings.store).expanduser() if settings.store else output
