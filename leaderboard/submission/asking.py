"""Ask a submission's model again: which documents, and with which of its arguments."""

import json
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from verbalizer_bench.leaderboard.submission import claims
from verbalizer_bench.leaderboard.submission.contents import Contents
from verbalizer_bench.leaderboard.submission.models import SubmittedSample
from verbalizer_bench.leaderboard.submission.reading import escaped, sha256
from verbalizer_bench.results.schema import Sample, short
from verbalizer_bench.tasks.data import resolve_data, test_documents
from verbalizer_bench.tasks.suite import suite, suite_datasets

# All that is taken of a submission's arguments: transformers runs code that others name.
_GENERATION = ("num_beams", "max_gen_toks", "do_sample", "until")
_TAKEN = {
    "dtype": ("float32", "float16", "bfloat16", "float64"),
    "image": ("white", "gray", "black", "noise", "none"),
}
_ADAPTERS = {"llm": "verbalizer-llm", "lvlm": "verbalizer-lvlm"}


def choose(contents: Contents, documents: int, generator: random.Random) -> dict[str, list[int]]:
    """Return document numbers by task, the data sets in turn until there are enough."""
    tasks: dict[str, list[str]] = {}
    for task, (dataset, _) in suite().items():
        tasks.setdefault(dataset, []).append(task)
    left = {}
    for dataset, names in tasks.items():
        ids = [row.doc_id for row in contents.rows.get(names[0], ())]
        left[dataset] = generator.sample(ids, len(ids))
    chosen: dict[str, list[int]] = {}
    # Fewer documents than data sets are of any of them.
    order = generator.sample(sorted(left), len(left))
    while documents:
        for dataset in order:
            ids = left[dataset]
            if ids and documents:
                chosen.setdefault(dataset, []).append(ids.pop())
                documents -= 1
    return {task: sorted(ids) for dataset, ids in chosen.items() for task in tasks[dataset]}


def located(
    contents: Contents, chosen: Mapping[str, Sequence[int]], data: str | None
) -> dict[str, dict[int, int]]:
    """Find a submission's documents among one's own rows, by their prompts: in whatever order.

    Returns:
        By task, the submission's number of each of one's own.

    Raises:
        ValueError: A prompt is not among those of the rows.
    """
    places: dict[str, dict[int, int]] = {}
    for task, ids in chosen.items():
        dataset, verbalizer = suite()[task]
        if dataset not in places:
            spec = suite_datasets()[dataset][0]
            by_prompt: dict[tuple[str, str], list[int]] = defaultdict(list)
            for number, doc in enumerate(test_documents(spec, resolve_data(data)).docs):
                prompt = sha256(spec.render(doc, verbalizer).encode())
                by_prompt[prompt, spec.target(doc, verbalizer)].append(number)
            rows = {row.doc_id: row for row in contents.rows[task]}
            places[dataset] = {}
            for doc_id in ids:
                numbers = by_prompt[rows[doc_id].raw_prompt_hash, rows[doc_id].target]
                if not numbers:
                    raise ValueError(_no_such_prompt(contents.folder, task, doc_id))
                places[dataset][numbers.pop()] = doc_id
    return {task: places[suite()[task][0]] for task in chosen}


def check_prompt(folder: Path, task: str, stated: SubmittedSample, sample: Sample) -> None:
    """Compare the prompt of a new response with that of the submission's.

    Raises:
        ValueError: It is another.
    """
    dataset, verbalizer = suite()[task]
    spec = suite_datasets()[dataset][0]
    raw = sha256(spec.render(sample.doc, verbalizer).encode())
    if (raw, sample.target) != (stated.raw_prompt_hash, stated.target):
        raise ValueError(_no_such_prompt(folder, task, stated.doc_id))


def _no_such_prompt(folder: Path, task: str, doc_id: int) -> str:
    return (
        f"{escaped(folder)}: {task}, document {doc_id}: another prompt than these rows give; give "
        "--data with the submission's rows"
    )


def arguments(contents: Contents, model_args: str | None) -> list[str]:
    """Return what `run` is told: the model, and how it was asked.

    Raises:
        ValueError: The submission was run in a way that cannot be repeated.
    """
    config, model = contents.results.config, contents.submission.model
    if any(settings.num_fewshot for settings in contents.results.configs.values()):
        raise ValueError(
            f"{escaped(contents.folder)}: a few-shot run; spot-check repeats zero-shot runs only"
        )
    if config.verbalizer_bench is None:
        raise ValueError(
            f"{escaped(contents.folder)}: run by {short(config.model)}; spot-check repeats runs of "
            "verbalizer-llm and verbalizer-lvlm only"
        )
    given = _on_hub(contents) if model_args is None else model_args
    generation = next(iter(contents.results.configs.values())).generation_kwargs
    asked = generation.model_dump(exclude_unset=True)
    if others := sorted(set(asked) - set(_GENERATION)):
        raise ValueError(
            f"{escaped(contents.folder)}: generated with {short(others[0])}, "
            "which spot-check does not repeat"
        )
    told = ["--model", _ADAPTERS[model.kind], "--model_args", with_taken(contents, given)]
    told += ["--gen_kwargs", json.dumps(asked)]
    if system := contents.results.system_instruction:
        told.append(f"--system_instruction={system}")
    return told + ["--apply_chat_template"] * bool(contents.run.chat_template_sha256)


def _on_hub(contents: Contents) -> str:
    """Return the arguments of the hub commit that a submission names."""
    model, place = contents.submission.model, escaped(contents.folder)
    if claims.arguments(contents).get("peft"):
        raise ValueError(f"{place}: is an adapter; give --model_args pretrained=BASE,peft=ADAPTER")
    if model.revision is None:
        raise ValueError(f"{place}: names no hub commit; give --model_args pretrained=DIR")
    if Path(model.id).exists():
        raise ValueError(
            f"{place}: a folder {model.id} is here, and would be loaded in place of the hub's; go "
            "to another folder, or give --model_args"
        )
    return f"pretrained={model.id},revision={model.revision}"


def with_taken(contents: Contents, model_args: str) -> str:
    """Add the submission's dtype and image where the arguments do not say otherwise.

    Raises:
        ValueError: It was shown a file, and the arguments name no image.
    """
    stated = {
        "dtype": str(contents.run.dtype).removeprefix("torch."),
        "image": (contents.run.image or {}).get("mode"),
    }
    open_keys = [key for key in stated if not re.search(rf"(^|\W){key}\W*[=:]", model_args)]
    taken = {key: stated[key] for key in open_keys if stated[key] in _TAKEN[key]}
    if "image" in open_keys and stated["image"] and "image" not in taken:
        raise ValueError(
            f"{escaped(contents.folder)}: was shown {short(stated['image'])}, a file; give "
            "--model_args with image=FILE"
        )
    if model_args.lstrip().startswith("{"):
        return json.dumps(json.loads(model_args) | taken)
    return ",".join([model_args, *(f"{key}={value}" for key, value in taken.items())])
