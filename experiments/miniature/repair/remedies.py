"""What is done to a checkpoint that plain visual tuning hurt, or in place of that tuning."""

from typing import NamedTuple

from verbalizer_bench.experiments.miniature.arms import ALIGNED

PLAIN = "LVLM-LLaVA"
_PAIRS = "preference/pairs.jsonl"


class Remedy(NamedTuple):
    """A training.

    Attributes:
        recipe: Its name in `recipes`.
        start: The model it starts from: `LVLM-LLaVA`, or `LVLM-aligned` for a tuning of its own.
        data: The file of its records, in a split's `repair` folder; "" for the recipe's.
        told: What it is, for the report.
    """

    recipe: str
    start: str
    data: str
    told: str


REMEDIES = {
    "SFT-more": Remedy(
        "repair_sft", PLAIN, "answers.json", "tuned on the prompts' reference answers"
    ),
    "Rejection": Remedy(
        "repair_rejection",
        PLAIN,
        "preference/completions.jsonl",
        "tuned on the best of its own four answers",
    ),
    "SteerLM": Remedy(
        "repair_steerlm",
        PLAIN,
        "preference/completions.jsonl",
        "tuned on all its own answers, each question with the answer's marks",
    ),
    "DPO": Remedy("repair_dpo", PLAIN, _PAIRS, "DPO, its best answer against its worst"),
    "DPO-no-image": Remedy(
        "repair_dpo", PLAIN, "preference/pairs_no_image.jsonl", "DPO, the same pairs without images"
    ),
    "DPO-format": Remedy(
        "repair_dpo",
        PLAIN,
        "format/pairs_fovit.jsonl",
        "DPO, an answer in the format asked for against one in a sentence",
    ),
    "Attention": Remedy(
        "lvlm_llava_attention", ALIGNED, "", "the plain tuning, of attention alone"
    ),
    "Replay": Remedy(
        "lvlm_llava_replay", ALIGNED, "", "the plain tuning, a third of its records text"
    ),
}


def merged_name(coefficient: float) -> str:
    """Return the name of the base's and the tuned model's weights merged, by the latter's share."""
    return f"Merge-{coefficient:g}"
