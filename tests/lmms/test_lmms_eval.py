"""lmms-eval itself, on the toy LLaVA: `make test-lmms` makes the environment that it needs."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from PIL import Image

from tests.conftest import PATIENCE
from verbalizer_bench.lmms.generate import LMMS_FOLDER
from verbalizer_bench.lmms.pictures import FOLDERS
from verbalizer_bench.models.images import make_image, task_image
from verbalizer_bench.tasks.data import test_documents as documents_of
from verbalizer_bench.tasks.metrics import METRICS
from verbalizer_bench.tasks.spec import DATASETS, LABEL_TYPES, task_name
from verbalizer_bench.tasks.suite import suite, suite_datasets

pytest.importorskip("lmms_eval", reason="`make test-lmms` runs these")
pytestmark = pytest.mark.lmms

BIN = Path(sys.executable).parent
TYPES = [f"verbalizer::{label_type}" for label_type in LABEL_TYPES]


class Evaluated(NamedTuple):
    """Results of a run as they are, and by (task, document) response and sample."""

    results: dict[str, Any]
    responses: dict[tuple[str, int], str]
    samples: dict[tuple[str, int], dict[str, Any]]


def run(folder: Path, *command: str, data: str = "sample") -> subprocess.CompletedProcess[str]:
    cache = {"LMMS_EVAL_DATASETS_CACHE": str(folder / "cache"), "VERBALIZER_BENCH_DATA": data}
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env={**os.environ, **cache},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )


def read(folder: Path, results: str, date: Callable[[str], str]) -> Evaluated:
    (file,) = folder.rglob(results)
    responses, samples = {}, {}
    for task in suite():
        for line in (file.parent / date(task)).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            key = task, row["doc_id"]
            # lmms-eval writes a response once where stripping it changes nothing.
            response = row.get("resps", row["filtered_resps"])
            responses[key] = response if isinstance(response, str) else response[0][0]
            samples[key] = row
    return Evaluated(json.loads(file.read_text(encoding="utf-8")), responses, samples)


def lmms_eval(folder: Path, model: str, model_args: str, *options: str) -> Evaluated:
    """Run the suite, one document a task, and read what was written."""
    include = run(folder, "verbalizer-bench", "tasks", "path", "--for", "lmms").stdout.strip()
    done = run(
        *(folder, "lmms-eval", "--model", model, "--model_args", model_args, "--limit", "1"),
        *("--include_path", include, "--tasks", "verbalizer", "--device", "cpu"),
        *("--output_path", str(folder), "--log_samples", *options),
    )
    assert "Error" not in done.stdout + done.stderr, done.stdout + done.stderr
    (file,) = folder.rglob("*_results.json")
    date = file.name.removesuffix("_results.json")
    return read(folder, file.name, lambda task: f"{date}_samples_{task}.jsonl")


@pytest.fixture(scope="module")
def ours(toys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("ours")
    args = f"pretrained={toys[1]},dtype=float32"
    return lmms_eval(folder, "verbalizer-lvlm", args, "--batch_size", "8")


@pytest.fixture(scope="module")
def theirs(toys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    # Without a device_map llava_hf gives transformers 5 an empty one, which is an error.
    args = f"pretrained={toys[1]},dtype=float32,device_map=cpu"
    return lmms_eval(tmp_path_factory.mktemp("theirs"), "llava_hf", args)


@pytest.fixture(scope="module")
def in_lm_eval(toys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("in_lm_eval")
    run(
        *(folder, "verbalizer-bench", "run", "--model", "verbalizer-lvlm", "--limit", "1"),
        *("--model_args", f"pretrained={toys[1]},dtype=float32", "--tasks", "verbalizer"),
        *("--device", "cpu", "--apply_chat_template", "--output_path", str(folder)),
    )
    (file,) = folder.rglob("results_*.json")
    date = file.stem.removeprefix("results_")
    return read(folder, file.name, lambda task: f"samples_{task}_{date}.jsonl")


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_results_exist(name: str, request: pytest.FixtureRequest) -> None:
    evaluated: Evaluated = request.getfixturevalue(name)
    for task in suite():
        scores = evaluated.results["results"][task]
        assert all(math.isfinite(scores[f"{metric},none"]) for metric in METRICS)
        assert evaluated.samples[task, 0]["f1"] == scores["f1,none"]
        assert evaluated.results["configs"][task]["generation_kwargs"]["num_beams"] == 10
    assert set(evaluated.results["groups"]) == {"verbalizer", *TYPES}
    assert evaluated.results["group_subtasks"]["verbalizer"] == TYPES
    assert {len(evaluated.results["group_subtasks"][name]) for name in TYPES} == {27, 54}


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_prompts_and_targets_are_ours(name: str, request: pytest.FixtureRequest) -> None:
    evaluated: Evaluated = request.getfixturevalue(name)
    for spec, verbalizers in suite_datasets().values():
        doc = documents_of(spec, "sample").docs[0]
        for verbalizer in verbalizers:
            sample = evaluated.samples[task_name(spec.name, verbalizer), 0]
            assert sample["input"] == spec.render(doc, verbalizer)
            assert sample["target"] == spec.target(doc, verbalizer)


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_responses_are_those_of_our_adapter_in_lm_eval(
    name: str, in_lm_eval: Evaluated, request: pytest.FixtureRequest
) -> None:
    evaluated: Evaluated = request.getfixturevalue(name)
    assert len(set(evaluated.responses.values())) > 90
    assert evaluated.responses == in_lm_eval.responses
    for key, sample in evaluated.samples.items():
        scores = [in_lm_eval.samples[key][metric] for metric in METRICS]
        assert [sample[metric] for metric in METRICS] == scores


def test_the_index_has_the_tasks_and_tags() -> None:
    from lmms_eval.tasks import TaskManager

    index = TaskManager(include_path=str(LMMS_FOLDER), include_defaults=False)
    pictures = {file.stem for name in FOLDERS for file in (LMMS_FOLDER / name).glob("*.yaml")}
    assert len(pictures) == 8 and set(index.all_subtasks) == {*suite(), *pictures}
    assert index.all_tags == sorted(f"verbalizer_{name}" for name in (*DATASETS, *LABEL_TYPES))
    assert index.all_groups == ["verbalizer"]


def test_a_glob_asks_every_task_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmms_eval.tasks import TaskManager, get_task_dict

    monkeypatch.setenv("VERBALIZER_BENCH_DATA", "sample")
    monkeypatch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path))
    index = TaskManager(include_path=str(LMMS_FOLDER), include_defaults=False)
    names = index.match_tasks(["verbalizer_sst2*"])
    assert len(get_task_dict(names, index)) == 12


def test_real_data_make_the_89160_prompts(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmms_eval.evaluator_utils import get_task_list
    from lmms_eval.tasks import TaskManager, get_task_dict

    monkeypatch.setenv("VERBALIZER_BENCH_DATA", str(real_data))
    monkeypatch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path))
    manager = TaskManager(include_path=str(LMMS_FOLDER), include_defaults=False)
    outputs = get_task_list(get_task_dict(["verbalizer"], manager, "chat"))
    assert sum(len(output.task.eval_docs) for output in outputs) == 89_160


def test_missing_rows_are_said(toys: tuple[Path, Path], tmp_path: Path) -> None:
    done = run(
        *(tmp_path, "lmms-eval", "--model", "verbalizer-lvlm", "--device", "cpu"),
        *("--model_args", f"pretrained={toys[1]}", "--tasks", "verbalizer_sst2"),
        *("--include_path", str(LMMS_FOLDER)),
        data="/nowhere",
    )
    assert "/nowhere: no such folder; give hub, sample or a folder" in done.stdout + done.stderr


def adapter(folder: Path, **kwargs: Any) -> Any:
    from verbalizer_bench.lmms.adapter import LmmsVerbalizerLVLM

    return LmmsVerbalizerLVLM(str(folder), dtype="float32", device="cpu", **kwargs)


def ask(lm: Any, text: str, *visuals: Any) -> str:
    """Return the response to one message with these visuals in front."""
    kinds = ["image" if isinstance(visual, Image.Image) else "video" for visual in visuals]
    content = [{"type": t, "url": v} for t, v in zip(kinds, visuals, strict=True)]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
    settings = {"num_beams": 10, "max_new_tokens": 15, "temperature": 0, "until": []}
    lm.task_dict = {"task": {"test": [{}]}}
    args = (text, lambda doc: messages, settings, 0, "task", "test")
    (response,) = lm.generate_until([SimpleNamespace(args=args)])
    return str(response)


def alone(lm: Any, text: str, image: Image.Image | None) -> str:
    """Return what plain `generate` makes of a text in the model's own words."""
    inputs = (
        lm.lvlm.tokenizer(text, return_tensors="pt")
        if image is None
        else lm.lvlm.processor(text=text, images=[image], return_tensors="pt")
    )
    output = lm.lvlm.model.generate(
        **inputs, num_beams=10, do_sample=False, max_new_tokens=15, pad_token_id=0
    )
    tokens = output[0, inputs["input_ids"].shape[1] :]
    return str(lm.lvlm.tokenizer.decode(tokens, skip_special_tokens=True))


