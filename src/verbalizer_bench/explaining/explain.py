"""Look at one answer: a run's (`explain`), or the one to a prompt of one's own (`ask`)."""

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from verbalizer_bench.explaining.asking import (
    Answered,
    answered,
    loaded,
    own_images,
    request,
    request_of,
    seen,
)
from verbalizer_bench.explaining.explanation import Explanation
from verbalizer_bench.explaining.facts import Labels, scores_of
from verbalizer_bench.explaining.stored import StoredAnswer, stored_answer
from verbalizer_bench.io.images import readable_image
from verbalizer_bench.models.adapters.journal import Response
from verbalizer_bench.results.rendering import rendering_text
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.schema import ShownImage
from verbalizer_bench.running.arguments import model_arguments
from verbalizer_bench.running.harness import register_models
from verbalizer_bench.running.options import SERVED, check_model
from verbalizer_bench.tasks.metrics import score
from verbalizer_bench.tasks.spec import protocol


def explain(
    run: Run | str | Path,
    task: str | None = None,
    doc: int | None = None,
    *,
    again: bool = False,
    model: Mapping[str, Any] | None = None,
    device: str | None = None,
    data: str | None = None,
) -> Explanation:
    """Return all that is known of one answer of a run.

    Args:
        run: A run, or a path that holds one.
        task: The task; None for the one that the run has, or, without a document, for the worst.
        doc: The document's number; None for the first of the worst outcome.
        again: Whether the model is loaded and asked the same again, which shows its beams.
        model: Arguments of the model class in place of the run's, such as `pretrained`.
        device: Where the model goes; None: a GPU where there is one.
        data: Where the images of a task that brings some are; None: where the run found them.

    Raises:
        ValueError: The run has no such task or document, or the model cannot be asked.
        OSError: The run is not there; with `again` the checkpoint.
    """
    stored = stored_answer(run, task, doc)
    notes = list(_other_scores(stored))
    config = stored.run.results.config
    given = config.model_args or {}
    # A plain lm-eval run has them as its user wrote them.
    arguments = {**(model_arguments(given) if isinstance(given, str) else given), **(model or {})}
    images: list[Image.Image] | None = None
    try:
        images = own_images(stored, data)
    except (OSError, ValueError) as error:
        if again:
            raise
        notes.append(f"its image is not at hand, nor are its tokens: {_one_line(error)}")
    made, asked = Answered(), None
    if images is not None and again:
        lm = loaded(config.model, arguments, device)
        words = [stored.expected, stored.other] if stored.other else []
        asked = made = answered(lm, request_of(stored, images), words)
        if asked.response:
            notes += _what_differs(stored, lm, asked, asked.response.text == stored.response)
    elif images is not None:
        made = _prompt_only(stored, arguments, images, notes)
    return _of_stored(stored, made, asked, images, notes)


def _prompt_only(
    stored: StoredAnswer,
    arguments: Mapping[str, Any],
    images: Sequence[Image.Image],
    notes: list[str],
) -> Answered:
    """Return what the checkpoint's tokenizer tells of a prompt; why it tells nothing is noted."""
    name = stored.run.results.config.model
    if name == SERVED:
        notes.append("a served model: its server tells no tokens, no BOS and no rendered prompt")
        return Answered()
    try:
        lm = loaded(name, arguments, weights=False)
        made = seen(lm, request_of(stored, images))
    # Whatever a checkpoint of another day or machine lacks: what is stored can be shown.
    except Exception as error:
        notes.append(f"tokens are not counted: {_one_line(error)}")
        return Answered()
    if made.prompt is None:
        notes.append(f"tokens are not counted: the model class {name} does not tell them")
    recorded = stored.run.record.fingerprint.get("tokenizer")
    if recorded and made.prompt and recorded != _tokenizer(lm):
        notes.append("the tokenizer is another now than in the run: counts are of today's")
    return made


def _of_stored(
    stored: StoredAnswer,
    made: Answered,
    again: Answered | None,
    images: Sequence[Image.Image] | None,
    notes: Sequence[str],
) -> Explanation:
    record, run = stored.run.record, stored.run
    noted = stored.noted or Response(stored.response, "", None)
    is_text = bool(run.is_ours and not record.image)
    if images is None:
        shown, pictures = "its own, which is not at hand", tuple[Image.Image, ...]()
    else:
        shown, pictures = _shown(made, images, record.image, is_text)
    engine = noted.engine or " and ".join(record.engine)
    parts = (f"engine {engine}" if engine else "", _dtype(run), record.device or "")
    return Explanation(
        title=f"{stored.task}, document {stored.doc_id}, {run.name}",
        place=str(run.folder),
        why=stored.why,
        raw=stored.raw,
        asked=stored.asked,
        made=made,
        template=_template(stored),
        shown=shown,
        settings=_decoding(stored),
        how=", ".join(filter(None, parts)),
        labels=Labels(stored.expected, stored.other, stored.label_type),
        response=noted._replace(text=stored.response),
        scores=stored.scores,
        images=pictures,
        again=again,
        notes=tuple(notes),
    )


