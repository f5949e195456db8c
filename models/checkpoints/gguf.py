"""A checkpoint in one GGUF file: what transformers needs to read it, and what it passes over."""

import importlib.util
import json
import logging
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from verbalizer_bench.models.checkpoints.strict_loading import raise_for_weights, reading

log = logging.getLogger(__name__)
_HUB = ("revision", "subfolder", "cache_dir")
# Factors of the rotations (Llama 3.1's, Phi-3's): transformers reads neither, nor settings for it.
_ROTATIONS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
# Byte-level pre-tokenizers that split as GPT-2's, which transformers takes where it knows none.
# SmolLM's splits digits, of which its merges join none.
_AS_GPT2 = ("gpt-2", "smollm")
_FIX = "give the checkpoint that it was made from"


def name_gguf(pretrained: str) -> None:
    """Raise ValueError where `pretrained` is a GGUF, or a folder that has nothing else."""
    place = Path(pretrained)
    if place.suffix == ".gguf" and place.is_file():
        raise ValueError(
            f"model_args pretrained={pretrained}: is a GGUF; give "
            f"pretrained={place.parent},gguf_file={place.name}"
        )
    files = sorted(file.name for file in place.glob("*.gguf")) if place.is_dir() else []
    if files and not (place / "config.json").is_file():
        raise ValueError(
            f"model_args pretrained={pretrained}: holds GGUFs; give gguf_file={files[0]}"
            + (f" or another of its {len(files)}" if files[1:] else "")
        )


def check_gguf(pretrained: str, gguf_file: str, options: Mapping[str, Any]) -> None:
    """Refuse a GGUF that would be another model in transformers; warn of what it leaves out.

    Args:
        pretrained: A folder or a hub id.
        gguf_file: The file's name in it.
        options: The adapter's arguments, of which those of the hub count.

    Raises:
        ValueError: The package that reads it is missing, the file cannot be read, or holds factors
            of the rotations.
    """
    what = f"model_args pretrained={pretrained},gguf_file={gguf_file}"
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"{what}: reading it needs the package gguf; pip install gguf")
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    from transformers.integrations.gguf.reader import read_gguf_metadata

    folder = Path(pretrained, options.get("subfolder") or "")
    if folder.is_dir() and not (folder / gguf_file).is_file():
        names = ", ".join(sorted(file.name for file in folder.glob("*.gguf"))) or "none"
        raise ValueError(f"{what}: no such file; the GGUFs in {folder}: {names}")
    with reading(what, "give the name of a .gguf file in it"):
        path = gguf_path(pretrained, gguf_file, options)
        try:
            fields, tensors = read_gguf_metadata(str(path))
        except struct.error as error:
            raise ValueError(f"{path} ends too early: {error}") from error
    rotations = {name for name in tensors if name in _ROTATIONS}
    raise_for_weights(what, {"tensors that transformers passes over, such as": rotations}, _FIX)
    splits = fields.get("tokenizer.ggml.pre")
    known = {*GGUF_PRE_TOKENIZER_SPLITS, *_AS_GPT2}
    if fields.get("tokenizer.ggml.model") == "gpt2" and splits not in known:
        log.warning(
            "%s: transformers does not know its pre-tokenizer %s and splits texts as GPT-2 does; "
            "give tokenizer=DIR of the checkpoint that it was made from",
            *(what, splits),
        )
    if Path(pretrained, options.get("subfolder") or "", "generation_config.json").is_file():
        log.warning("%s: the generation_config.json beside it is not read: EOS is the GGUF's", what)


def gguf_path(pretrained: str, gguf_file: str, options: Mapping[str, Any]) -> Path:
    """Return where a GGUF lies.

    Raises:
        OSError: It is not there.
    """
    from transformers.utils import cached_file

    hub = {key: options[key] for key in _HUB if options.get(key)}
    return Path(str(cached_file(pretrained, gguf_file, **hub)))


def take_out_invented_tokens(tokenizer: Any, path: Path) -> None:
    """Take out tokens that a GGUF has not, and for which there are no embeddings.

    Every byte-level tokenizer gets GPT-2's `<|endoftext|>` from transformers.
    """
    from transformers.integrations.gguf.reader import read_gguf_metadata

    count = read_gguf_metadata(str(path))[0]["tokenizer.ggml.tokens"]
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules["added_tokens"] = [token for token in rules["added_tokens"] if token["id"] < count]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(rules))


def check_all_read(model: Any, path: Path, what: str) -> None:
    """Raise ValueError where a GGUF holds more than the model that transformers made of it.

    transformers passes over tensors that its table of names lacks (biases, say) and does not say
    so. All that it reads, permuted or put together, has as many numbers in the model.
    """
    import gguf

    if getattr(model.hf_quantizer, "packed_modules", None):
        # Blocks of bytes: their number says nothing.
        return
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
    stored = {
        tensor.name: int(tensor.n_elements)
        for tensor in gguf.GGUFReader(path).tensors
        # Layers that guess several tokens ahead stand behind the others.
        if not ((block := re.match(r"blk\.(\d+)\.", tensor.name)) and int(block[1]) >= layers)
    }
    surplus = sum(stored.values()) - sum(weight.numel() for weight in model.parameters())
    if surplus and surplus != _second_head(model, stored):
        raise ValueError(
            f"{what}: holds {surplus:,} numbers in its tensors that are none of "
            f"{type(model).__name__}'s as transformers reads it; {_FIX}"
        )


def _second_head(model: Any, stored: Mapping[str, int]) -> int:
    """Return the size of a head that is stored beside the embeddings that it is tied to."""
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    return stored.get("output.weight", 0) if tied else 0
