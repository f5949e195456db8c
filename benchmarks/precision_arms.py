"""The ways to generate that `benchmarks.precision` compares, and the tokens that they gave.

What an arm gave is kept in `~/.cache/verbalizer-bench/precision` under a hash of all that it
depends on: a run that was stopped goes on, and a change of the engine runs the engine's arms again
and no other.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lm_eval.api.instance import Instance

from benchmarks.agreement import AskedDocument
from benchmarks.checkpoints import load_tasks
from benchmarks.measure import cpu_seconds
from verbalizer_bench.models import engine as engine_package
from verbalizer_bench.models.adapters.fingerprints import versions
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings

CACHE = Path.home() / ".cache" / "verbalizer-bench" / "precision"
GENERATE, ENGINE = "generate", "engine"
NEW_TOKENS = 15
VERBALIZERS = 12


class MeasuredModel(NamedTuple):
    """A checkpoint that is measured.

    Attributes:
        name: As results have it.
        folder: Where it is.
        chat: Whether its chat template is applied.
        documents: Of each task.
        dtypes: The low precisions that are measured.
        searches: The numbers of beams.
    """

    name: str
    folder: Path
    chat: bool
    documents: int
    dtypes: Sequence[str] = ("bfloat16",)
    searches: Sequence[int] = (10,)


class PrecisionArm(NamedTuple):
    """A way to generate (`generate` one prompt at a time, or the engine) in a precision."""

    way: str
    dtype: str
    beams: int

    @property
    def name(self) -> str:
        """Return a readable name."""
        return f"{self.way} {self.dtype}, {self.beams} beams"


class Generated(NamedTuple):
    """What an arm gave: tokens of each prompt without padding, texts, CPU seconds in all."""

    tokens: list[list[int]]
    texts: list[str]
    cpu_seconds: float


def asked_documents(data: str, documents: int) -> list[AskedDocument]:
    """Return so many documents of each of the 108 tasks, none in two tasks of its data set."""
    found, counts = [], dict[str, int]()
    for name, task in sorted(load_tasks(data).items()):
        dataset = task.config.metadata["dataset"]
        place = counts.setdefault(dataset, 0)
        counts[dataset] += 1
        mine = task.eval_docs[place : VERBALIZERS * documents : VERBALIZERS]
        if len(mine) < documents:
            raise ValueError(f"data={data}: {name} has not {VERBALIZERS * documents} documents")
        found += [
            AskedDocument(
                name,
                dataset,
                task.config.metadata["verbalizer"]["type"],
                task.doc_to_text(document),
                task.doc_to_target(document),
            )
            for document in mine
        ]
    return found


def run_arm(
    arm: PrecisionArm,
    model: MeasuredModel,
    asked: Sequence[AskedDocument],
    cache: Path,
    progress: Callable[[int], None],
) -> Generated:
    """Return what an arm gives, from the cache as far as it is there.

    Args:
        arm: What is run.
        model: The checkpoint that is asked.
        asked: The documents; their order is part of what the engine's arms depend on.
        cache: A folder.
        progress: Is told how many prompts are done.
    """
    cache.mkdir(parents=True, exist_ok=True)
    file = cache / f"{_key(arm, model, asked)}.jsonl"
    known = _read(file)
    if arm.way == ENGINE and len(known) < len(asked):
        # Which prompts are neighbours is part of the result: all or none.
        known = {}
    if missing := [place for place in range(len(asked)) if place not in known]:
        lm = load(arm, model)
        prompts = prompt_ids(lm, asked, model.chat)
        settings = GenerationSettings(NEW_TOKENS, (), {"num_beams": arm.beams, "do_sample": False})
        way = _engine if arm.way == ENGINE else _generate
        # Written anew: the last line may have been cut off.
        file.write_text("".join(map(_line, known.items())))
        with file.open("a") as stream:
            for place, tokens, seconds in way(lm, prompts, missing, settings):
                text = lm.tokenizer.decode(tokens, skip_special_tokens=True)
                known[place] = {"tokens": tokens, "text": text, "cpu": seconds}
                stream.write(_line((place, known[place])))
                stream.flush()
                progress(len(known))
    rows = [known[place] for place in range(len(asked))]
    return Generated(
        [row["tokens"] for row in rows],
        [row["text"] for row in rows],
        sum(row["cpu"] for row in rows),
    )


def load(arm: PrecisionArm, model: MeasuredModel) -> VerbalizerLLM:
    """Load a checkpoint for an arm, on the CPU."""
    way = "shared_prefix" if arm.way == ENGINE else "generate"
    return VerbalizerLLM(str(model.folder), dtype=arm.dtype, device="cpu", engine=way, batch_size=1)


def prompt_ids(lm: VerbalizerLLM, asked: Sequence[AskedDocument], chat: bool) -> list[list[int]]:
    """Return the prompts as the adapter encodes them, in the model's chat template or raw."""
    texts = [document.prompt for document in asked]
    if chat:
        texts = [lm.apply_chat_template([{"role": "user", "content": text}]) for text in texts]
    requests = [Instance("generate_until", {}, (text, {}), 0) for text in texts]
    return [lm._prompt(request, NEW_TOKENS) for request in requests]


