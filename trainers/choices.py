"""What keys of a recipe may be; without torch, so that a wrong one costs no time."""

from dataclasses import dataclass

from verbalizer_bench.config import check

# Global batches that are sorted together: LLaVA's megabatch is one; transformers' are 50.
MEGA_BATCHES = {"modality": 1, "length": 50}
GROUPS = (*MEGA_BATCHES, "none")
# What becomes of an answer's thought.
TRAIN, CONTEXT, DROP = "train", "context", "drop"
THOUGHTS = (TRAIN, CONTEXT, DROP)


@dataclass(frozen=True)
class LossWeights:
    """How much a token counts; a step's loss is the weighted mean over its tokens.

    Attributes:
        prompt: Weight of a token outside the answers, where 1 is that of an answer's token.
        short_answer: Weight of the answers of a record whose answers are short, label words for
            instance.
        short_tokens: The most tokens that short answers have, with what ends them.
    """

    prompt: float = 0.0
    short_answer: float = 1.0
    short_tokens: int = 3

    def __post_init__(self) -> None:
        for name in ("prompt", "short_answer", "short_tokens"):
            value = getattr(self, name)
            check(f"loss_weights.{name}", value, value >= 0, "at least 0")
