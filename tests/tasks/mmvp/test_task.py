"""MMVP's tasks in lm-eval: prompts, images, scores, controls."""

from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from tests.helpers.mmvp import SHARED, rows, table, write_folder
from verbalizer_bench.io.images import read_image
from verbalizer_bench.tasks.mmvp import sample
from verbalizer_bench.tasks.mmvp.questions import IMAGES
from verbalizer_bench.tasks.mmvp.scoring import METRICS, pair_share, scores
from verbalizer_bench.tasks.picture_data import _downloaded
from verbalizer_bench.tasks.spec import TASKS_FOLDER

NAMES = ["mmvp_options", "mmvp_letters"]
CONTROLS = [f"{name}_{control}" for name in NAMES for control in ("swapped", "blind")]


def load(names: list[str], data: str | Path = "sample", **metadata: Any) -> dict[str, Any]:
    given = {"data": str(data), **metadata}
    manager = TaskManager(include_path=str(TASKS_FOLDER), include_defaults=False, metadata=given)
    return dict(manager.load(names)["tasks"])


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return all tasks with the release's questions, and made images."""
    if not SHARED.is_dir():
        pytest.skip("MMVP's questions are not here")
    content = (SHARED / "Questions_with_category.csv").read_bytes()
    folder = write_folder(tmp_path_factory.mktemp("data") / "mmvp", content, 300, ".png")
    return load(NAMES + CONTROLS, folder.parent)


def run_of(task: Any, responses: list[str]) -> dict[str, float]:
    """Return a task's scores of responses to its questions in order."""
    made = [
        task.process_results(doc, [response])
        for doc, response in zip(task.eval_docs, responses, strict=True)
    ]
    return {name: task.aggregation()[name]([one[name] for one in made]) for name in METRICS}


def test_tags() -> None:
    assert set(load(["mmvp"])) == set(NAMES)
    assert set(load(["mmvp_swapped", "mmvp_blind"])) == set(CONTROLS)


def test_both_prompts_of_the_release(release: dict[str, Any]) -> None:
    options, letters = (release[name] for name in NAMES)
    assert len(options.eval_docs) == len(letters.eval_docs) == 300
    doc = options.eval_docs[8]
    question = 'Can you see the key "Z" in the image?'
    assert options.doc_to_text(doc) == f"<image>{question} (a) Yes (b) No"
    assert letters.doc_to_text(doc) == (
        f"<image>{question}\nA. Yes\nB. No\n"
        "Answer with the option's letter from the given choices directly."
    )
    for task in (options, letters):
        assert [task.doc_to_target(doc) for doc in task.eval_docs] == list("ab" * 150)
        assert all(task.doc_to_text(doc).count("<image>") == 1 for doc in task.eval_docs)
        assert task.MULTIMODAL and task.config.metadata["documents"] == 300
    for name in NAMES:
        shown = [doc | {"a": doc["b"], "b": doc["a"]} for doc in release[name].eval_docs]
        swapped = release[f"{name}_swapped"]
        assert [swapped.doc_to_text(doc) for doc in swapped.eval_docs] == [
            release[name].doc_to_text(doc) for doc in shown
        ]
        assert [swapped.doc_to_target(doc) for doc in swapped.eval_docs] == list("ba" * 150)
        blind = release[f"{name}_blind"]
        assert not getattr(blind, "MULTIMODAL", False)
        assert [blind.doc_to_text(doc) for doc in blind.eval_docs] == [
            release[name].doc_to_text(doc).removeprefix("<image>") for doc in blind.eval_docs
        ]
    identities = [task.config.metadata["identity"] for task in release.values()]
    assert len(set(identities)) == 6


def test_tokens_and_decoding() -> None:
    for name, task in load(NAMES + CONTROLS).items():
        limit = 64 if name.startswith("mmvp_options") else 16
        wanted = {"max_gen_toks": limit, "do_sample": False, "until": []}
        assert task.config.generation_kwargs == wanted


def test_each_document_has_its_own_image() -> None:
    task = load(["mmvp_options_swapped"])["mmvp_options_swapped"]
    for doc in task.eval_docs:
        (image,) = task.doc_to_image(doc)
        own = read_image(sample.SAMPLE / IMAGES / f"{doc['index']}.png")
        assert image.tobytes() == own.tobytes() and doc["image"] == f"{doc['index']}.png"