def _generate(
    lm: VerbalizerLLM, prompts: Sequence[list[int]], missing: Sequence[int], settings: Any
) -> Iterator[tuple[int, list[int], float]]:
    """Yield place, tokens and CPU seconds of transformers' `generate`, one prompt at a time."""
    eos = set(lm.eos_token_ids)
    for place in missing:
        before, ids = cpu_seconds(), torch.tensor([prompts[place]])
        with torch.inference_mode():
            output = lm.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=settings.max_new_tokens,
                eos_token_id=lm.eos_token_ids,
                pad_token_id=lm.tokenizer.pad_token_id,
                **settings.kwargs,
            )
        tokens = output[0, ids.shape[1] :].tolist()
        end = next((n + 1 for n, token in enumerate(tokens) if token in eos), len(tokens))
        yield place, tokens[:end], cpu_seconds() - before


def _engine(
    lm: VerbalizerLLM, prompts: Sequence[list[int]], missing: Sequence[int], settings: Any
) -> Iterator[tuple[int, list[int], float]]:
    """Yield place, tokens and CPU seconds of the shared-prefix engine."""
    before = cpu_seconds()
    for place, tokens in shared_prefix_tokens(lm, prompts, settings):
        now = cpu_seconds()
        yield place, tokens, now - before
        before = now


def shared_prefix_tokens(
    lm: VerbalizerLLM, prompts: Sequence[list[int]], settings: GenerationSettings
) -> Iterator[tuple[int, list[int]]]:
    """Yield each prompt's place and its new tokens by the shared-prefix engine."""
    longest = max(map(len, prompts)) + settings.max_new_tokens
    engine = lm._choose_shared_prefix(prompts[0], settings, longest)
    assert engine is not None
    encoded = lm._encoded(dict(enumerate(prompts)), list(range(len(prompts))))
    yield from lm._generate_shared(engine, encoded, settings)


def _line(row: tuple[int, dict[str, Any]]) -> str:
    return json.dumps({"place": row[0], **row[1]}) + "\n"


def _read(file: Path) -> dict[int, dict[str, Any]]:
    """Return the rows that are there; a last line that was cut off is none."""
    rows = {}
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row.pop("place")] = row
    return rows


def _key(arm: PrecisionArm, model: MeasuredModel, asked: Sequence[AskedDocument]) -> str:
    packages = {name: versions()[name] for name in ("torch", "transformers", "tokenizers")}
    parts = {
        "arm": arm._asdict(),
        "weights": checkpoint_sha256(model.folder),
        "chat": model.chat,
        "prompts": [document.prompt for document in asked],
        "versions": packages,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "engine": engine_sha256() if arm.way == ENGINE else None,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{model.name}-{arm.way}-{arm.dtype}-{arm.beams}-{digest[:16]}"


@cache
def engine_sha256() -> str:
    """Return a hash of the engine's source, as it was when a process first asked."""
    total = hashlib.sha256()
    for file in sorted(Path(str(engine_package.__file__)).parent.glob("*.py")):
        total.update(file.read_bytes())
    return total.hexdigest()


def processor() -> str:
    """Return what kernels depend on: the processor's architecture and vector instructions."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
