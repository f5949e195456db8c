"""An endpoint from the words of a command: a model's name and `key=value`."""

from collections.abc import Sequence
from typing import Any

from verbalizer_bench.client.budget import Budget
from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.config import build, override


def endpoint_of(
    option: str, model: str, overrides: Sequence[str], max_tokens: int
) -> tuple[Endpoint, Budget]:
    """Return an endpoint at temperature 0, without a limit, and what `key=value` replaces.

    Args:
        option: The option that named the model, for errors.
        model: Its name at its server.
        overrides: Keys of its endpoint, `budget.tokens` and `budget.money`.
        max_tokens: The longest response.

    Raises:
        ValueError: A key or value is wrong.
    """
    values: dict[str, Any] = {"model": model}
    values["parameters"] = {"temperature": 0, "max_tokens": max_tokens}
    try:
        for text in overrides:
            override(values, text)
        limits = values.pop("budget", {})
        if not isinstance(limits, dict):
            raise ValueError(f"budget={limits!r}: give budget.tokens=… or budget.money=…")
        return build(Endpoint, values, overrides), build(Budget, limits)
    except ValueError as error:
        raise ValueError(
            f"{option} {model} {' '.join(overrides)}".strip() + f": {error}"
        ) from error
