"""A hash of a checkpoint's weights as they are stored, whatever type they are loaded in.

It is over the tensors of the files that loading reads: name, type, shape and every byte, in the
order of their names, so that neither sharding nor the file's format changes it. Files are mapped,
not read into memory. A GGUF is hashed as a file. A LoRA is its base and its adapter.
"""

import hashlib
import json
import mmap
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from verbalizer_bench.io.files import file_sha256
from verbalizer_bench.models.checkpoints.safetensors_files import DAMAGED, damaged, read_header

# What `fingerprint.weights` of a run's record is: `stored` by this module; records without a kind
# are older, and have a hash of the weights in memory, which another dtype changes.
KIND = "stored"
_WHOLE = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
_HUB = ("revision", "subfolder", "cache_dir")
# Keys of adapter_config.json that change no response.
_IGNORED_KEYS = (
    "base_model_name_or_path",
    "inference_mode",
    "peft_version",
    "revision",
    "auto_mapping",
)
# torch's types by the names that safetensors gives them.
TYPES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8"},
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "uint16": "U16", "uint32": "U32"},
}


def weights_sha256(pretrained: Any, peft: str | None = None, **options: Any) -> str:
    """Return the hash of what an adapter's arguments load, or `unknown: ` and why.

    Args:
        pretrained: A checkpoint folder or a hub id; of a model in memory nothing is known.
        peft: A LoRA folder or a hub id.
        options: The adapter's other arguments.

    Raises:
        ValueError: A file of weights is damaged.
    """
    if not isinstance(pretrained, str | os.PathLike):
        return "unknown: a model in memory"
    if options.get("delta"):
        return "unknown: delta weights"
    hub = {key: options[key] for key in _HUB if options.get(key)}
    if file := options.get("gguf_file"):
        path = _cached(str(pretrained), file, hub)
        base = file_sha256(path) if path else None
    else:
        names = _PICKLED + _WHOLE if options.get("use_safetensors") is False else _WHOLE + _PICKLED
        base = _folder_sha256(str(pretrained), names, options.get("variant"), hub)
    if base is None:
        return "unknown: no files of weights"
    return base if peft is None else _with_adapter(base, peft, hub)


def checkpoint_sha256(folder: Path) -> str:
    """Return the hash of a checkpoint's folder; `unknown: ` and why where it has no weights."""
    return weights_sha256(str(folder))


def _with_adapter(base: str, peft: str, hub: Mapping[str, str]) -> str:
    hub = {key: value for key, value in hub.items() if key != "subfolder"}
    adapter = _folder_sha256(peft, _ADAPTER, None, hub)
    config = _cached(peft, "adapter_config.json", hub)
    if adapter is None or config is None:
        return "unknown: no files of the adapter"
    settings = _table(config)
    kept = {key: value for key, value in settings.items() if key not in _IGNORED_KEYS}
    text = f"base {base}\nadapter {adapter}\n{json.dumps(kept, sort_keys=True)}\n"
    return hashlib.sha256(text.encode()).hexdigest()


def _folder_sha256(
    name: str, names: tuple[str, ...], variant: str | None, hub: Mapping[str, str]
) -> str | None:
    """Return the hash of the first of the files that is there; an index stands for its shards."""
    for file in names:
        path = _cached(name, _of_variant(file, variant), hub)
        if path is None:
            continue
        if path.name.endswith(".index.json"):
            shards = sorted(set(map(str, _table(path, "weight_map").values())))
            files = [_cached(name, shard, hub) for shard in shards]
            return _tensors_sha256([one for one in files if one]) if all(files) else None
        return _tensors_sha256([path])
    return None


def _table(path: Path, *keys: str) -> dict[str, Any]:
    """Return a JSON file's table, or the one below some keys."""
    try:
        table = json.loads(path.read_text(encoding="utf-8-sig"))
        for key in keys:
            table = table[key]
        return dict(table.items())
    except DAMAGED as error:
        raise damaged(path, error) from error


def _of_variant(file: str, variant: str | None) -> str:
    """Return a file's name with a variant, as transformers writes it: model.fp16.safetensors."""
    stem, _, end = file.rpartition(".")
    return f"{stem}.{variant}.{end}" if variant else file


def _cached(name: str, file: str, hub: Mapping[str, str]) -> Path | None:
    """Return where a checkpoint's file lies; of the hub's only what was already loaded is seen."""
    if Path(name).is_dir():
        path = Path(name) / hub.get("subfolder", "") / file
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    place = "/".join(filter(None, (hub.get("subfolder"), file)))
    cached = try_to_load_from_cache(
        name, place, cache_dir=hub.get("cache_dir"), revision=hub.get("revision")
    )
    return Path(cached) if isinstance(cached, str) else None


def _tensors_sha256(files: Sequence[Path]) -> str:
    """Hash the tensors of all files by their names; threads take a tensor each."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        lines = [line for file in files for line in pool.map(_tensor_line, _tensors(file))]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _tensors(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield each tensor's name, type and shape as a text, and its bytes or how to get them."""
    return _safetensors(file) if file.suffix == ".safetensors" else _pickled(file)


def _tensor_line(tensor: tuple[str, Any]) -> str:
    head, content = tensor
    return f"{head}\t{hashlib.sha256(content).hexdigest()}\n"


def _safetensors(file: Path) -> Iterator[tuple[str, memoryview]]:
    tensors = read_header(file)
    with file.open("rb") as stream:
        content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    for name, tensor in tensors.items():
        head = f"{name}\t{tensor.dtype}\t{list(tensor.shape)}"
        yield head, content[tensor.start : tensor.stop]


def _pickled(file: Path) -> Iterator[tuple[str, Any]]:
    import torch

    for name, tensor in load_pickled(file).items():
        kind = str(tensor.dtype).removeprefix("torch.")
        flat = tensor.detach().contiguous().flatten()
        content = flat.view(torch.uint8).numpy() if flat.numel() else b""
        yield f"{name}\t{TYPES.get(kind, kind)}\t{list(tensor.shape)}", content


def load_pickled(file: Path) -> dict[str, Any]:
    """Return the tensors of a file of torch's by name, mapped where its format can be.

    Raises:
        ValueError: The file is damaged.
    """
    import torch

    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        try:
            state = torch.load(file, mmap=True, **options)
        except RuntimeError:  # written before torch 1.6
            state = torch.load(file, **options)
        return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    except (pickle.UnpicklingError, EOFError, RuntimeError, *DAMAGED) as error:
        raise damaged(file, error) from error
