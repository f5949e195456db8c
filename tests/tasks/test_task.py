import json
from collections import Counter
from pathlib import Path

import pytest
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager

from tests.conftest import write_set
from tests.helpers.echo import Echo
from verbalizer_bench.tasks import data
from verbalizer_bench.tasks.generate import build, leaves
from verbalizer_bench.tasks.identity import manifest, verify, verify_task
from verbalizer_bench.tasks.metrics import METRICS
from verbalizer_bench.tasks.spec import DATASETS, TASKS_FOLDER, protocol
from verbalizer_bench.tasks.suite import suite, suite_files


def manager(where: str, *folders: Path) -> TaskManager:
    return TaskManager(
        include_path=[str(TASKS_FOLDER), *map(str, folders)],
        include_defaults=False,
        metadata={"data": where},
    )


WORDS = {
    "sst2": ("positive", "negative"),
    "fp": ("positive", "negative"),
    "emotion": ("joy", "sadness"),
    "snli": ("entailment", "contradiction"),
    "sick": ("entailment", "contradiction"),
    "rte": ("entailment", "not_entailment"),
    "qqp": ("duplicate", "not_duplicate"),
    "mrpc": ("equivalent", "not_equivalent"),
    "subj": ("subjective", "objective"),
}
NEUTRAL = ("foo_bar", "bar_foo", "sfo_lax", "lax_sfo", "lake_river", "river_lake")


def expected_tasks() -> set[str]:
    names = set()
    for dataset, (first, second) in WORDS.items():
        names |= {f"{dataset}_natural_{w}" for w in (f"{first}_{second}", "1_0", "yes_no")}
        names |= {f"{dataset}_unnatural_{w}" for w in (f"{second}_{first}", "0_1", "no_yes")}
        names |= {f"{dataset}_neutral_{w}" for w in NEUTRAL}
    return {f"verbalizer_{name}" for name in names}


def test_the_index_has_exactly_the_108_tasks_the_tags_and_the_group() -> None:
    index = manager("sample")
    found = {name for name in index.all_subtasks if "verbalizer" in name}
    assert found == expected_tasks() == set(suite())
    assert len(found) == 108
    types = ("natural", "neutral", "unnatural")
    tags = {name for name in index.all_tags if "verbalizer" in name}
    assert tags == {f"verbalizer_{name}" for name in (*DATASETS, *types)}
    with_images = {*index.all_subtasks, *index.all_tags} - found - tags
    assert {name.partition("_")[0] for name in with_images} <= {"mmvp", "naturalbench"}
    assert index.all_groups == ["verbalizer"]


def test_the_glob_of_the_readme_loads_every_task_once() -> None:
    index = manager("sample")
    assert len(index.load(index.match_tasks(["verbalizer_*"]))["tasks"]) == 108


def test_the_committed_leaves_are_what_build_writes() -> None:
    for path in suite_files().values():
        wanted = leaves(path)
        assert {p.name for p in path.parent.glob("*.yaml")} == {
            path.name,
            *(p.name for p in wanted),
        }
        for file, content in wanted.items():
            assert file.read_text(encoding="utf-8") == content


def test_real_data_make_the_prompts_of_the_paper(real_data: Path) -> None:
    loaded = manager(str(real_data)).load(["verbalizer"])
    counts = Counter[str]()
    for task in loaded["tasks"].values():
        counts[task.verbalizer.type] += len(task.eval_docs)
    assert counts == {"natural": 22290, "neutral": 44580, "unnatural": 22290}
    task = loaded["tasks"]["verbalizer_sst2_unnatural_negative_positive"]
    assert task.doc_to_text(task.eval_docs[0]) == (
        "You are a helpful assistant judging the sentiment of a movie review. If the movie review "
        'is positive, you need to output "negative". If the movie review is negative, you need to '
        'output "positive". You are only allowed to output "negative" or "positive".\n\n'
        "Movie review: it 's a charming and often affecting journey .\nAnswer:"
    )
    assert task.doc_to_target(task.eval_docs[0]) == "negative"
    members = loaded["group_map"]
    assert [len(members[f"verbalizer::{t}"]) for t in ("natural", "neutral", "unnatural")] == [
        *(27, 54, 27)
    ]


def test_digits_stay_texts() -> None:
    task = manager("sample").load(["verbalizer_rte_natural_1_0"])["tasks"].popitem()[1]
    targets = {task.doc_to_target(doc) for doc in task.eval_docs}
    assert targets == {"1", "0"}


def test_generation_arguments_are_the_protocols() -> None:
    for task in manager("sample").load(["verbalizer"])["tasks"].values():
        assert task.config.generation_kwargs == {
            "num_beams": 10,
            "max_gen_toks": 15,
            "do_sample": False,
            "until": [],
        }
        assert task.config.num_fewshot is None