@pytest.mark.parametrize("said", ["(a)", "B"])
@pytest.mark.parametrize("name", [*NAMES, "mmvp_options_swapped"])
def test_a_constant_letter_gets_half_the_questions_and_no_pair(
    release: dict[str, Any], name: str, said: str
) -> None:
    found = run_of(release[name], [said] * 300)
    assert found == dict(zip(METRICS, (0, 0.5, 0, 0.5, 0), strict=True))


@pytest.mark.parametrize(
    ("pairs", "halves", "pair", "single"),
    [
        # LLaVA-1.5-13B (Tong et al.): 24.7; 7B by the letters (lmms-eval): 22.67 and 60.0.
        (37, 0, "24.7", None),
        (34, 112, "22.67", "60.0"),
        (0, 150, "0.0", "50.0"),
    ],
)
def test_published_numbers_from_counts(
    release: dict[str, Any], pairs: int, halves: int, pair: str, single: str | None
) -> None:
    """Of the pairs so many have both right, so many one; the others none."""
    right = [(True, True)] * pairs + [(True, False)] * halves
    right += [(False, False)] * (150 - len(right))
    task, other = release["mmvp_letters"], {"a": "b", "b": "a"}
    letters = [
        doc["answer"] if right[doc["pair"] - 1][place % 2] else other[doc["answer"]]
        for place, doc in enumerate(task.eval_docs)
    ]
    found = run_of(task, letters)
    assert f"{100 * found['pair_accuracy']:.{len(pair.partition('.')[2])}f}" == pair
    if single:
        assert f"{100 * found['accuracy']:.1f}" == single


def test_both_versions_of_the_labels(release: dict[str, Any]) -> None:
    task = release["mmvp_options"]
    found = run_of(task, [f"({doc['answer_corrected']})" for doc in task.eval_docs])
    assert found["pair_accuracy_corrected"] == found["accuracy_corrected"] == 1
    assert found["pair_accuracy"] == 148 / 150 and found["accuracy"] == 296 / 300


def test_unparsed_is_wrong_and_counted() -> None:
    task = load(["mmvp_options"])["mmvp_options"]
    found = run_of(task, [f"({doc['answer']})" for doc in task.eval_docs[:-2]] + ["both", ""])
    assert found["unparsed"] == 2 / 24 and found["accuracy"] == 22 / 24
    assert found["pair_accuracy"] == 11 / 12


def test_half_a_pair_is_none() -> None:
    assert pair_share([(1, True), (1, True), (2, True)]) == 1
    assert str(pair_share([(1, True)])) == "nan"
    doc = load(["mmvp_options"])["mmvp_options"].eval_docs[0]
    assert scores(doc, "Left")["pair_accuracy"] == [1, True]


def test_a_folder_of_several_benchmarks_and_its_source(tmp_path: Path) -> None:
    write_folder(tmp_path / "mmvp", table(rows()), 4)
    (tmp_path / "sources.yaml").write_text("mmvp: {source: made}\n")
    inner, alone = (load(NAMES[:1], at)["mmvp_options"] for at in (tmp_path, tmp_path / "mmvp"))
    assert inner.config.metadata["source"] == "made"
    assert alone.config.metadata["source"] == "local"
    assert inner.config.metadata["identity"] == alone.config.metadata["identity"]


def test_what_is_refused(tmp_path: Path) -> None:
    lines = rows()
    lines[0][1] = lines[1][1] = "Is <image> open?"
    write_folder(tmp_path, table(lines), 4)
    with pytest.raises(ValueError, match="a question may not hold the text <image>"):
        load(NAMES[:1], tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder; give hub, sample or a folder"):
        load(NAMES[:1], tmp_path / "none")
    with pytest.raises(ConnectionError, match="mmvp: cannot load MMVP/MMVP from the hub"):
        load(NAMES[:1], "hub")
    task = load(NAMES[:1])["mmvp_options"]
    task.set_config(key="num_fewshot", value=2)
    with pytest.raises(ValueError, match="num_fewshot=2: all its questions are test questions"):
        task.build_all_requests()


def test_the_hubs_files_are_fetched_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def snapshot(repository: str, **options: Any) -> str:
        asked.append((repository, options))
        return str(write_folder(tmp_path / "c0ffee", table(rows()), 4))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    _downloaded.cache_clear()
    task = load(NAMES[:1], "hub")["mmvp_options"]
    assert task.config.metadata["source"] == "hub: MMVP/MMVP at c0ffee"
    patterns = ["Questions.csv", "MMVP Images/*", "*.parquet"]
    assert asked == [("MMVP/MMVP", {"repo_type": "dataset", "allow_patterns": patterns})]
