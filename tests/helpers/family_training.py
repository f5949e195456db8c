"""Train tiny vision-language models of many families, and the same step by a bare loop.

The bare loop has the processor's own inputs: it renders and encodes conversations by itself. Its
labels are found among token ids: an answer is what follows its prompt's ids, up to the token that
ends it.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.helpers.own_processors import ProcessorFamily
from verbalizer_bench.trainers.recipe import Recipe, read_recipe

IGNORED = -100
SIZES = {"a": (64, 48), "b": (40, 80), "large": (300, 200), "dot": (1, 1), "line": (600, 20)}
QUESTION, ANSWER = "What is it?", "A cat."
Turn = tuple[str, str, Sequence[str]]
# Turns with the names of their images: none, one, three in a turn, one in each of two turns.
RECORDS: tuple[tuple[Turn, ...], ...] = (
    (("user", QUESTION, ["a.png"]), ("assistant", ANSWER, [])),
    (("user", "Hello, you", []), ("assistant", "Good day", [])),
    (("user", "Which of these", ["a.png", "b.png", "large.png"]), ("assistant", "None", [])),
    (
        ("user", QUESTION, ["b.png"]),
        ("assistant", ANSWER, []),
        ("user", "And now", ["a.png"]),
        ("assistant", "Two dogs here", []),
    ),
    (("user", QUESTION, ["dot.png"]), ("assistant", "A dot", [])),
    (("user", QUESTION, ["line.png"]), ("assistant", "a line", [])),
)


def write_images(folder: Path) -> Path:
    """Write images of noise; return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        Image.effect_noise(size, 90).convert("RGB").save(folder / f"{name}.png")
    return folder


def as_row(turns: Sequence[Turn]) -> dict[str, Any]:
    """Return a record of a data file."""
    messages = [
        {"role": role, "content": "<image>" * len(images) + text} for role, text, images in turns
    ]
    return {"messages": messages, "images": [name for _, _, names in turns for name in names]}


def as_pair(number: int, turns: Sequence[Turn], rejected: str) -> dict[str, Any]:
    """Return a pair of a data file, whose preferred answer is a record's last."""
    *prompt, chosen = [{"role": role, "content": text} for role, text, _ in turns]
    return {
        **{"id": str(number), "prompt": prompt, "chosen": [chosen]},
        **{"rejected": [{"role": "assistant", "content": rejected}]},
        **{"images": as_row(turns)["images"], "source": "test"},
        **{"score_chosen": None, "score_rejected": None},
    }


def recipe(
    base: Path, output: Path, images: Path, rows: Sequence[Mapping[str, Any]], **changes: Any
) -> Recipe:
    """Return a recipe of one step in float32, by plain gradient descent."""
    output.parent.mkdir(parents=True, exist_ok=True)
    data = output.with_suffix(".jsonl")
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = {
        **{"method": "vit", "output": str(output), "model": {"path": str(base)}},
        **{"data": str(data), "images": str(images), "format": "tokenizer", "max_length": 2048},
        **{"num_train_epochs": 1, "global_batch_size": len(rows)},
        **{"per_device_batch_size": len(rows), "group": "none", "learning_rate": 0.1},
        **{"optim": "sgd", "warmup_ratio": 0.0, "lr_scheduler_type": "constant"},
        **{"precision": "fp32", "gradient_checkpointing": False, "max_grad_norm": 1e9},
        **{"cache": str(output.with_suffix(".cache"))},
    }
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(keys | changes))
    return read_recipe(file)


def first_loss(output: Path) -> float:
    """Return the loss of a training's first step."""
    with (output / "losses.csv").open() as file:
        return float(next(csv.DictReader(file))["loss"])


class BareLoop:
    """A model and its processor as transformers loads them, without this package."""

    def __init__(self, family: ProcessorFamily, folder: Path, images: Path):
        """Load a family's checkpoint.

        Args:
            family: The family.
            folder: The checkpoint.
            images: The folder of images.
        """
        self.family, self.images = family, images
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        self.processor = AutoProcessor.from_pretrained(folder)
        self.ending = self.processor.tokenizer.convert_tokens_to_ids(family.ending)

    def prompt_ids(self, turns: Sequence[Turn]) -> list[int]:
        """Return the ids with which the answer to some turns is asked for."""
        return list(self._encoded(turns, add_generation_prompt=True)["input_ids"][0])

    def step(self, records: Sequence[Sequence[Turn]], rate: float) -> float:
        """Take a step of gradient descent on records, one by one; return the mean loss."""
        sums = [self._log_probability(turns) for turns in records]
        loss = -sum(value for value, _ in sums) / sum(count for _, count in sums)
        return self._descend(loss, rate)

    def preference_step(
        self, pairs: Sequence[tuple[Sequence[Turn], str]], beta: float, rate: float
    ) -> float:
        """Take a step on pairs, given as records and their other answers; return the mean loss."""
        losses = []
        for turns, rejected in pairs:
            other = [*turns[:-1], ("assistant", rejected, [])]
            chosen, worse = (self._log_probability(one)[0] for one in (turns, other))
            margin = chosen - worse
            losses.append(-logsigmoid(beta * (margin - margin.detach())))
        return self._descend(torch.stack(losses).mean(), rate)

    def _log_probability(self, turns: Sequence[Turn]) -> tuple[torch.Tensor, int]:
        """Return the log-probability of a record's answers, and how many tokens they have."""
        inputs, labels = self.inputs(turns)
        logits, wanted = self.model(**inputs).logits[0, :-1], labels[1:]
        loss = cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
        return -loss, int((wanted != IGNORED).sum())

    def _descend(self, loss: torch.Tensor, rate: float) -> float:
        loss.backward()
        with torch.no_grad():
            for weight in self.model.parameters():
                if weight.grad is not None:
                    weight -= rate * weight.grad
        return float(loss.detach())

    def inputs(self, turns: Sequence[Turn]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return what the processor makes of a record, and its labels."""
        inputs = dict(self._whole(turns))
        ids = inputs["input_ids"][0]
        labels = torch.full_like(ids, IGNORED)
        answers = [number for number, turn in enumerate(turns) if turn[0] == "assistant"]
        for number in answers[-1:] if self.family.last_alone else answers:
            prompt = self.prompt_ids(turns[:number])
            assert ids[: len(prompt)].tolist() == prompt
            stop = ids.tolist().index(self.ending, len(prompt)) + 1
            labels[len(prompt) : stop] = ids[len(prompt) : stop]
        return inputs, labels

    def _whole(self, turns: Sequence[Turn]) -> Any:
        if not self.family.last_alone:
            return self._encoded(turns, return_tensors="pt")
        text = self.processor.apply_chat_template(
            self._messages(turns[:-1]), add_generation_prompt=True
        )
        text += turns[-1][1] + self.family.ending
        images = [Image.open(self.images / name) for _, _, names in turns for name in names]
        return self.processor(text=[text], images=[images] if images else None, return_tensors="pt")

    def _encoded(self, turns: Sequence[Turn], **options: Any) -> Any:
        return self.processor.apply_chat_template(
            self._messages(turns), tokenize=True, return_dict=True, **options
        )

    def _messages(self, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        return [
            {
                "role": role,
                "content": [
                    *({"type": "image", "image": Image.open(self.images / n)} for n in names),
                    {"type": "text", "text": text},
                ],
            }
            for role, text, names in turns
        ]
