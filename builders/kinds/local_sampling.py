"""Sample completions from a checkpoint on this machine, by the adapters that runs use.

Prompts are sampled in batches whose members never change, each batch from a seed of its own, and
kept in `sampled.jsonl` as soon as a batch is there: what a killed build left is not sampled again,
and the rest comes out as it would have.
"""

import asyncio
import hashlib
import json
import logging
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from verbalizer_bench.builders.kinds.completions import (
    STAGE,
    STOP,
    conversation,
    seed_of,
    with_candidates,
)
from verbalizer_bench.builders.pipeline.preference_blocks import Completions, LocalCheckpoint
from verbalizer_bench.builders.pipeline.progress import StageProgress
from verbalizer_bench.builders.pipeline.sample import Candidate, TrainingSample
from verbalizer_bench.client.budget import UsageTotals
from verbalizer_bench.io.append_log import AppendLog
from verbalizer_bench.io.preferences import IMAGE, LENGTH

log = logging.getLogger(__name__)

NAME = "sampled.jsonl"
_FORMAT = 1
_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".msgpack")
# By what the adapters call it.
_ENDINGS = {"eos": STOP, "stop": STOP, "limit": LENGTH}


class LocalSampler:
    """Samples from a checkpoint, which is loaded when the first batch is not there yet."""

    def __init__(
        self, folder: Path, settings: Completions, checkpoint: LocalCheckpoint, images: Path | None
    ) -> None:
        """Take what is sampled, the folder of what was, and the folder of images."""
        self.folder, self.settings = folder, settings
        self.checkpoint, self.images = checkpoint, images
        self._model: Any = None

    async def sample(self, samples: list[TrainingSample]) -> list[TrainingSample]:
        """Return the samples with their completions.

        Raises:
            ValueError: The checkpoint cannot be loaded, or a prompt does not fit it.
        """
        asked = [sample for sample in samples if not sample.rejection]
        weights = await asyncio.to_thread(self._weights)
        path = self.folder / NAME
        kept = AppendLog(path, "sampled", _FORMAT, "wait until it is done, or give another output")
        try:
            known = {row["key"]: row for _, row in kept.read() if "key" in row}
            if kept.is_empty:
                kept.append({"sampled": _FORMAT})
            sampled: dict[str, TrainingSample] = {}
            with StageProgress(STAGE, len(asked), UsageTotals()) as progress, _said_when_stopped():
                for batch in self._batches(asked):
                    # Ctrl-C is heard here.
                    await asyncio.sleep(0)
                    key = self._key(batch, weights)
                    if key not in known:
                        known[key] = self._row(key, batch)
                        kept.append(known[key])
                        kept.sync()
                    done = [_with_completions(one, known[key], self.settings) for one in batch]
                    sampled |= {one.id: one for one in done}
                    progress.done(*done)
        finally:
            kept.close()
        return [sampled.get(sample.id, sample) for sample in samples]

    def _weights(self) -> str:
        """Return the hash of all that the checkpoint's folders have."""
        from verbalizer_bench.models.checkpoints.weight_hash import weights_sha256

        try:
            weights = weights_sha256(**self.checkpoint.model_args)
            return weights + _others_sha256(self.checkpoint)
        except (ValueError, OSError):
            load(self.checkpoint)  # names what is wrong with the argument
            raise

    def _batches(self, samples: Sequence[TrainingSample]) -> Iterator[list[TrainingSample]]:
        """Yield prompts whose completions are sampled together, those with an image apart."""
        size = max(1, self.checkpoint.batch_size // self.settings.k)
        for shown in (True, False):
            alike = [sample for sample in samples if bool(sample.image) == shown]
            for start in range(0, len(alike), size):
                yield alike[start : start + size]

    def _key(self, batch: Sequence[TrainingSample], weights: str) -> str:
        """Return the hash of what a batch's completions depend on."""
        prompts = [
            [sample.id, sample.system, sample.turns, sample.image_sha256] for sample in batch
        ]
        depends = [vars(self.checkpoint), weights, self.settings.k, self.settings.seed, prompts]
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()

    def _row(self, key: str, batch: Sequence[TrainingSample]) -> dict[str, Any]:
        """Sample a batch; a prompt that does not fit the model has its problem instead."""
        import torch

        seed, k = seed_of(self.settings, batch[0], 0), self.settings.k
        model = self._model = self._model or load(self.checkpoint)
        problems: dict[str, list[str] | None] = {}
        requests = {}
        for sample in batch:
            try:
                requests[sample.id] = self._request(model, sample)
                problems[sample.id] = self._problem(model, requests[sample.id])
            except ValueError as error:  # the template does not take this conversation
                problems[sample.id] = ["template", str(error)]
        fit = [name for name, problem in problems.items() if problem is None]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            responses = model.responses([_copy(requests[name]) for name in fit * k], True)
        completions: dict[str, list[list[str]]] = {name: [] for name in fit}
        for name, response in zip(fit * k, responses, strict=True):
            completions[name].append([response.text.strip(), _ENDINGS[response.ending]])
        return {"key": key, "seed": seed, "completions": completions, "problems": problems}

    def _request(self, model: Any, sample: TrainingSample) -> tuple[Any, ...]:
        """Return a prompt as the adapter takes it: the text, what is asked, and the image."""
        from verbalizer_bench.io.images import read_image

        checkpoint, messages = self.checkpoint, []
        for message in conversation(sample, self.images):
            content = message["content"]
            if not isinstance(content, str):
                content = IMAGE + content[-1]["text"]
            messages.append({"role": message["role"], "content": content})
        asked = {
            **{"do_sample": True, "until": [], "max_gen_toks": checkpoint.max_tokens},
            **{name: getattr(checkpoint, name) for name in ("temperature", "top_p", "top_k")},
        }
        text = model.apply_chat_template(messages)
        if sample.image is None:
            return text, asked
        assert self.images is not None
        return text, asked, {"visual": [read_image(self.images / sample.image)]}

    def _problem(self, model: Any, asked: tuple[Any, ...]) -> list[str] | None:
        """Return why a prompt cannot be asked: neither adapter may cut it here."""
        tokens, new = model.prompt_tokens(_copy(asked)), self.checkpoint.max_tokens
        if tokens + new <= model.max_length:
            return None
        return [
            "too_long",
            f"{tokens} tokens and {new} new ones do not fit the context of {model.max_length}; "
            "lower completions.checkpoint.max_tokens, or leave it out",
        ]


@contextmanager
def _said_when_stopped() -> Iterator[None]:
    """Say that Ctrl-C, or SIGTERM, which does the same, is heard after the batch."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    heard = before

    def say(number: int, frame: Any) -> None:
        log.warning("Stopping once the batch that is sampled now is kept; again: at once")
        heard(number, frame)

    signal.signal(signal.SIGINT, say)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _copy(asked: tuple[Any, ...]) -> Any:
    """Return a request of lm-eval; equal ones must be objects of their own to be sampled each."""
    from lm_eval.api.instance import Instance

    return Instance(request_type="generate_until", doc={}, arguments=asked, idx=0)


def _with_completions(
    sample: TrainingSample, row: Mapping[str, Any], settings: Completions
) -> TrainingSample:
    if problem := row["problems"][sample.id]:
        return sample.reject(STAGE, *problem)
    texts = row["completions"][sample.id]
    return with_candidates(
        sample, [Candidate(text, ending, row["seed"]) for text, ending in texts], settings
    )


def files(checkpoint: LocalCheckpoint) -> list[Path]:
    """Return the files of a checkpoint's folders, and of its adapter's; none of a hub id."""
    folders = [checkpoint.model_args.get(name) for name in ("pretrained", "peft", "tokenizer")]
    paths = [Path(str(folder)).expanduser() for folder in folders if folder]
    return [file for path in paths if path.is_dir() for file in sorted(path.iterdir())]


def _others_sha256(checkpoint: LocalCheckpoint) -> str:
    """Return the hash of a checkpoint's files but for its weights: template, tokenizer, config."""
    digest = hashlib.sha256()
    for file in files(checkpoint):
        if file.is_file() and file.suffix not in _WEIGHTS:
            digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def load(checkpoint: LocalCheckpoint) -> Any:
    """Return the adapter with its checkpoint.

    Raises:
        ValueError: It cannot be loaded, or it has no chat template.
    """
    from verbalizer_bench.models.adapters.llm import VerbalizerLLM
    from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM

    # Sampling is generate's; prompts have images of their own, or none. cuda:0, as lm-eval's
    # command line says: a GPU where there is one.
    settings: dict[str, Any] = {"engine": "generate", "device": "cuda:0"}
    settings["batch_size"] = checkpoint.batch_size
    model: Any
    try:
        if checkpoint.model == "verbalizer-llm":
            model = VerbalizerLLM(**(settings | checkpoint.model_args))
        else:
            model = VerbalizerLVLM(image="none", **(settings | checkpoint.model_args))
    except (ValueError, OSError) as error:
        raise ValueError(f"completions.checkpoint: {error}") from error
    try:
        model.chat_template(True)
    except ValueError as error:
        raise ValueError(
            f"completions.checkpoint: {checkpoint.model_args['pretrained']} has no chat template; "
            "write one into the folder (chat_template.jinja)"
        ) from error
    return model
