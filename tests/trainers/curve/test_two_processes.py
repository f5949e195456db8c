"""Two processes share the documents, and have the points of one."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.trainers.curve.conftest import TINY
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.train import train

pytestmark = pytest.mark.slow


def test_two_processes_have_the_points_of_one(tmp_path: Path) -> None:
    lines = (TINY / "data" / "text.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "data.jsonl").write_text("".join(lines[:24]))
    # Of the records behind the first 24 some are the same.
    (tmp_path / "held_out.jsonl").write_text("".join(lines[25:28] + lines[29:32] + lines[33:34]))
    words = [f"data={tmp_path}/data.jsonl", f"held_out={tmp_path}/held_out.jsonl"]
    words += [f"cache={tmp_path}/cache", "num_train_epochs=1", "global_batch_size=4"]
    words += ["per_device_batch_size=2", "evaluation.steps=2", "evaluation.data=sample"]
    # Odd numbers of documents and of held-out records: one process has one more.
    words += ["evaluation.tasks=[verbalizer_sst2_natural_1_0]", "evaluation.limit=5"]
    words += ["early_stopping.metric=held_out_loss", "early_stopping.min_delta=100"]
    words += ["early_stopping.patience=1"]
    train(read_recipe(TINY / "sft.yaml", [*words, f"output={tmp_path}/one"]))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command = [*launch, "-m", "verbalizer_bench", "train", str(TINY / "sft.yaml")]
    done = subprocess.run(
        [*command, *words, f"output={tmp_path}/two"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    one, two = (table(tmp_path / name) for name in ("one", "two"))
    assert [row["step"] for row in one] == ["0", "2", "4"]
    for row, other in zip(one, two, strict=True):
        for name in ("step", "tokens", "held_out_loss", "f1_natural", "neither"):
            assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-4), name
    files = [tmp_path / name / "curve" / "responses-0000004.jsonl" for name in ("one", "two")]
    assert files[0].read_text() == files[1].read_text()


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "curve.csv").open() as file:
        return list(csv.DictReader(file))
