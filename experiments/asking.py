"""What studies ask of a checkpoint: the suite, and prompts of their own."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from verbalizer_bench import api
from verbalizer_bench.running.log_level import lm_eval_warnings_only

if TYPE_CHECKING:
    from PIL.Image import Image

    from verbalizer_bench.results.run import Run


class Question(NamedTuple):
    """A user's turn, with an image or without."""

    text: str
    image: "Image | None" = None


def run_suite(model_args: Mapping[str, Any], adapter: str, log: Path, **asked: Any) -> "Run":
    """Run tasks in float32, by the checkpoint's own chat template unless told otherwise.

    Args:
        model_args: The adapter's arguments.
        adapter: `verbalizer-llm` or `verbalizer-lvlm`.
        log: The file that lm-eval's tables go to.
        asked: Further arguments of `api.evaluate`, with `output`; on a CPU if not told otherwise.
    """
    options: dict[str, Any] = {"device": "cpu", "apply_chat_template": True, "batch_size": 32}
    with log.open("a") as tables, contextlib.redirect_stdout(tables), lm_eval_warnings_only():
        return api.evaluate(adapter, {**model_args, "dtype": "float32"}, **(options | asked))


def answers(
    checkpoint: Path,
    adapter: str,
    questions: Sequence[Question],
    settings: Mapping[str, Any],
    device: str = "cpu",
) -> list[str]:
    """Return a checkpoint's answers to questions, each a conversation of its own.

    Args:
        checkpoint: A checkpoint folder.
        adapter: `verbalizer-llm` or `verbalizer-lvlm`.
        questions: What is asked.
        settings: How an answer is generated, as lm-eval names it, `max_gen_toks` say.
        device: Where.
    """
    from lm_eval.api.instance import Instance
    from lm_eval.api.registry import get_model

    from verbalizer_bench.running.harness import register_models

    register_models()
    model = get_model(adapter).create_from_arg_obj(
        {"pretrained": str(checkpoint), "dtype": "float32"}, {"batch_size": 32, "device": device}
    )
    requests = []
    for number, question in enumerate(questions):
        rendered = model.apply_chat_template([{"role": "user", "content": question.text}])
        arguments: tuple[Any, ...] = (rendered, {"until": [], "do_sample": False, **settings})
        if question.image is not None:
            arguments += ({"visual": [question.image]},)
        requests.append(Instance("generate_until", {}, arguments, number))
    texts: list[str] = model.generate_until(requests, disable_tqdm=True)
    return texts
