"""Put together what several processes ran: the results file that one process would have written.

verbalizer-bench run … --shard 1/2 --output_path out/1    # on one machine
verbalizer-bench run … --shard 2/2 --output_path out/2    # on another
verbalizer-bench merge out/1 out/2 -o out/all

"The same" is every samples file and the blocks `results`, `groups` and `n-samples`, byte for byte,
in float32. Dates, durations, host and paths are as they were.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verbalizer_bench.results.files import (
    Samples,
    newest_results,
    read_rows,
    read_table,
    write_run,
    write_run_json,
)
from verbalizer_bench.tasks.metrics import METRICS

# What shards of one run have in common, in the results file's `config`.
_COMMON = ("model", "limit", "gen_kwargs", "fewshot_seed")
_COUNTED = ("endings", "thoughts", "special_tokens")
_COMMON_RECORD = ("chat_template_sha256", "fingerprint")


def merge(folders: Sequence[Path], output: Path) -> Path:
    """Merge the shards of one run.

    Args:
        folders: A shard's output folder each, in any order.
        output: Where the merged run goes, in a folder named after the model.

    Returns:
        The merged run folder.

    Raises:
        ValueError: A shard is missing or given twice, or shards are of different runs.
    """
    files = [newest_results(folder) for folder in folders]
    shards = [read_table(file) for file in files]
    first = shards[0]
    order = _check_shards(files, shards)
    for file, other in zip(files, shards, strict=True):
        _check_same(file, first, other)
    files, shards = [files[i] for i in order], [shards[i] for i in order]
    parts = [read_rows(file, list(first["configs"])) for file in files]
    _check_documents(files, parts)
    samples: Samples = {t: [row for part in parts for row in part[t]] for t in first["configs"]}
    merged = shards[0]
    for config in merged["configs"].values():
        config["metadata"].pop("shard")
    merged["config"]["verbalizer_bench"] = _merged_record(shards)
    merged["merged_from"] = [str(file) for file in files]
    folder = output / str(merged["model_name_sanitized"])
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"merge: {folder} is not empty; give another -o")
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / files[0].name
    _recompute(merged, samples)
    write_run(results, merged, samples)
    write_run_json(results, merged["config"], merged_from=merged["merged_from"])
    return folder


def in_document_order(results: Path) -> None:
    """Rewrite a run of several ranks as one rank would have written it.

    lm-eval leaves rows in the order of the ranks, and asks a rank with fewer documents its last
    request again, whose responses then stand there more than once.
    """
    table = read_table(results)
    samples = read_rows(results, list(table["configs"]))
    for task, rows in samples.items():
        repeats = table["configs"][task].get("repeats") or 1
        for row in rows:
            row["resps"] = [responses[:repeats] for responses in row["resps"]]
    _recompute(table, samples)
    write_run(results, table, samples)


def _recompute(table: dict[str, Any], samples: Samples) -> None:
    """Compute scores, group means and task hashes over rows in document order, as lm-eval does.

    Only of our tasks and the suite's groups: their scores are means. What else a run of several
    ranks has stays as lm-eval computed it.
    """
    from lm_eval.api.metrics import mean, mean_stderr
    from lm_eval.utils import hash_string

    for task, rows in samples.items():
        rows.sort(key=lambda row: row["doc_id"])
        # A task's filters follow one another; sorting keeps what is equal in its order.
        filters = list(dict.fromkeys(row["filter"] for row in rows))
        rows[:] = [row for name in filters for row in rows if row["filter"] == name]
        hashes = (row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows)
        table["task_hashes"][task] = hash_string("".join(hashes))
        is_ours = "verbalizer" in (table["configs"][task].get("metadata") or {})
        # --predict_only scores nothing.
        if not is_ours or "bypass" in rows[0]:
            continue
        scores = table["results"][task]
        scores["sample_len"] = table["n-samples"][task]["effective"] = len(rows)
        for metric in METRICS:
            values = [row[metric] for row in rows]
            scores[f"{metric},none"] = mean(values)
            scores[f"{metric}_stderr,none"] = mean_stderr(values) if len(values) > 1 else "N/A"
    for group in table.get("groups", {}):
        leaves = _leaves(group, table["group_subtasks"])
        if group.split("::")[0] == "verbalizer" and "f1,none" in table["results"][group]:
            scores = _group_scores(group, [table["results"][leaf] for leaf in leaves])
            table["results"][group] = table["groups"][group] = scores


def _group_scores(group: str, leaves: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    from lm_eval.api.metrics import aggregate_subtask_metrics, unweighted_mean_stderr

    sizes = [leaf["sample_len"] for leaf in leaves]
    scores: dict[str, Any] = {"alias": group, "name": group, "sample_len": sum(sizes)}
    for metric in METRICS:
        values = [leaf[f"{metric},none"] for leaf in leaves]
        errors = [leaf[f"{metric}_stderr,none"] for leaf in leaves]
        scores[f"{metric},none"] = aggregate_subtask_metrics(values, sizes, weight_by_size=False)
        scores[f"{metric}_stderr,none"] = (
            "N/A" if "N/A" in errors else float(unweighted_mean_stderr(errors))
        )
    scores["sample_count"] = {f"{metric},none": sum(sizes) for metric in METRICS}
    return scores


def _leaves(group: str, subtasks: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        leaf
        for child in subtasks[group]
        for leaf in (_leaves(child, subtasks) if child in subtasks else [child])
    ]


def _check_shards(files: Sequence[Path], shards: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the order of the shards; exactly one of each must be there."""
    places: dict[int, int] = {}
    total = len(shards)
    for place, (file, shard) in enumerate(zip(files, shards, strict=True)):
        names = {
            (config.get("metadata") or {}).get("shard") for config in shard["configs"].values()
        }
        (name,) = names if len(names) == 1 else (None,)
        if name is None:
            raise ValueError(f"merge: {file}: not a shard; run it with --shard I/N")
        number, count = map(int, name.split("/"))
        if count != total:
            raise ValueError(f"merge: {file}: shard {name}, but {total} folders were given")
        if number in places:
            raise ValueError(f"merge: {file} and {files[places[number]]} are both shard {name}")
        places[number] = place
    return [places[number] for number in sorted(places)]


