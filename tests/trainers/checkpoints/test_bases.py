"""Training starts from what is in the base's folder, or not at all: one line, nothing written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.helpers.checkpoints import clone, renamed, rewrite, without
from verbalizer_bench.cli import main

REPOSITORY = Path(__file__).parents[3]


def cut(name: str) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return change


def grown(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<step>"], special_tokens=True)
    tokenizer.save_pretrained(folder)


def configured(**settings: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))

    return change


FAULTS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda f: rewrite(f, renamed("model.", "_orig_mod.model.")), "names begin with _orig_mod."),
    (lambda f: rewrite(f, without("layers.1.")), "base: 9 weights of LlamaForCausalLM are not in"),
    (configured(intermediate_size=100), "base: 6 weights have another shape than Llama"),
    (configured(num_attention_heads="4"), "base: cannot be read: Validation error for field"),
    (configured(quantization_config={"quant_method": "awq"}), "base: its weights are quantised"),
    (cut("model.safetensors"), "base: cannot be read: "),
    (cut("tokenizer.json"), "base: its tokenizer: cannot be read: "),
    (grown, "base: 1 tokens of its tokenizer have no row in the 1024 of the embeddings"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_a_base_that_is_not_whole(
    toys: tuple[Path, Path],
    tmp_path: Path,
    change: Callable[[Path], Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = clone(toys[0], tmp_path / "base")
    change(base)
    data = REPOSITORY / "recipes" / "tiny" / "data" / "text.jsonl"
    words = [f"model.path={base}", f"data={data}", f"output={tmp_path / 'out'}"]
    assert main(["train", "miniature/llm_foit", *words, f"cache={tmp_path / 'cache'}"]) == 2
    (line,) = [row for row in capsys.readouterr().err.splitlines() if "error:" in row]
    assert message in line and "traceback" not in line
    assert not (tmp_path / "out").exists()
