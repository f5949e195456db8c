"""Have a model class of lm-eval's registry make a prompt, or answer it, as a run does."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from verbalizer_bench.explaining.stored import StoredAnswer
from verbalizer_bench.models.adapters.journal import Response
from verbalizer_bench.running.harness import register_models
from verbalizer_bench.running.options import SERVED
from verbalizer_bench.tasks.spec import TASKS_FOLDER


class Answered(NamedTuple):
    """What came of a request.

    Attributes:
        prompt: The prompt as the model got it (`SeenPrompt`); None where nobody tells.
        bos: What stands in front of it (`bos_of`); None where nobody tells.
        unknown: How many of its tokens stand for text that the tokenizer does not know (`<unk>`).
        response: The response; None where nothing was asked.
        look: All that was seen (`Look`); None of model classes that show no more.
        dtype: The weights' type; None where nobody tells.
        device: Where they are; None where nobody tells.
    """

    prompt: Any = None
    bos: "Bos | None" = None
    unknown: int = 0
    response: Response | None = None
    look: Any = None
    dtype: str | None = None
    device: str | None = None

    @property
    def how(self) -> str:
        """Return what made the response: the engine, the weights' type, where they are."""
        engine = f"engine {self.response.engine}" if self.response else ""
        return ", ".join(
            filter(None, (engine, (self.dtype or "").removeprefix("torch."), self.device))
        )


class Bos(NamedTuple):
    """The BOS of a prompt.

    Attributes:
        times: How many it begins with.
        token: BOS as text; None for a tokenizer without one.
        id: Its id.
        expected: Whether tokenizer or template writes it; None where nobody tells.
    """

    times: int
    token: str | None
    id: int | None
    expected: bool | None


def loaded(
    name: str, model_args: Mapping[str, Any], device: str | None = None, weights: bool = True
) -> Any:
    """Return a model of lm-eval's registry, ours among them.

    Args:
        name: `verbalizer-llm`, `verbalizer-lvlm`, `verbalizer-api` or a class of lm-eval.
        model_args: Its arguments.
        device: Where it goes; None: a GPU where there is one.
        weights: Whether its weights are read; without them it makes prompts only.

    Raises:
        ValueError: There is no such class, an argument is wrong, or it is no class of a checkpoint
            and its weights are not wanted.
        OSError: The checkpoint is not there.
    """
    from lm_eval.api.registry import get_model
    from lm_eval.models.huggingface import HFLM

    register_models()
    cls = get_model(name)
    if issubclass(cls, HFLM):
        # Where there is none, lm-eval takes the CPU.
        device = device or "cuda:0"
    if not weights:
        from verbalizer_bench.models.adapters.without_weights import WithoutWeights

        if not issubclass(cls, HFLM):
            raise ValueError(f"--model {name}: it has no tokenizer here")
        cls = type(cls.__name__, (WithoutWeights, cls), {})
        device = "cpu"
    _check_place(model_args)
    return cls.create_from_arg_obj(dict(model_args), {"batch_size": 1, "device": device})


def _check_place(model_args: Mapping[str, Any]) -> None:
    for key in ("pretrained", "tokenizer", "peft", "delta"):
        place = str(model_args.get(key) or "")
        is_path = place.startswith((".", "/", "~")) or place.count("/") > 1
        if is_path and not Path(place).exists():
            raise FileNotFoundError(f"{key}={place}: no such folder; give --model_args {key}=DIR")


def request_of(stored: StoredAnswer, images: Sequence[Image.Image]) -> Any:
    """Return the request of a stored answer, as it was made."""
    prompt: Any = stored.asked
    if stored.has_template:
        prompt = _conversation(stored)
    return _request(prompt, stored.settings, images, stored.task, stored.doc_id)


def _conversation(stored: StoredAnswer) -> Any:
    """Return a stored conversation: rendered, or a served model's messages."""
    from verbalizer_bench.models.adapters.chat_prompts import ChatPrompt, RenderedPrompt

    if stored.run.results.config.model != SERVED:
        return RenderedPrompt(stored.asked)
    prompt = ChatPrompt(stored.asked)
    prompt.messages, prompt.add_generation_prompt = json.loads(stored.asked), True
    return prompt


def _request(
    prompt: Any,
    settings: Mapping[str, Any],
    images: Sequence[Image.Image],
    task: str,
    doc_id: int,
) -> Any:
    from lm_eval.api.instance import Instance

    arguments: list[Any] = [prompt, dict(settings)]
    if images:
        arguments.append({"visual": list(images)})
    return Instance("generate_until", {}, tuple(arguments), 0, (task, doc_id, 1))