def test_twelve_leaves_share_one_load(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    original = data.read_rows
    monkeypatch.setattr(data, "read_rows", lambda *a: reads.append(a[0].name) or original(*a))
    data._documents.cache_clear()
    data.test_documents.cache_clear()
    manager("sample").load(["verbalizer"])
    assert Counter(reads) == dict.fromkeys(DATASETS, 1)


def test_scores_and_standard_errors_reach_lm_evals_table() -> None:
    lm = Echo(lambda request: "it is foo" if len(request.args[0]) % 2 else "bar")
    evaluated = simple_evaluate(
        model=lm,
        tasks=["verbalizer_sst2_neutral_foo_bar"],
        task_manager=manager("sample"),
        bootstrap_iters=100,
    )
    results = evaluated["results"]["verbalizer_sst2_neutral_foo_bar"]
    rows = evaluated["samples"]["verbalizer_sst2_neutral_foo_bar"]
    for metric in METRICS:
        values = [row[metric] for row in rows]
        mean = sum(values) / 24
        variance = sum((value - mean) ** 2 for value in values) / 23
        assert results[f"{metric},none"] == pytest.approx(mean)
        assert results[f"{metric}_stderr,none"] == pytest.approx((variance / 24) ** 0.5)
    metadata = evaluated["configs"]["verbalizer_sst2_neutral_foo_bar"]["metadata"]
    assert (metadata["source"], metadata["documents"]) == ("sample", 24)
    json.dumps(evaluated["configs"])


def test_predict_only() -> None:
    evaluated = simple_evaluate(
        model=Echo(lambda request: "foo"),
        tasks=["verbalizer_sst2_neutral_foo_bar"],
        task_manager=manager("sample"),
        predict_only=True,
    )
    assert "f1,none" not in evaluated["results"]["verbalizer_sst2_neutral_foo_bar"]


def test_generation_arguments_of_one_run_do_not_reach_the_next() -> None:
    for changes in ("num_beams=2,top_k=3", None):
        lm = Echo(lambda request: "foo")
        evaluated = simple_evaluate(
            model=lm,
            tasks=["verbalizer_sst2_neutral_foo_bar"],
            task_manager=manager("sample"),
            gen_kwargs=changes,
        )
        beams = 2 if changes else 10
        assert {kwargs["num_beams"] for kwargs in lm.kwargs} == {beams}
        config = evaluated["configs"]["verbalizer_sst2_neutral_foo_bar"]
        assert config["generation_kwargs"]["num_beams"] == beams
        assert protocol()["generation_kwargs"]["num_beams"] == 10
        assert "top_k" not in protocol()["generation_kwargs"]


def test_more_fewshot_examples_than_documents() -> None:
    with pytest.raises(ValueError, match=r"num_fewshot=6: train has 6 documents to draw from"):
        simple_evaluate(
            model=Echo(lambda request: "foo"),
            tasks=["verbalizer_sst2_neutral_foo_bar"],
            task_manager=manager("sample"),
            num_fewshot=6,
        )


def test_fewshot_examples_come_from_train() -> None:
    lm = Echo(lambda request: "foo")
    simple_evaluate(
        model=lm,
        tasks=["verbalizer_sst2_neutral_foo_bar"],
        task_manager=manager("sample"),
        num_fewshot=3,
    )
    spec_docs = manager("sample").load(["verbalizer_sst2_neutral_foo_bar"])["tasks"].popitem()[1]
    pool = data.fewshot_documents(spec_docs.spec, "sample").docs
    for prompt in lm.prompts:
        *shots, last = prompt.split("\n\nYou are")
        assert len(shots) == 3 and last.endswith("Answer:")
        for shot in shots:
            text, _, answer = shot.partition("Movie review: ")[2].partition("\nAnswer: ")
            label = next(doc["label"] for doc in pool if doc["sentence"] == text)
            assert answer == {"positive": "foo", "negative": "bar"}[label]


def test_fewshot_leaves_the_document_out_where_there_is_no_train_split(real_data: Path) -> None:
    lm = Echo(lambda request: "foo")
    evaluated = simple_evaluate(
        model=lm,
        tasks=["verbalizer_fp_neutral_foo_bar"],
        task_manager=manager(str(real_data)),
        num_fewshot=3,
        limit=100,
    )
    for prompt in lm.prompts:
        texts = [part.split("\n")[0] for part in prompt.split("Financial phrase: ")[1:]]
        assert len(texts) == 4 and texts[-1] not in texts[:-1]
    metadata = evaluated["configs"]["verbalizer_fp_neutral_foo_bar"]["metadata"]
    assert metadata["fewshot_from"] == "the test rows, without the document itself"


def test_a_tenth_data_set_by_one_yaml(tmp_path: Path) -> None:
    path = write_set(tmp_path / "my_set")
    assert len(build(path)) == 12
    index = manager("sample", path.parent)
    assert len(index.load(["verbalizer"])["tasks"]) == 108, "the suite must stay as it is"
    tasks = index.load(["verbalizer_my_set"])["tasks"]
    assert len(tasks) == 12
    task = tasks["verbalizer_my_set_natural_good_bad"]
    assert task.doc_to_text(task.eval_docs[1]) == (
        'Say "good" if it is good, "bad" if it is bad.\n\nremark 1 is good\nAnswer:'
    )
    results = simple_evaluate(
        model=Echo(lambda request: "good"), tasks=["verbalizer_my_set"], task_manager=index
    )["results"]
    assert results["verbalizer_my_set_natural_good_bad"]["f1,none"] == 0.5
    assert results["verbalizer_my_set_neutral_foo_bar"]["f1,none"] == 0.0


def test_build_removes_the_leaves_that_the_yaml_no_longer_has(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    build(path)
    (tmp_path / "verbalizer_my_set_hand_written.yaml").write_text("task: mine")
    write_set(tmp_path, verbalizers={"neutral": [["up", "down"]]})
    build(path)
    assert {file.name for file in tmp_path.glob("verbalizer_*.yaml")} == {
        "verbalizer_my_set_neutral_up_down.yaml",
        "verbalizer_my_set_hand_written.yaml",
    }


def test_unknown_key_in_a_leaf_is_named(tmp_path: Path) -> None:
    leaf = build(write_set(tmp_path))[0]
    leaf.write_text(leaf.read_text() + "num_fewshots: 3\n")
    with pytest.raises(ValueError, match=r"unknown key 'num_fewshots'.*did you mean 'num_fewshot'"):
        manager("sample", tmp_path).load([leaf.stem])


def test_manifest_knows_the_samples_and_the_real_rows(real_data: Path) -> None:
    for where in ("sample", str(real_data)):
        assert {row.dataset: row.verdict for row in verify(where)} == dict.fromkeys(
            DATASETS, "equal"
        )
    assert not any("hub" in sources for sources in manifest().values())


def test_verify_counts_the_rows_whatever_their_source(tmp_path: Path, real_data: Path) -> None:
    import shutil

    folder = tmp_path / "data"
    shutil.copytree(real_data, folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    assert all(row.verdict == "equal" for row in verify(str(folder)))
    rows = (folder / "sst2" / "validation.jsonl").read_text().split("\n")
    copy = tmp_path / "short"
    shutil.copytree(real_data, copy, copy_function=shutil.copyfile)
    file = copy / "sst2" / "validation.jsonl"
    file.parent.chmod(0o755)
    file.write_text("\n".join(rows[1:]))
    verified = {row.dataset: row for row in verify(str(copy))}
    assert verified["sst2"].verdict == "different"
    assert verified["sst2"].text.endswith("Table 1 of the paper has 872")
    assert verified["rte"].verdict == "equal"


def test_the_same_rows_in_another_order_are_verified(tmp_path: Path, real_data: Path) -> None:
    """GLUE's order is not the snapshot's; a row that stands twice in place of another shows."""
    import shutil

    folder = tmp_path / "data"
    shutil.copytree(real_data, folder, copy_function=shutil.copyfile)
    file = folder / "sst2" / "validation.jsonl"
    rows = file.read_text().removesuffix("\n").split("\n")
    file.write_text("\n".join(rows[::-1]))
    verified = {row.dataset: row for row in verify(str(folder))}["sst2"]
    assert (verified.verdict, verified.text) == ("equal", "snapshot, verified")
    file.write_text("\n".join([rows[1], *rows[1:]]))
    # Rows are read once a folder.
    folder = folder.rename(tmp_path / "twice")
    assert {row.dataset: row for row in verify(str(folder))}["sst2"].verdict == "unknown"


def test_verdicts() -> None:
    task = "verbalizer_sst2_neutral_foo_bar"
    known = manifest()["sst2"]["snapshot"]["tasks"][task]
    assert verify_task("sst2", task, "snapshot", known) == ("equal", "snapshot")
    assert verify_task("sst2", task, "local", known) == ("equal", "snapshot")
    assert verify_task("sst2", task, "local", "0" * 64) == ("unknown", None)
    assert verify_task("sst2", task, "hub", known) == ("equal", "snapshot")
    assert verify_task("sst2", task, "hub", "0" * 64) == ("unknown", None)
    assert verify_task("sst2", task, "sample", "0" * 64) == ("different", None)
    turned = manifest()["sst2"]["snapshot"]["unordered"][task]
    assert verify_task("sst2", task, "hub", "0" * 64, turned) == ("equal", "snapshot")
    assert verify_task("sst2", task, "hub", "0" * 64, "1" * 64) == ("unknown", None)
    assert verify_task("my_set", task, "files", known) == ("unknown", None)
    said = verify_task("sst2", task, "hub", known).text("hub")
    assert said == "hub, with the rows of snapshot: verified"
