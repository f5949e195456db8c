"""A model that builds data, for the tests: it looks at the prompt, and misbehaves by a plan.

What it says is a function of the prompt alone, so that a build that was killed and one that was not
are given the same responses.
"""

import hashlib
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.helpers.endpoint_server import images, prompt
from tests.helpers.obeying import defy, obey
from verbalizer_bench.builders.pipeline.sample import Instruction

LEAK = (
    "You are a helpful assistant judging the sentiment of a movie review. If the movie review is "
    "positive, you need to output it"
)
_THINGS = ("dog", "bus", "kite", "bench", "horse", "clock", "bowl", "train", "zebra", "skier")
_PLACES = ("street", "field", "kitchen", "beach", "station", "garden", "harbour", "market")
_COLOURS = ("red", "brown", "white", "green", "blue", "grey", "yellow", "black", "orange", "pink")


@dataclass
class Model:
    """Answer captions, items, questions and answers.

    Attributes:
        instructions: By their text, so that it can obey, or not.
        shares: How often it misbehaves in what way; the rest is as it should be.
        seed: Another one, another plan.
    """

    instructions: Mapping[str, Instruction] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def __call__(self, body: dict[str, Any]) -> Any:
        if pictures := images(body):
            return self.caption(pictures[0], prompt(body))
        first = next(one["content"] for one in body["messages"] if one["role"] == "user")
        again = len(body["messages"]) > 2 or "Your last response" in first or "refused" in first
        caption = re.findall(r"The image: (.*)", first)[0]
        plan = self.plan(caption)
        # These do not mend their ways.
        if again and plan not in ("defiant", "silent", "stubborn"):
            plan = "good"
        if plan == "stubborn":
            return "I'm sorry, but I can't help with that."
        if '"question" and "answer"' in first:
            return self.item(first, caption, plan, len(body["messages"]) > 2)
        if 'the key "question"' in first:
            return {"question": question(caption, plan)}
        return answer(caption, plan)

    def plan(self, text: str) -> str:
        value = random.Random(f"{self.seed} {text}").random()
        for name, share in self.shares.items():
            value -= share
            if value < 0:
                return name
        return "good"

    def caption(self, picture: bytes, asked: str) -> str:
        number = random.Random(hashlib.sha256(picture).hexdigest())
        thing, place = number.choice(_THINGS), number.choice(_PLACES)
        text = f"A {number.choice(_COLOURS)} {thing} and {number.randint(2, 9999)} people are in a "
        if self.plan(text) == "unseen" and "refused" not in asked:
            return "I'm sorry, but I can't help with that."
        return (
            f"{text}{place} with {number.choice(_COLOURS)} walls number {number.randint(1, 999)}."
        )

    def item(self, asked: str, caption: str, plan: str, conversation: bool) -> Any:
        if plan == "silent":
            return ""
        if plan == "chatty":
            return "Of course! Here is what you wanted."
        text = asked.partition("to the letter:")[2].partition("The question asks")[0].strip()
        instruction = self.instructions[text]
        asks = question(caption, plan)
        obeys = obey(instruction.type, instruction.arguments, asks, about(caption))
        if plan == "mention":
            obeys = obey(instruction.type, instruction.arguments, asks, "the caption says so")
        if plan in ("sloppy", "defiant"):
            obeys = defy(instruction.type, instruction.arguments)
        return {"answer": obeys} if conversation else {"question": asks, "answer": obeys}


def about(caption: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", caption.lower())[:9])


def question(caption: str, plan: str) -> str:
    if plan == "leak":
        return f"{LEAK}?"
    if plan == "twin":
        return "What can one see in the middle of the picture near the large old tree?"
    if plan == "curious":
        return "What does the caption say?"
    return f"What is to be seen around {about(caption)} today?"


def answer(caption: str, plan: str) -> str:
    if plan == "silent":
        return ""
    if plan == "mention":
        return "By the description there is a lot."
    return f"There is {about(caption)}."


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
