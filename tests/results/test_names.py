import dataclasses
from pathlib import Path

import pytest

from tests.helpers.echo import write_run
from verbalizer_bench.results.run import distinct_names, folder_name, read_run


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


@pytest.mark.parametrize(
    ("folders", "ends"),
    [
        (["out/a", "out/b"], ["a", "b"]),
        (["white/m", "none/m"], ["white", "none"]),
        (["white/out/m", "none/out/m"], ["white/out", "none/out"]),
        (["x/out/m", "y/out/m", "z/m"], ["x/out", "y/out", "z"]),
        (["out/m", "m"], ["out", "."]),
    ],
)
def test_runs_of_one_name_are_told_apart(
    folders: list[str], ends: list[str], tmp_path: Path
) -> None:
    run = read_run(write_run(tmp_path, "foo", ["verbalizer_sst2_neutral_foo_bar"], limit=2))
    other = dataclasses.replace(run, name="bar", file=Path("elsewhere/results.json"))
    runs = [dataclasses.replace(run, file=Path(folder, "results.json")) for folder in folders]
    names = [one.name for one in distinct_names([*runs, other])]
    assert names == [*(f"foo ({end})" for end in ends), "bar"]
