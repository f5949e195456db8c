"""What is kept of a merge beside its weights: `merge.json`, and a model card."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.models.checkpoints.language_weights import EMBEDDINGS, LanguageModel
from verbalizer_bench.models.checkpoints.strict_loading import OTHER_MODALITIES
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256
from verbalizer_bench.version import __version__

RECORD = "merge.json"
RULE = (
    "base + sum of coefficient * (tuned - base); 0 is the base's language model, 1 the tuned one's"
)
TIES = (
    "base + coefficient * TIES (arXiv 2306.01708) of the differences to the base: of each tensor "
    "of them the largest {:g} is kept, and the mean taken of those with the sign of their sum"
)
# Settings of which a merge has the tuned checkpoint's, though weights of both are in it.
_COMPARED = ("model_type", "rope_parameters", "rms_norm_eps", "tie_word_embeddings")
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def write_record(
    base: LanguageModel,
    tuned: Sequence[LanguageModel],
    rows: torch.Tensor,
    folders: Mapping[tuple[float, ...], Path],
    output: Path,
    density: float | None = None,
) -> None:
    """Write record and card into the folders of a merge.

    Args:
        base: The base.
        tuned: The tuned checkpoints.
        rows: Which rows of the vocabulary were merged.
        folders: The folders with the weights, by their coefficients.
        output: What the command was given as the merge's place, which the folders get.
        density: By TIES, the share that was kept; the one coefficient is then every tuned one's.
    """
    hashes = {one.stored.what: checkpoint_sha256(one.stored.folder) for one in (base, *tuned)}
    rule = RULE if density is None else TIES.format(density)
    common = _record(base, tuned, rows, hashes) | {"rule": rule}
    for point, folder in folders.items():
        coefficients = point if density is None else point * len(tuned)
        shares = [
            _source(one, hashes) | {"coefficient": share}
            for one, share in zip(tuned, coefficients, strict=True)
        ]
        record = common | {"tuned": shares, "weights": checkpoint_sha256(folder)}
        write_whole(folder / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        place = output / folder.name if len(folders) > 1 else output
        write_whole(folder / "README.md", _card(record, place, tuned[0]))


def _record(
    base: LanguageModel,
    tuned: Sequence[LanguageModel],
    rows: torch.Tensor,
    hashes: Mapping[str, str],
) -> dict[str, Any]:
    frame = tuned[0]
    merged = set(frame.names.values())
    kept = [name for name in frame.stored.tensors if name not in merged]
    own_rows = (~rows).nonzero().flatten().tolist()
    lacking = max(0, base.weight(EMBEDDINGS).shape[0] - len(rows))
    return {
        "verbalizer-bench": __version__,
        "arithmetic": "float32 (float64 for weights in it), written in the first tuned one's types",
        "base": _source(base, hashes),
        "tuned": [],
        "merged": {"weights": len(merged), "dtypes": _dtypes(frame, merged)},
        "kept of the first tuned": {
            "weights": len(kept),
            "by part": dict(Counter(_part(name) for name in kept)),
            "rows of the vocabulary": len(own_rows),
            "tokens": {row: frame.tokens[row] for row in own_rows if row in frame.tokens},
        },
        "rows of the base that the tuned has not": lacking,
        "settings that differ": _differences(base, frame),
    }


def _source(model: LanguageModel, hashes: Mapping[str, str]) -> dict[str, Any]:
    name = model.stored.what.partition(" ")[2]
    dtypes = _dtypes(model, set(model.names.values()))
    return {"checkpoint": name, "weights": hashes[model.stored.what], "dtypes": dtypes}


def _dtypes(model: LanguageModel, names: set[str]) -> dict[str, int]:
    return dict(Counter(_DTYPES[model.stored.tensors[name].dtype] for name in sorted(names)))


def _part(name: str) -> str:
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "model" else first


def _differences(base: LanguageModel, tuned: LanguageModel) -> dict[str, Any]:
    pairs = {key: [getattr(one.config, key, None) for one in (base, tuned)] for key in _COMPARED}
    return {
        key: {"base": str(one), "tuned": str(other)}
        for key, (one, other) in pairs.items()
        if one != other
    }


def _card(record: Mapping[str, Any], place: Path, tuned: LanguageModel) -> str:
    kept = record["kept of the first tuned"]
    parts = ", ".join(f"{part} ({count} weights)" for part, count in kept["by part"].items())
    shares = "\n".join(
        f"- {one['coefficient']:g} of `{one['checkpoint']}`, weights sha256 `{one['weights']}`"
        for one in record["tuned"]
    )
    sees = any(map(OTHER_MODALITIES.search, tuned.stored.tensors))
    template = "--apply_chat_template " if _has_template(tuned.stored.folder) else ""
    adapter, image = ("lvlm", ",image=white") if sees else ("llm", "")
    (dtype, _), *_ = Counter(record["merged"]["dtypes"]).most_common()
    base = record["base"]
    differing = ", ".join(record["settings that differ"])
    return f"""---
library_name: transformers
tags: [verbalizer-bench, merge]
---
# {place.name}

Made by verbalizer-bench {record["verbalizer-bench"]}, `merge-weights`: language models merged as
{record["rule"]}.

- base: `{base["checkpoint"]}`, weights sha256 `{base["weights"]}`
{shares}

{record["merged"]["weights"]} weights were merged in float32. Kept as in the first tuned one:
{parts or "no other weights"}, and {kept["rows of the vocabulary"]} rows of the vocabulary.\
{f" Settings that differ, here the tuned one's: {differing}." if differing else ""}
All of it: [{RECORD}]({RECORD}).

## Score it

```bash
verbalizer-bench run --model verbalizer-{adapter} \\
    --model_args pretrained={place},dtype={dtype}{image} {template}\\
    --tasks verbalizer --batch_size auto --output_path out/{place.name}
```

It loads in plain transformers; licences are those of the base and of the tuned checkpoints.
"""


def _has_template(folder: Path) -> bool:
    settings = folder / "tokenizer_config.json"
    return (folder / "chat_template.jinja").is_file() or (
        settings.is_file() and "chat_template" in json.loads(settings.read_text("utf-8"))
    )
