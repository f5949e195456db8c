from pathlib import Path

import pytest

from verbalizer_bench.results.run import folder_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("checkpoints/merged/0.5", "merged/0.5"),
        ("a/merged/0.3_-0.5", "merged/0.3_-0.5"),
        ("a/merged/1e-05", "merged/1e-05"),
        ("0.5", "0.5"),
        ("a/llava-1.5", "llava-1.5"),
        ("a/7b", "7b"),
    ],
)
def test_a_number_is_called_by_its_parent_too(path: str, name: str) -> None:
    assert folder_name(Path(path)) == name
