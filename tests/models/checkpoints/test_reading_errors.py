import re
from pathlib import Path

import pytest
from transformers import AutoConfig

from verbalizer_bench.models.checkpoints.strict_loading import reading

OFFLINE = "We couldn't connect to 'https://huggingface.co' to load the files"
SNAPSHOT = "Cannot find an appropriate cached snapshot folder for the specified revision"


@pytest.mark.parametrize("text", [OFFLINE, SNAPSHOT])
@pytest.mark.parametrize("what", ["--base {}", "model_args pretrained={}: its config.json"])
def test_a_mistyped_folder_is_said_first(text: str, what: str) -> None:
    what = what.format("checkpoints/nowhere")
    with pytest.raises(ValueError, match="no such folder here") as caught, reading(what):
        raise OSError(text)
    assert str(caught.value).startswith(
        f"{what}: cannot be read: no such folder here, and the hub was asked"
    )
    assert "cannot be reached" in str(caught.value)


def test_a_folder_that_is_there_keeps_its_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: We couldn't"), reading(f"llm={tmp_path}"):
        raise OSError(OFFLINE)


def test_a_folder_without_a_configuration_says_so(tmp_path: Path) -> None:
    what = f"model_args pretrained={tmp_path}: its config.json"
    said = f"{what}: cannot be read: the folder has no config.json; "
    with pytest.raises(ValueError, match=re.escape(said)), reading(what):
        AutoConfig.from_pretrained(tmp_path)