def _other_scores(stored: StoredAnswer) -> Iterator[str]:
    """Yield a note where the stored scores are not what this version makes of the response."""
    if stored.other is None:
        return
    made = score(stored.expected, stored.other, stored.response)
    wrong = [name for name, value in stored.scores.items() if abs(value - made[name]) > 1e-9]
    if wrong:
        name = wrong[0]
        yield (
            f"the run's {name} is {stored.scores[name]:g}, and this version makes {made[name]:g} "
            "of the response: it was edited, or another version scored it"
        )


def _dtype(run: Run) -> str:
    return str(run.record.dtype or run.results.config.model_dtype or "").removeprefix("torch.")


def _decoding(stored: StoredAnswer) -> Mapping[str, Any]:
    """Return what was asked of the search; a server is sent the beams of its own argument."""
    served = stored.run.record.served
    return {**stored.settings, "num_beams": served.beams} if served else stored.settings


def _template(stored: StoredAnswer) -> str:
    run = stored.run
    if run.record.served:
        how = "a conversation" if run.record.served.conversation else "one user message"
        return f"the server applies its own, to {how}"
    if run.is_ours:
        text = rendering_text(run.record).removeprefix("chat template: ")
    else:
        text = "applied" if stored.has_template else "not applied"
    system = run.results.system_instruction
    shots = run.results.n_shot.get(stored.task)
    parts = (text, "a system prompt" if system else "", f"{shots} examples" if shots else "")
    return "; ".join(filter(None, parts))


def _shown(
    made: Answered,
    images: Sequence[Image.Image],
    record: ShownImage | None,
    is_text: bool,
) -> tuple[str, tuple[Image.Image, ...]]:
    """Say what images went with a prompt, and return those that are at hand.

    Args:
        made: The prompt.
        images: Those that it brought itself.
        record: The one that the adapter shows with every text prompt.
        is_text: Whether the model takes none.
    """
    pictures = tuple(made.prompt.images) if made.prompt else ()
    pictures = pictures or tuple(images)
    if pictures:
        sizes = ", ".join(f"{image.width} x {image.height} pixels" for image in pictures)
        if images:
            return f"{len(pictures)} of its own: {sizes}", pictures
        return f"{record.mode if record else 'one'}, {sizes}, as with every text prompt", pictures
    if record is None or record.mode == "none":
        return "none, a text model" if is_text else "none", ()
    size = (record.model_extra or {}).get("size")
    return f"{record.mode}{f', {size[0]} x {size[1]} pixels' if size else ''}", ()


def _what_differs(stored: StoredAnswer, lm: Any, asked: Answered, same: bool) -> list[str]:
    """Say what is not as in the run: why the response may be another, and whose the beams are."""
    found = list(_differences(stored, lm, asked))
    if same:
        return found and [
            "the response is the stored one all the same, and the beams are of what is here; "
            f"what differs: {'; '.join(found)}"
        ]
    low = (asked.dtype or "") not in ("torch.float32", "torch.float64")
    if found:
        return [f"the response is another than the stored one; what differs: {'; '.join(found)}"]
    if low and asked.dtype:
        return [
            f"the response is another than the stored one: in {asked.dtype.removeprefix('torch.')} "
            "it depends on the batch that the prompt was in"
        ]
    return [
        "the response is another than the stored one, and nothing that was recorded differs: two "
        "beams may be tied, or a checkpoint's own code may differ"
    ]


def _differences(stored: StoredAnswer, lm: Any, asked: Answered) -> Iterator[str]:
    record = stored.run.record
    if stored.settings.get("do_sample"):
        yield "it was sampled"
    pairs = [("device", record.device, asked.device), ("dtype", record.dtype, asked.dtype)]
    now = lm._fingerprint() if hasattr(lm, "_fingerprint") else {}
    before = record.fingerprint
    for key in ("weights", "tokenizer", "config", "engine", "image", "generation_config"):
        pairs.append((key, before.get(key), now.get(key)))
    for name, version in (before.get("versions") or {}).items():
        pairs.append((name, version, (now.get("versions") or {}).get(name)))
    for name, one, other in pairs:
        if one is not None and other is not None and one != other:
            yield f"{name} {_short(one)} in the run, {_short(other)} here"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"


def _tokenizer(lm: Any) -> str:
    from verbalizer_bench.models.adapters.fingerprints import tokenizer_sha256

    return tokenizer_sha256(lm.tokenizer)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def ask(
    prompt: str,
    model: str,
    model_args: Mapping[str, Any],
    *,
    images: Sequence[str | Path] = (),
    apply_chat_template: bool | str = False,
    system_instruction: str | None = None,
    labels: Sequence[str] = (),
    expect: str | None = None,
    gen_kwargs: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> Explanation:
    """Ask a model a prompt of one's own, and return all that is known of its answer.

    Args:
        prompt: The prompt; `<image>` in it says where images stand, else they stand in front.
        model: `verbalizer-llm`, `verbalizer-lvlm`, `verbalizer-api` or a model class of lm-eval.
        model_args: Its arguments.
        images: Image files; without any, an LVLM is shown its blank one.
        apply_chat_template: Whether the chat template is applied, or its name.
        system_instruction: The system prompt.
        labels: Two label words.
        expect: The one that counts; None: the first of `labels`.
        gen_kwargs: What is asked of the search in place of the suite's 10 beams and 15 tokens.
        device: Where the model goes; None: a GPU where there is one.

    Raises:
        ValueError: An option is wrong, or the model cannot be asked.
        OSError: The checkpoint or an image is not there.
    """
    expected = _labels(labels, expect)
    _check_question(prompt, model, model_args, gen_kwargs or {}, device)
    pictures = [readable_image(Path(file)) for file in images]
    lm = loaded(model, model_args, device)
    if pictures and not getattr(lm, "MULTIMODAL", False):
        raise ValueError(f"--image {images[0]}: --model {model} takes no images; leave it out")
    settings = _settings(lm, gen_kwargs or {})
    asked = request(lm, prompt, settings, pictures, apply_chat_template, system_instruction)
    made, blank = answered(lm, asked, expected.words if expected else ()), _blank(lm)
    assert made.response
    shown, kept = _shown(made, pictures, blank, is_text=blank is None)
    return Explanation(
        title=f"A prompt of your own, {model}",
        place=", ".join(f"{key}={value}" for key, value in model_args.items()),
        why="",
        raw=prompt,
        asked=str(asked.args[0]),
        made=made,
        template="not applied" if apply_chat_template is False else "applied",
        shown=shown,
        settings=settings,
        how=made.how,
        labels=expected,
        response=made.response,
        scores=scores_of(expected, made.response.text),
        images=kept,
        again=made,
        stored=False,
    )


def _settings(lm: Any, gen_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is asked of the search: the suite's but for what is given."""
    settings = {**protocol()["generation_kwargs"], **gen_kwargs}
    # A server is sent the beams of the model's own argument.
    return {**settings, "num_beams": lm.settings.beams} if hasattr(lm, "settings") else settings


def _blank(lm: Any) -> ShownImage | None:
    """Return the image that an adapter shows with every text prompt; None for a text model."""
    mode = getattr(lm, "image_mode", None) or getattr(getattr(lm, "settings", None), "image", None)
    return ShownImage(mode=mode) if mode else None


def _check_question(
    prompt: str,
    model: str,
    model_args: Mapping[str, Any],
    gen_kwargs: Mapping[str, Any],
    device: str | None,
) -> None:
    """Check what is asked and of whom, before anything is loaded."""
    if not prompt.strip():
        raise ValueError("ask: the prompt is empty; give a text")
    register_models()
    with _as_ask():
        given = {"model": model, "model_args": model_args, "gen_kwargs": gen_kwargs}
        check_model(Namespace(**given, device=device))


@contextmanager
def _as_ask() -> Iterator[None]:
    """Name this command in the errors of `run`'s checks."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(str(error).replace("run: ", "ask: ", 1)) from error


def _labels(labels: Sequence[str], expect: str | None) -> Labels | None:
    """Return what an answer is held to; None: nothing.

    Raises:
        ValueError: There are not two label words, or what is expected is none of them.
    """
    if not labels:
        return Labels(expect) if expect else None
    if len(labels) != 2 or not all(labels) or labels[0] == labels[1]:
        raise ValueError(f"--labels {','.join(labels)}: give two words, such as positive,negative")
    if expect is not None and expect not in labels:
        raise ValueError(
            f"--expect {expect}: none of --labels {','.join(labels)}; give one of them"
        )
    first = expect or labels[0]
    return Labels(first, labels[1] if first == labels[0] else labels[0])
