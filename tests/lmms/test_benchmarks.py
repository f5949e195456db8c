"""The twelve benchmarks of LLaVA-1.5 as lmms-eval itself has them: `make test-lmms`."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE, REPOSITORY
from verbalizer_bench.evaluation.lmms_results import LmmsScore, read_scores
from verbalizer_bench.evaluation.recipe import Benchmark, read_evaluation
from verbalizer_bench.results.files import lmms_results_files

pytest.importorskip("lmms_eval", reason="`make test-lmms` runs these")
pytestmark = pytest.mark.lmms
EVALUATION = read_evaluation("evaluation/llava15")
# Others ask a judge about every answer.
RUN = [title for title in EVALUATION.benchmarks if title not in ("LLaVA-Bench", "MM-Vet")]


@pytest.fixture(scope="module")
def registry() -> Any:
    from lmms_eval.tasks import TaskManager

    return TaskManager("ERROR")


def test_the_version() -> None:
    from importlib.metadata import version

    assert version("lmms-eval") == EVALUATION.lmms_eval


@pytest.mark.parametrize("title", EVALUATION.benchmarks)
def test_tasks_metrics_and_prompts_are_there(
    registry: Any, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a task puts round a question is in its YAML; SEED's stands in its code."""
    from lmms_eval.utils import load_yaml_config

    # MM-Vet's code makes a client as soon as it is imported.
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    benchmark: Benchmark = EVALUATION.benchmarks[title]
    for task in benchmark.tasks:
        assert task in registry.all_tasks
        config = load_yaml_config(registry.task_index[task]["yaml_path"], mode="full")
        assert config["task"] == task
        assert benchmark.metric in {entry["metric"] for entry in config["metric_list"]}
        asked = config.get("lmms_eval_specific_kwargs", {}).get("default", {})
        if title != "SEED":
            # MMBench's code adds a line feed of its own.
            assert asked["post_prompt"] == benchmark.suffix
            assert asked["pre_prompt"] == benchmark.asked_before
        settings = config["generation_kwargs"]
        assert (settings.get("max_new_tokens", 0) > 2048) == bool(benchmark.gen_kwargs)


def run(folder: Path, toy: Path, *words: str) -> dict[str, LmmsScore]:
    """Run lmms-eval on made rows, and read what it wrote."""
    command = [sys.executable, "-m", "tests.helpers.lmms_made_rows", "--model", "verbalizer-lvlm"]
    command += ["--model_args", f"pretrained={toy},dtype=float32", "--device", "cpu"]
    environment = os.environ | {"LMMS_EVAL_DATASETS_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [*command, "--log_samples", "--output_path", str(folder), *words],
        env=environment | {"HF_TOKEN": "none"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    files = lmms_results_files(folder)
    assert len(files) == 1, done.stdout + done.stderr
    found, left = read_scores(files[0], EVALUATION)
    assert not left
    return {score.title: score for score in found}


def test_results_are_read(tmp_path: Path, toys: tuple[Path, Path]) -> None:
    """Each score comes out of the samples as lmms-eval made it: `read_scores` refuses others."""
    tasks = ",".join(task for title in RUN for task in EVALUATION.benchmarks[title].tasks)
    found = run(tmp_path, toys[1], "--tasks", tasks, "--scripted")
    assert list(found) == RUN
    for title, score in found.items():
        assert score.value is not None and score.mean, (title, score.remark)
        assert score.mean.value == pytest.approx(score.value), title
        # The made rows have few images, and scripted answers are all wrong in some.
        assert score.remark == "" or score.remark.startswith("no interval of so few"), title
        assert score.given["pretrained"] == str(toys[1])
    assert len({round(score.value or 0, 6) for score in found.values()}) > 5


def test_our_adapter_takes_what_seedbench_asks(tmp_path: Path, toys: tuple[Path, Path]) -> None:
    """`image_aspect_ratio` is no argument of `generate`."""
    found = run(tmp_path, toys[1], "--tasks", "seedbench", "--limit", "2")
    assert found["SEED"].partial and "2 of 12 documents" in found["SEED"].way
