"""A LLaVA of two towers in lmms-eval: by our adapter, with the responses that it has in lm-eval."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.helpers.mof import SETTINGS, save_mof

pytest.importorskip("lmms_eval", reason="`make test-lmms` runs these")
pytestmark = pytest.mark.lmms

BIN = Path(sys.executable).parent
TASKS = ("verbalizer_sst2_natural_positive_negative", "verbalizer_rte_natural_1_0")


def run(folder: Path, *command: str) -> str:
    cache = {"LMMS_EVAL_DATASETS_CACHE": str(folder / "cache"), "VERBALIZER_BENCH_DATA": "sample"}
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env={**os.environ, **cache},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stdout


def responses(folder: Path) -> dict[tuple[str, int], str]:
    found = {}
    for file in folder.rglob("*samples_*.jsonl"):
        (task,) = (task for task in TASKS if task in file.name)
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            response = row.get("resps", row["filtered_resps"])
            found[task, row["doc_id"]] = response if isinstance(response, str) else response[0][0]
    return found


@pytest.mark.parametrize("mixture", list(SETTINGS))
def test_both_harnesses_get_the_same_responses(
    mixture: str, toys: tuple[Path, Path], tmp_path: Path
) -> None:
    args = f"pretrained={save_mof(tmp_path, toys[0], mixture)},dtype=float32"
    common = ("--model", "verbalizer-lvlm", "--model_args", args, "--tasks", ",".join(TASKS))
    common += ("--limit", "3", "--device", "cpu", "--log_samples", "--output_path")
    include = run(tmp_path, "verbalizer-bench", "tasks", "path", "--for", "lmms").strip()
    run(tmp_path, "lmms-eval", *common, str(tmp_path / "lmms"), "--include_path", include)
    run(
        *(tmp_path, "verbalizer-bench", "run", *common, str(tmp_path / "lm")),
        "--apply_chat_template",
    )
    found = responses(tmp_path / "lmms")
    assert found == responses(tmp_path / "lm")
    assert len(found) == 6 and len(set(found.values())) > 1
