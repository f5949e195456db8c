"""The arms of the study: what a base is tuned on, how, and what is done to it afterwards."""

from pathlib import Path
from typing import NamedTuple

RECIPES = Path(__file__).with_name("recipes")
MERGE = "Merge"
# What remedies start from or replace, and what it is compared with.
PLAIN, FORMATTED = "NoFOIT", "FOIT"


class Arm(NamedTuple):
    """A training.

    Attributes:
        recipe: Its name in `recipes`.
        data: The file of its records.
        told: What it is, for the report.
        start: The arm that it starts from; "" for the base.
        replays: Whether other instructions are among its records.
        rate_of: The arm whose learning rate it has; "" for one of its own.
    """

    recipe: str
    data: str
    told: str
    start: str = ""
    replays: bool = False
    rate_of: str = ""


ARMS = {
    "FOIT": Arm("lora", "format.json", "tuned by LoRA, each item with a format's instruction"),
    "NoFOIT": Arm("lora", "plain.json", "tuned by LoRA on the same items, answered in sentences"),
    "FOIT-attention": Arm("attention", "format.json", "FOIT's records, attention tuned alone"),
    "NoFOIT-attention": Arm("attention", "plain.json", "NoFOIT's records, attention tuned alone"),
    "DPO-format": Arm(
        "dpo",
        "pairs/pairs_text.jsonl",
        "NoFOIT, then DPO of the answer in the format asked for against the sentences",
        start=PLAIN,
    ),
    "Replay": Arm(
        "lora",
        "plain.json",
        "as NoFOIT, a third of the records other instructions",
        replays=True,
        rate_of=PLAIN,
    ),
}


def merged_name(coefficient: float) -> str:
    """Return the name of NoFOIT's weights merged with the base's, by the former's share."""
    return f"{MERGE}-{coefficient:g}"


def coefficient_of(model: str) -> float:
    """Return the coefficient in such a name."""
    return float(model.removeprefix(f"{MERGE}-"))


def recipe_file(name: str) -> Path:
    """Return a recipe's file."""
    return RECIPES / f"{name}.yaml"