def _check_same(file: Path, first: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    def asked(table: Mapping[str, Any]) -> dict[str, Any]:
        record = table["config"].get("verbalizer_bench", {})
        configs = {}
        for task, config in table["configs"].items():
            ours = config["metadata"]
            configs[task] = [
                *(config["generation_kwargs"], config["num_fewshot"]),
                *(ours["version"], ours["source"], ours["identity"]),
            ]
        return {
            "tasks": sorted(configs),
            **{f"the settings of {task}": value for task, value in configs.items()},
            **{key: table["config"].get(key) for key in _COMMON},
            **{key: record.get(key) for key in _COMMON_RECORD},
            "system_instruction": table["system_instruction"],
            "fewshot_as_multiturn": table["fewshot_as_multiturn"],
        }

    left, right = asked(first), asked(other)
    for key in dict.fromkeys([*left, *right]):
        if left.get(key) != right.get(key):
            raise ValueError(
                f"merge: {file} is of another run than the first: {key} is {right.get(key)!r} "
                f"there and {left.get(key)!r} in the first; merge the shards of one run"
            )


def _check_documents(files: Sequence[Path], parts: Sequence[Samples]) -> None:
    """Raise ValueError where shards are not every N-th document, each from its own first on."""
    for task in parts[0]:
        ids = [sorted(row["doc_id"] for row in part[task]) for part in parts]
        together = sorted(number for numbers in ids for number in numbers)
        if ids != [together[place :: len(parts)] for place in range(len(parts))]:
            counts = ", ".join(
                f"{file}: {len(numbers)}" for file, numbers in zip(files, ids, strict=True)
            )
            raise ValueError(
                f"merge: {task}: the documents are not one run's, every {len(parts)}-th in each "
                f"shard ({counts}); run the shard again that differs"
            )


def _merged_record(shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    records = [shard["config"]["verbalizer_bench"] for shard in shards]
    counts = [record["bos_counts"] for record in records if record["bos_counts"]]
    served = {"served": _served(records)} if records[0].get("served") else {}
    return {
        **records[0],
        **served,
        "engine": _sum(records, "engine"),
        "responses_by_rank": [n for record in records for n in record["responses_by_rank"]],
        "world_size": sum(record["world_size"] for record in records),
        **{key: _sum(records, key) for key in _COUNTED if key in records[0]},
        "rendering": _rendering(records),
        "truncated_prompts": sum(record["truncated_prompts"] for record in records),
        "escaped_prompts": sum(record["escaped_prompts"] for record in records),
        "unknown_prompts": sum(record.get("unknown_prompts", 0) for record in records),
        "bos_counts": [min(c[0] for c in counts), max(c[1] for c in counts)] if counts else None,
    }


def _served(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all shards were sent, and what came back."""
    parts = [record["served"] for record in records]
    sent = [parameters for part in parts for parameters in part["parameters"]]
    counted = ("reported", "system_fingerprints")
    return {
        **parts[0],
        **{key: _sum(parts, key) for key in counted},
        "parameters": [one for place, one in enumerate(sent) if one not in sent[:place]],
        "reasoning": sum(part["reasoning"] for part in parts),
        "spent": {key: sum(part["spent"][key] for part in parts) for key in parts[0]["spent"]},
    }


def _rendering(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return how all shards were rendered; the fingerprint has seen to what must be the same."""
    renderings = [record["rendering"] for record in records if record.get("rendering")]
    if not renderings:
        return None
    contents = {form for rendering in renderings for form in rendering["contents"]}
    return {**renderings[0], "contents": sorted(contents)}


def _sum(records: Sequence[Mapping[str, Any]], key: str) -> dict[str, int]:
    return dict(sum((Counter(record[key]) for record in records), Counter()))