def request(
    model: Any,
    prompt: str,
    settings: Mapping[str, Any],
    images: Sequence[Image.Image] = (),
    template: bool | str = False,
    system: str | None = None,
) -> Any:
    """Return a request of one's own, made as lm-eval makes a task's.

    Args:
        model: The model.
        prompt: The prompt; `<image>` in it says where images stand, else they stand in front.
        settings: What is asked of the search, lm-eval's names.
        images: What is shown; without any, an LVLM shows its blank one.
        template: Whether the chat template is applied, or its name.
        system: The system prompt.

    Raises:
        ValueError: There is no such template, or it does not write what is asked.
    """
    if images and "<image>" not in prompt:
        prompt = "<image>" * len(images) + prompt
    if template is False:
        text = f"{system}\n\n{prompt}" if system else prompt
        return _request(text, settings, images, "ask", 0)
    messages = [{"role": "system", "content": system}] if system else []
    model.chat_template(template)
    text = model.apply_chat_template([*messages, {"role": "user", "content": prompt}])
    return _request(text, settings, images, "ask", 0)


def seen(model: Any, request: Any) -> Answered:
    """Return a request's prompt as a model gets it; nothing of it where its class does not tell.

    Raises:
        ValueError: It is no prompt for this checkpoint.
    """
    if hasattr(model, "seen"):
        return _known(model, model.seen(request))
    if getattr(model, "MULTIMODAL", False) or not hasattr(model, "tok_batch_encode"):
        return Answered()
    from verbalizer_bench.models.adapters.close_look import SeenPrompt

    text = str(request.args[0])
    room = model.max_length - int(request.args[1].get("max_gen_toks", model.max_gen_toks))
    whole = model.tok_batch_encode([text])[0][0].tolist()
    ids = whole[-room:]
    return _known(model, SeenPrompt(text, ids, cut=len(whole) - len(ids)))


def _known(model: Any, prompt: Any) -> Answered:
    from verbalizer_bench.models.adapters.input_log import unknown_id

    ids = list(prompt.ids)
    unknown = unknown_id(model.tokenizer)
    return Answered(prompt, bos_of(model, ids), 0 if unknown is None else ids.count(unknown))


def bos_of(model: Any, ids: Sequence[int]) -> Bos:
    """Return what a prompt begins with."""
    tokenizer = model.tokenizer
    number, log = tokenizer.bos_token_id, getattr(model, "inputs", None)
    count = next((place for place, token in enumerate(ids) if token != number), len(ids))
    return Bos(
        *(count if number is not None else 0, tokenizer.bos_token, number),
        log.expected if log is not None else None,
    )


def answered(model: Any, request: Any, words: Iterable[str] = ()) -> Answered:
    """Ask a request, and return what came of it.

    Args:
        model: The model.
        request: The request.
        words: Label words, of which it is said how likely they are as beginnings.

    Raises:
        ValueError: It cannot be asked.
    """
    if hasattr(model, "look"):
        look = model.look(request, words)
        made = _known(model, look.prompt)._replace(response=look.response, look=look)
    else:
        (text,) = model.generate_until([request], disable_tqdm=True)
        made = seen(model, request)._replace(response=Response(text, type(model).__name__))
    dtype = getattr(getattr(model, "model", None), "dtype", None)
    device = getattr(model, "device", None)
    return made._replace(
        dtype=str(dtype) if dtype else None, device=str(device) if device else None
    )


def own_images(stored: StoredAnswer, data: str | None) -> list[Image.Image]:
    """Return the images that a document brings; none of text tasks and of blind controls.

    Args:
        stored: The answer.
        data: Where the rows are, other than where the run found them.

    Raises:
        ValueError: The document has another image now.
        OSError: The rows or the image are not there.
    """
    if stored.label_type is not None:
        return []
    from lm_eval.tasks import TaskManager

    where = data or stored.data
    manager = TaskManager(
        include_path=[str(TASKS_FOLDER)],
        include_defaults=False,
        metadata={"data": where} if where else {},
    )
    task = manager.load([stored.task])["tasks"][stored.task]
    if not task.config.doc_to_image:
        return []
    same = [doc for doc in task.eval_docs if doc["image_sha256"] == stored.doc["image_sha256"]]
    if not same:
        raise ValueError(
            f"{stored.task}, document {stored.doc_id}: its image {stored.doc['image']} is not "
            f"among those of {where or 'the hub'}; give --data DIR"
        )
    images: list[Image.Image] = task.doc_to_image(same[0])
    return images
