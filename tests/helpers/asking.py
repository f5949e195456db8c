"""Ask a text model as lm-eval does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance

PAPER = {"until": [], "do_sample": False, "max_gen_toks": 15, "num_beams": 10}


STORY = (
    "Once upon a time there was a little girl named Lily. She loved to play with her toys. One day "
    "she went to the park and saw a big dog. The dog was very friendly and they played all day. "
)


def requests(prompts: Sequence[str], **changes: Any) -> list[Instance]:
    return [
        Instance(request_type="generate_until", doc={}, arguments=(p, PAPER | changes), idx=0)
        for p in prompts
    ]


def load(cls: type, folder: Path, **kwargs: Any) -> Any:
    return cls(pretrained=str(folder), dtype="float32", device="cpu", batch_size=1, **kwargs)
