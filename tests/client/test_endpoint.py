"""Endpoints as blocks of a recipe: what is wrong is an error of one line, and no key is in it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from verbalizer_bench.client.budget import Budget, Usage
from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.protocol import Request, estimate, request_key
from verbalizer_bench.config import plain, read


@dataclass(frozen=True)
class Recipe:
    endpoints: dict[str, Endpoint]
    budget: Budget = field(default_factory=Budget)


RIGHT: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "parameters": {"temperature": 0.7, "stop": ["\n"], "logit_bias": {"50256": -100}},
    "input_price": 0.15,
    "output_price": 0.6,
}


def recipe(folder: Path, changes: dict[str, Any], *overrides: str) -> Recipe:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({"endpoints": {"caption": RIGHT | changes}}))
    return read(Recipe, file, overrides)


def test_a_block_of_a_recipe(tmp_path: Path) -> None:
    change = ("endpoints.caption.parameters.temperature=0", "budget.money=2")
    made = recipe(tmp_path, {}, *change)
    caption = made.endpoints["caption"]
    assert caption.parameters == {**RIGHT["parameters"], "temperature": 0}
    assert caption.address == "https://api.openai.com/v1" and made.budget == Budget(money=2)
    assert caption.money(1_000_000, 500_000) == pytest.approx(0.45)
    again = read(Recipe, written(tmp_path, made))
    assert again == made


def written(folder: Path, made: Recipe) -> Path:
    import dataclasses

    file = folder / "again.yaml"
    file.write_text(yaml.safe_dump(plain(dataclasses.asdict(made))))
    return file


SECRET = "sk-proj-abcdefgh"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modle": "x"}, "endpoints.caption.modle: no such key; did you mean"),
        ({"model": ""}, "model='': a model's name"),
        ({"concurrency": 0}, "concurrency=0: at least 1"),
        ({"requests_per_minute": 0}, "requests_per_minute=0: at least 1"),
        ({"tokens_per_minute": -1}, "tokens_per_minute=-1: at least 1"),
        ({"timeout": 0}, "timeout=0.0: above 0"),
        ({"backoff": 0}, "backoff=0.0: above 0"),
        ({"retries": -1}, "retries=-1: at least 0"),
        ({"input_price": -1}, "input_price=-1.0: at least 0"),
        ({"structured": "json"}, "structured=json: one of auto, json_schema, json_object, none"),
        ({"base_url": "localhost:8000"}, "base_url=localhost:8000: an address such as"),
        ({"parameters": "warm"}, "endpoints.caption.parameters='warm': a block of keys"),
        ({"parameters": {"n": 2}}, "parameters.n: it cannot be set here"),
        ({"parameters": {"stream": True}}, "parameters.stream: it cannot be set here"),
        ({"parameters": {"api_key": SECRET}}, "parameters.api_key: it cannot be set here; put the"),
        ({"key_variable": SECRET}, "key_variable: the name of an environment variable"),
        ({"base_url": f"http://u:{SECRET}@h/v1"}, "base_url: it has more than an address; put"),
        ({"base_url": f"http://h/v1?key={SECRET}"}, "base_url: it has more than an address"),
    ],
)
def test_wrong_endpoints(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as error:
        recipe(tmp_path, changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value) and SECRET not in str(error.value)


def test_endpoints_that_are_no_block(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("endpoints: [a]")
    with pytest.raises(ValueError, match=r"endpoints=\['a'\]: a block of keys is expected"):
        read(Recipe, file)


def asked(content: Any, **changes: Any) -> Request:
    return Request("caption", ({"role": "user", "content": content},), **changes)


def test_an_estimate_by_hand() -> None:
    endpoint = Endpoint(**RIGHT, image_tokens=100)
    # 4 a message, 9 letters, 1024 where nothing limits the response.
    assert estimate(asked("123456789"), endpoint) == Usage(7, 1024, (7 * 0.15 + 1024 * 0.6) / 1e6)
    limited = Endpoint("m", image_tokens=100, parameters={"max_tokens": 9})
    parts = [{"type": "text", "text": "123"}, {"type": "image_file", "path": "not read"}]
    assert estimate(asked(parts), limited) == Usage(105, 9, 0)
    schema = {"type": "object"}  # 18 letters as JSON
    assert estimate(asked("", schema=schema), limited) == Usage(10, 9, 0)


def test_keys() -> None:
    endpoint = Endpoint("m", parameters={"a": 1, "b": 2})
    same = Endpoint("m", base_url="http://elsewhere/v1", parameters={"b": 2, "a": 1}, retries=3)
    key = request_key(asked("x"), endpoint)
    assert request_key(asked("x"), same) == key
    assert request_key(Request("answer", asked("x").messages), endpoint) == key
    others = [
        request_key(asked("y"), endpoint),
        request_key(asked("x", n=1), endpoint),
        request_key(asked("x", schema={"type": "object"}), endpoint),
        request_key(asked("x"), Endpoint("m", parameters={"a": 1})),
        request_key(asked("x"), Endpoint("n", parameters=endpoint.parameters)),
    ]
    assert len({key, *others}) == 6