def test_the_adapters_image_replaces_the_suites_blank_one(toys: tuple[Path, Path]) -> None:
    expected_texts = set()
    for mode in ("white", "noise", "none"):
        lm = adapter(toys[1], image=mode)
        image = make_image(mode, (32, 32))
        slot = "" if image is None else "<image>\n"
        expected = alone(lm, f"USER: {slot}Once upon a time ASSISTANT:", image)
        assert ask(lm, "Once upon a time", task_image()) == expected
        assert ask(lm, "Once upon a time") == expected
        expected_texts.add(expected)
    assert len(expected_texts) == 3


def test_a_tasks_own_image_is_shown_and_literal_tokens_are_text(toys: tuple[Path, Path]) -> None:
    lm = adapter(toys[1])
    image = make_image("noise", (48, 40))
    assert image is not None
    expected = alone(lm, "USER: <image>\nWhat is < image>? ASSISTANT:", image)
    assert ask(lm, "What is <image>?", image) == expected
    assert expected != ask(lm, "What is <image>?", make_image("black", (48, 40)))


def test_without_a_chat_template(toys: tuple[Path, Path]) -> None:
    lm = adapter(toys[1])
    # The tokenizer's is used where the processor has none.
    lm.lvlm.processor.chat_template = lm.lvlm.tokenizer.chat_template = None
    white, noise = (make_image(mode, (32, 32)) for mode in ("white", "noise"))
    assert ask(lm, "Once", task_image()) == alone(lm, "<image>\nOnce", white)
    assert ask(lm, "Once", noise) == alone(lm, "<image>\nOnce", noise)


def test_other_media_are_refused(toys: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="task: a message has video content"):
        ask(adapter(toys[1]), "Once", "film.mp4")


def test_clean_frees_the_checkpoint(toys: tuple[Path, Path]) -> None:
    lm = adapter(toys[1])
    lm.clean()
    assert not hasattr(lm, "lvlm")
