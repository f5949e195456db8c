"""Benchmarks with images of their own in lmms-eval's dialect are those of lm-eval."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from tests.conftest import PATIENCE
from tests.helpers.asking_lvlm import alone, load
from verbalizer_bench.lmms.generate import LMMS_FOLDER
from verbalizer_bench.lmms.pictures import (
    FOLDERS,
    RENAMED,
    doc_to_visual,
    process_docs,
    process_results,
)
from verbalizer_bench.models.images import is_task_image
from verbalizer_bench.results.picture_runs import picture_runs
from verbalizer_bench.tasks.picture_benchmarks import SAMPLE_KEY
from verbalizer_bench.tasks.spec import TASKS_FOLDER, read_spec_file


def names() -> dict[str, str]:
    """Return the tasks' names in lm-eval, by those in lmms-eval."""
    found = {}
    for folder in FOLDERS:
        for file in (TASKS_FOLDER / folder).glob(f"{folder}*.yaml"):
            found[RENAMED.get(file.stem, file.stem)] = file.stem
    return found


def test_files_and_functions() -> None:
    for folder in FOLDERS:
        files = {file.stem for file in (LMMS_FOLDER / folder).glob("*.yaml")}
        assert files == {lmms for lmms, ours in names().items() if ours.startswith(folder)}
        shared = read_spec_file(LMMS_FOLDER / f"_verbalizer_{folder}.yaml")
        ours = read_spec_file(TASKS_FOLDER / folder / "protocol.yaml")
        assert shared["metric_list"] == ours["metric_list"]
        assert shared["process_docs"] == "verbalizer_bench.lmms.pictures.process_docs"


def test_documents_images_and_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERBALIZER_BENCH_DATA", "sample")
    manager = TaskManager(
        include_path=str(TASKS_FOLDER), include_defaults=False, metadata={"data": "sample"}
    )
    tasks = manager.load(list(names().values()))["tasks"]
    for lmms, ours in names().items():
        task, docs = tasks[ours], process_docs(SimpleNamespace(config_name=lmms))
        assert list(docs["prompt"]) == [
            task.doc_to_text(doc).removeprefix("<image>") for doc in task.eval_docs
        ]
        assert list(docs["target"]) == [task.doc_to_target(doc) for doc in task.eval_docs]
        for doc, own in zip(docs, task.eval_docs, strict=True):
            (image,) = doc_to_visual(doc)
            if ours.endswith("_blind"):
                assert is_task_image(image)
            else:
                assert image.tobytes() == task.doc_to_image(own)[0].tobytes()
            for said in ("(a)", "Yes", doc["a"], ""):
                scored = process_results(doc, [said])
                record = scored.pop(SAMPLE_KEY)
                assert scored == task.process_results(own, [said])
                assert record["doc"] == own
                assert record["identity"] == task.config.metadata["identity"]


@pytest.mark.lmms
@pytest.mark.skipif(not find_spec("lmms_eval"), reason="`make test-lmms` runs these")
@pytest.mark.parametrize("task", ["mmvp_letters", "naturalbench_rule"])
def test_lmms_eval_runs_it(
    tmp_path: Path, toys: tuple[Path, Path], task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our adapter is shown each document's own image; scores are over pairs and groups."""
    monkeypatch.setenv("VERBALIZER_BENCH_DATA", "sample")
    monkeypatch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path / "cache"))
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "lmms-eval"), "--include_path", str(LMMS_FOLDER)),
            *("--tasks", task, "--limit", "4", "--model", "verbalizer-lvlm", "--device", "cpu"),
            *("--model_args", f"pretrained={toys[1]},dtype=float32,engine=generate"),
            *("--gen_kwargs", "max_new_tokens=4", "--log_samples", "--output_path", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    results = [file for file in tmp_path.rglob("*results.json")]
    assert results, done.stdout + done.stderr
    scores: dict[str, Any] = json.loads(results[0].read_text())["results"][task]
    wanted = "pair_accuracy,none" if task.startswith("mmvp") else "group_accuracy,none"
    assert scores[wanted] == 0 and scores["unparsed,none"] == 1
    (file,) = tmp_path.rglob("*samples*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    ((scores,),) = picture_runs(tmp_path)
    assert scores.task == task and scores.run.file == results[0] and scores.asked.source == "sample"
    assert scores.means[scores.benchmark.columns[0]].mean == 0
    assert [doc["image"] for unit in scores.samples for doc, _ in unit] == [
        row["input_media"][0] for row in rows
    ]
    lm = load(toys[1])
    docs = process_docs(SimpleNamespace(config_name=task))
    for row in rows:
        doc = docs[row["doc_id"]]
        asked = lm.apply_chat_template([{"role": "user", "content": f"<image>{doc['prompt']}"}])
        said = row.get("resps", row["filtered_resps"])
        said = said if isinstance(said, str) else said[0]
        said = said if isinstance(said, str) else said[0]
        expected = alone(lm, str(asked), doc_to_visual(doc)[0], 1, 4)
        assert said.strip() == expected.strip()
