"""A model that answers questions, and a judge that rates answers by what they say."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from tests.helpers.data_recipes import COCO, PROMPTS
from tests.helpers.endpoint_server import Server, images, prompt
from verbalizer_bench.builders.pipeline.recipe import DataRecipe, read_recipe
from verbalizer_bench.builders.pipeline.sample import read_samples
from verbalizer_bench.io.preferences import ATTRIBUTES, PreferencePair, RatedCompletions, read

_ANSWER = re.compile(r"<answer_(\d+)>\n(.*?)\n</answer_\1>", re.DOTALL)
_WORDS = ("a", "red", "dog", "sits", "on", "the", "long", "bench", "near", "water", "today")


@dataclass
class Assistant:
    """Answer by the seed of the request; rate answers by their texts alone, or as told.

    Attributes:
        said: Answers by their number, in place of made ones: what a seed draws is chosen by it.
        lean: Points that the answer shown first gets on helpfulness, as far as the scale goes.
        prose: Shares of verdicts that are no object; they mend it when told, or never (`stubborn`).
    """

    said: Sequence[str] = ()
    lean: int = 0
    prose: float = 0.0
    stubborn: bool = False
    seen: list[int] = field(default_factory=list)

    def __call__(self, body: dict[str, Any]) -> Any:
        text = prompt(body)
        # Told what was wrong, it is asked in a third message, or in the same once more.
        if answers := _ANSWER.findall(prompt({"messages": body["messages"][:2]})):
            return self.judge(text, [answer for _, answer in answers])
        self.seen.append(len(images(body)))
        drawn = Random(f"{text} {body.get('seed')}")
        if self.said:
            return drawn.choice(self.said)
        return f"{text[:20]}: " + " ".join(drawn.choices(_WORDS, k=drawn.randint(2, 30))) + "."

    def judge(self, text: str, answers: Sequence[str]) -> Any:
        told = "Your last response" in text
        unruly = Random(f"{answers} prose").random() < self.prose
        if unruly and (self.stubborn or not told):
            return "The first one is rather good, I would say."
        verdict = {}
        for number, answer in enumerate(answers):
            values = rating(answer)
            if number == 0:
                values["helpfulness"] = min(4, values["helpfulness"] + self.lean)
            verdict[f"answer_{number + 1}"] = {"reasons": f"It says {answer[:15]}.", **values}
        return verdict


def rating(answer: str) -> dict[str, int]:
    """Return the values that the judge gives to an answer."""
    drawn = Random(f"rating {answer}")
    return {name: drawn.randint(0, 4) for name in ATTRIBUTES}


def quality(answer: str) -> int:
    return sum(list(rating(answer).values())[:3])


def write_prompts(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions(n: int, picture: bool = False) -> list[dict[str, Any]]:
    """Return question records; every second one has one of the photographs, if asked for."""
    names = sorted(file.name for file in (COCO / "images").glob("*.jpg"))
    rows: list[dict[str, Any]] = [{"id": f"q{i}", "question": f"What is {i}?"} for i in range(n)]
    for i, row in enumerate(rows):
        if picture and i % 2:
            row["image"] = names[i % len(names)]
    return rows


def recipe(
    folder: Path, url: str, rows: Sequence[Any], *overrides: str, **changes: Any
) -> DataRecipe:
    """Return a recipe of preference data over such records; `changes` replace its keys."""
    endpoint = {"base_url": url, "concurrency": 16, "backoff": 0.01, "retries": 6}
    endpoint |= {"input_price": 1.0, "output_price": 2.0}
    keys = {
        "kind": "preference",
        "output": str(folder / "data"),
        "prompts": str(PROMPTS / "preference.yaml"),
        "images": str(COCO / "images"),
        "records": {"asked": {"file": str(write_prompts(folder / "records.jsonl", rows))}},
        "endpoints": {
            "completion": {"model": "answerer", "parameters": {"temperature": 1.0}, **endpoint},
            "judge": {"model": "judge", "parameters": {"temperature": 0.0}, **endpoint},
        },
        "pairs": {"pairs": {"minimum_gap": 2}},
        "leakage": {"data": "sample"},
        "licence": "Ours.",
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in (keys | changes).items() if v is not None}))
    return read_recipe(path, overrides)


def outputs(made: DataRecipe) -> dict[str, bytes]:
    """Return what must be the same in builds that are to be identical."""
    files = [*made.output.glob("*.*"), *made.work.glob("*.jsonl"), made.work / "stages.json"]
    return {file.name: file.read_bytes() for file in files if file.name != "calls.jsonl"}


def calls(made: DataRecipe) -> list[dict[str, Any]]:
    lines = (made.work / "calls.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def answered(server: Server) -> int:
    return sum(asked.outcome in ("ok", "slow") for asked in server.requests)


def pairs(made: DataRecipe, name: str = "pairs") -> list[PreferencePair]:
    return [record for _, record in read(PreferencePair, made.output / f"{name}.jsonl")]


def rated(made: DataRecipe) -> list[RatedCompletions]:
    return [record for _, record in read(RatedCompletions, made.output / "completions.jsonl")]


def rejections(made: DataRecipe) -> Counter[str]:
    samples = read_samples(made.work / "set_aside.jsonl")
    return Counter(sample.rejection.reason for sample in samples if sample.rejection)


def photographs() -> None:
    if not (COCO / "images").is_dir():
        pytest.skip(f"{COCO} is not there")
