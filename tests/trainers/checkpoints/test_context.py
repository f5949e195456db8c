"""Records that are longer than a model has positions are refused before anything is trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig

from tests.conftest import REPOSITORY
from verbalizer_bench.cli import main
from verbalizer_bench.trainers.checkpoints.context import context, too_long

TINY = REPOSITORY / "recipes" / "tiny"


def rope(kind: str, factor: float, **more: Any) -> dict[str, Any]:
    return {"rope_type": kind, "rope_theta": 1e4, "factor": factor, **more}


@pytest.mark.parametrize(
    ("model_type", "settings", "found"),
    [
        ("llama", {"max_position_embeddings": 4096}, 4096),
        # Vicuna's of 16,384 states what it was before, Qwen2.5's of YaRN either.
        ("llama", {"max_position_embeddings": 4096, "rope_parameters": rope("linear", 4.0)}, 16384),
        (
            "qwen2",
            {
                "max_position_embeddings": 32768,
                "rope_parameters": rope("yarn", 4.0, original_max_position_embeddings=32768),
            },
            131072,
        ),
        (
            "llama",
            {
                "max_position_embeddings": 131072,
                "rope_parameters": rope(
                    "llama3",
                    8.0,
                    low_freq_factor=1.0,
                    high_freq_factor=4.0,
                    original_max_position_embeddings=8192,
                ),
            },
            131072,
        ),
        ("gpt2", {"n_positions": 1024}, 1024),
        ("gemma3_text", {"max_position_embeddings": 32768}, 32768),
        ("bloom", {}, None),
        ("mamba", {}, None),
    ],
)
def test_how_many_positions_a_model_has(
    model_type: str, settings: dict[str, Any], found: int | None
) -> None:
    config = AutoConfig.for_model(model_type, **settings)
    assert context(config) == found
    if found:
        assert too_long(config, np.array([3, found])) is None
        said = too_long(config, np.array([found + 1, 3, found + 9]))
        assert said and said.startswith(f"2 of 3 records have more tokens than the {found:,}")


def test_a_llavas_is_its_language_models() -> None:
    config = AutoConfig.from_pretrained(TINY / "llava")
    assert context(config) == config.text_config.max_position_embeddings


def test_training_does_not_begin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = AutoConfig.from_pretrained(TINY / "llama")
    config.max_position_embeddings = 40
    config.save_pretrained(tmp_path / "short")
    words = [str(TINY / "sft.yaml"), f"model.config={tmp_path / 'short'}"]
    words += [f"tokenizer={TINY / 'llama'}", f"cache={tmp_path}", f"output={tmp_path / 'out'}"]
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err
    assert "data: " in said and "of 64 records have more tokens than the 40 that the model" in said
    assert "give max_length=40, which cuts them off" in said
    assert not (tmp_path / "out").exists()
    assert main(["train", *words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "context     " in said and "(training would stop)" in said
    short = ["max_length=40", "bad_records=skip"]
    assert main(["train", *words, *short, "--dry-run"]) == 0
    assert "context     " not in capsys.readouterr().out
