"""The YAMLs for lmms-eval say what those for lm-eval say; lmms-eval is not needed here."""

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from datasets import load_dataset
from lm_eval.tasks import TaskManager
from PIL import Image

from verbalizer_bench.cli import main
from verbalizer_bench.lmms.generate import LMMS_FOLDER, lmms_files
from verbalizer_bench.lmms.task import doc_to_visual, process_docs, process_results
from verbalizer_bench.models.images import is_task_image, make_image
from verbalizer_bench.tasks.metrics import METRICS
from verbalizer_bench.tasks.spec import DATASETS, LABEL_TYPES, TASKS_FOLDER, read_spec_file
from verbalizer_bench.tasks.suite import suite

LEAVES = sorted(LMMS_FOLDER.glob("*/verbalizer_*.yaml"))


def test_the_committed_files_are_what_is_written() -> None:
    contents = {file: file.read_text(encoding="utf-8") for file in LMMS_FOLDER.rglob("*.yaml")}
    assert contents == lmms_files()


def test_lm_eval_does_not_index_them() -> None:
    assert not LMMS_FOLDER.is_relative_to(TASKS_FOLDER)
    assert not TASKS_FOLDER.is_relative_to(LMMS_FOLDER)


def test_names_tags_and_label_words() -> None:
    tags = {f"verbalizer_{name}": 0 for name in (*DATASETS, *LABEL_TYPES)}
    for file in LEAVES:
        leaf = yaml.safe_load(file.read_text(encoding="utf-8"))
        theirs = read_spec_file(TASKS_FOLDER / file.relative_to(LMMS_FOLDER))
        assert leaf["task"] == leaf["dataset_name"] == theirs["task"] == file.stem
        assert leaf["tag"] == theirs["tag"]
        assert leaf["metadata"]["verbalizer"] == theirs["verbalizer"]
        assert (file.parent / leaf["include"]).is_file()
        for tag in leaf["tag"]:
            tags[tag] += 1
    assert [file.stem for file in LEAVES] == sorted(suite())
    assert set(tags.values()) == {12, 27, 54}
    group = yaml.safe_load((LMMS_FOLDER / "verbalizer.yaml").read_text(encoding="utf-8"))
    assert group["group"] == "verbalizer"
    assert [part["group"] for part in group["task"]] == [f"verbalizer::{t}" for t in LABEL_TYPES]
    assert [part["task"] for part in group["task"]] == [[f"verbalizer_{t}"] for t in LABEL_TYPES]


def test_what_the_tasks_share() -> None:
    shared = read_spec_file(LMMS_FOLDER / "_verbalizer_protocol.yaml")
    assert shared["generation_kwargs"] == {
        **{"num_beams": 10, "max_new_tokens": 15, "temperature": 0, "do_sample": False},
        "until": [],
    }
    assert shared["num_fewshot"] == 0
    assert tuple(entry["metric"] for entry in shared["metric_list"]) == METRICS
    for key in ("process_docs", "doc_to_visual", "process_results"):
        module, _, name = shared[key].rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


def test_prompts_targets_and_scores_are_those_of_lm_evals_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VERBALIZER_BENCH_DATA", "sample")
    manager = TaskManager(
        include_path=str(TASKS_FOLDER), include_defaults=False, metadata={"data": "sample"}
    )
    tasks = manager.load(["verbalizer"])["tasks"]
    assert set(tasks) == set(suite())
    for name, task in tasks.items():
        docs = process_docs(SimpleNamespace(config_name=name))
        assert list(docs["prompt"]) == [task.doc_to_text(doc) for doc in task.eval_docs]
        assert list(docs["target"]) == [task.doc_to_target(doc) for doc in task.eval_docs]
        first, second = task.verbalizer.first, task.verbalizer.second
        for response in (first, second, f"the answer is {first}", "neither of them", ""):
            ours = [process_results(doc, [response]) for doc in docs]
            assert ours == [task.process_results(doc, [response]) for doc in task.eval_docs]


def test_the_placeholder_carries_the_tasks_name(tmp_path: Any) -> None:
    name = "verbalizer_rte_natural_entailment_not_entailment"
    files = {"test": str(LMMS_FOLDER / "placeholder.jsonl")}
    loaded = load_dataset("json", name, data_files=files, cache_dir=str(tmp_path))["test"]
    assert (len(loaded), loaded.config_name) == (1, name)


def test_missing_rows_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERBALIZER_BENCH_DATA", "/nowhere")
    with pytest.raises(FileNotFoundError, match="/nowhere: no such folder; give hub, sample"):
        process_docs(SimpleNamespace(config_name=next(iter(suite()))))


def test_the_image_is_white_and_known_again() -> None:
    (image,) = doc_to_visual({})
    white = make_image("white", (336, 336))
    assert white is not None
    assert (image.mode, image.size, image.tobytes()) == ("RGB", (336, 336), white.tobytes())
    assert is_task_image(image) and is_task_image(image.copy())
    assert not is_task_image(white) and not is_task_image(Image.new("RGB", (336, 336)))


def test_the_command_line_says_where_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    for harness, folder in (("lmms", LMMS_FOLDER), ("lm-eval", TASKS_FOLDER)):
        assert main(["tasks", "path", "--for", harness]) == 0
        assert capsys.readouterr().out.strip() == str(folder)
