"""The weights of a checkpoint as they are stored, read a piece at a time without a model."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from verbalizer_bench.models.checkpoints.safetensors_files import (
    DAMAGED,
    StoredTensor,
    damaged,
    read_header,
)
from verbalizer_bench.models.checkpoints.strict_loading import reading
from verbalizer_bench.models.checkpoints.weight_hash import TYPES, load_pickled

# Types that can be calculated with; others are those of quantised weights and of tables.
FLOATING = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
# Values that are read at once.
_PIECE = 1 << 22
_WHOLE = "model.safetensors"
_PICKLED = "pytorch_model.bin"


class Weight(NamedTuple):
    """A tensor of a checkpoint.

    Attributes:
        dtype: Its type by the name that safetensors gives it: `BF16`.
        shape: Its shape.
        source: Where it lies, or, of a pickled file, the tensor itself, which is mapped.
    """

    dtype: str
    shape: tuple[int, ...]
    source: Any

    def values(self, start: int, stop: int) -> torch.Tensor:
        """Return values `start` to `stop` of the flattened tensor, in its own floating type."""
        if not isinstance(self.source, StoredTensor):
            flat: torch.Tensor = self.source.detach().reshape(-1)[start:stop]
            return flat
        dtype = FLOATING[self.dtype]
        content = read_bytes(self.source, start * dtype.itemsize, stop * dtype.itemsize)
        return torch.frombuffer(content, dtype=dtype)


def read_bytes(tensor: StoredTensor, start: int, stop: int) -> bytearray:
    """Return bytes `start` to `stop` of a tensor.

    Raises:
        ValueError: The file has become shorter.
    """
    content = bytearray(stop - start)
    with tensor.file.open("rb") as stream:
        stream.seek(tensor.start + start)
        if stream.readinto(content) < len(content):
            raise damaged(tensor.file, ValueError("it ends early"))
    return content


def pieces(size: int, width: int = 1) -> Iterator[tuple[int, int]]:
    """Yield ranges that make up `size` values, each of whole rows of `width` values."""
    step = max(1, _PIECE // width) * width
    for start in range(0, size, step):
        yield start, min(start + step, size)


class StoredWeights(NamedTuple):
    """The weights of a checkpoint.

    Attributes:
        what: The argument that named it, with its value.
        folder: Its folder.
        files: The files of weights, in the order of their names.
        tensors: The weights by their names in the files.
    """

    what: str
    folder: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, Weight]


def stored_weights(name: str, role: str) -> StoredWeights:
    """Find the weights of a checkpoint; reads nothing but headers.

    Args:
        name: A folder or a hub id.
        role: The argument that names it: `--base`.

    Raises:
        ValueError: It is an adapter, or holds no weights that can be read.
    """
    what = f"{role} {name}"
    folder = Path(name) if Path(name).is_dir() else _download(name, what)
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{what}: is an adapter (LoRA); give the checkpoint with it merged in, which "
            "`verbalizer-bench train` writes beside adapter/, and PEFT's merge_and_unload gives"
        )
    for file in (_WHOLE, _PICKLED):
        index = folder / f"{file}.index.json"
        if (folder / file).is_file():
            return _of_files(what, folder, (folder / file,))
        if index.is_file():
            return _of_files(what, folder, _shards(index))
    raise ValueError(f"{what}: holds no {_WHOLE} and no {_PICKLED}; give a checkpoint's folder")


def _of_files(what: str, folder: Path, files: tuple[Path, ...]) -> StoredWeights:
    tensors: dict[str, Weight] = {}
    for file in files:
        for name, tensor in _weights(file).items():
            if name in tensors:
                raise ValueError(f"{what}: {name} is in two of its files; save it again")
            tensors[name] = tensor
    return StoredWeights(what, folder, files, tensors)


def _weights(file: Path) -> dict[str, Weight]:
    if file.suffix == ".safetensors":
        return {name: Weight(t.dtype, t.shape, t) for name, t in read_header(file).items()}
    return {
        name: Weight(TYPES.get(kind := str(t.dtype).removeprefix("torch."), kind), (*t.shape,), t)
        for name, t in load_pickled(file).items()
    }


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8-sig"))["weight_map"].values()))
    except DAMAGED as error:
        raise damaged(index, error) from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing or not names:
        raise ValueError(
            f"{index}: {len(missing)} of its {len(names)} files are not there, such as "
            f"{missing[0] if missing else 'any'}; copy the whole checkpoint"
        )
    return tuple(index.parent / name for name in names)


def _download(name: str, what: str) -> Path:
    """Return the folder of a checkpoint of the hub, pickled weights only where it has no others."""
    from huggingface_hub import snapshot_download

    files = ["*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.py", "*.safetensors"]
    with reading(what, "give a folder, or a hub id"):
        folder = Path(snapshot_download(name, allow_patterns=files))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*files, "pytorch_model*.bin"]))
    return folder
