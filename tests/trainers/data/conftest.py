"""An encoder and a folder of two images."""

from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.toy import make_tokenizer
from verbalizer_bench.trainers.conversations.encoder import Encoder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    tokenizer = make_tokenizer(["a"], 4 + 256)
    return Encoder(tokenizer, "llama-2", tokenizer.convert_tokens_to_ids("<image>"), 16, 256)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder
