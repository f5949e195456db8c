"""A made MT-Bench in FastChat's layout, answers to it, and a judge."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.helpers.endpoint_server import prompt
from verbalizer_bench.io import jsonl

CATEGORIES = ("writing", "math", "stem", "extraction")
SINGLE = "Rate [[rating]].\n{question}\n<{answer}>"
PROMPTS = {
    "pair-v2": "A {answer_a} or B {answer_b}?",
    "single-v1": SINGLE,
    "single-math-v1": "Reference: {ref_answer_1}\n" + SINGLE,
    "single-v1-multi-turn": "{question_1} <{answer_1}> {question_2} <{answer_2}>",
    "single-math-v1-multi-turn": (
        "Reference: {ref_answer_1}, {ref_answer_2}\n"
        "{question_1} <{answer_1}> {question_2} <{answer_2}>"
    ),
}


def write_mtbench(folder: Path, count: int = 4) -> Path:
    """Write questions of `CATEGORIES` in turn; number n asks `Topic n?` and `More of n?`."""
    rows = [
        {
            "question_id": n,
            "category": CATEGORIES[n % len(CATEGORIES)],
            "turns": [f"Topic {n}?", f"More of {n}?"],
        }
        for n in range(count)
    ]
    references = [
        {"question_id": row["question_id"], "choices": [{"index": 0, "turns": ["ref 1", "ref 2"]}]}
        for row in rows
        if row["category"] == "math"
    ]
    prompts = [
        {"name": name, "system_prompt": f"system of {name}", "prompt_template": text}
        for name, text in PROMPTS.items()
    ]
    (folder / "reference_answer").mkdir(parents=True)
    for name, content in {
        "question": rows,
        "judge_prompts": prompts,
        "reference_answer/gpt-4": references,
    }.items():
        (folder / f"{name}.jsonl").write_text(jsonl.dumps(content))
    return folder


def write_answers(file: Path, count: int = 4) -> Path:
    """Write an answer to each turn: `answer n-1` and `answer n-2`."""
    file.write_text(
        jsonl.dumps(
            {
                "question_id": n,
                "model_id": "made",
                "choices": [{"index": 0, "turns": [f"answer {n}-1", f"answer {n}-2"]}],
            }
            for n in range(count)
        )
    )
    return file


@dataclass
class Judge:
    """Rate the last answer in a prompt.

    Attributes:
        rate: The rating, or whatever text, by what is rated: `answer 3-1`.
        broken: Answers on which the server fails.
        asked: What was rated, in the order in which it came.
    """

    rate: Callable[[str], Any] = lambda answer: 7
    broken: Collection[str] = ()
    asked: list[str] = field(default_factory=list)

    def __call__(self, body: dict[str, Any]) -> Any:
        answer = re.findall(r"<(.*?)>", prompt(body), re.DOTALL)[-1]
        self.asked.append(answer)
        if answer in self.broken:
            return web.json_response({"error": {"message": "out of order"}}, status=500)
        said = self.rate(answer)
        return said if isinstance(said, str) else f"It is fair. Rating: [[{said}]]"
