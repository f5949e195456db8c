"""What answers without a model score, and that a checkpoint can be asked in other words."""

import json
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.echo import write_run
from verbalizer_bench.experiments.machine import machine
from verbalizer_bench.experiments.rows import read_rows, write_rows
from verbalizer_bench.experiments.sanity import report, wordings
from verbalizer_bench.experiments.sanity.answers import ANSWERERS
from verbalizer_bench.experiments.sanity.gathering import FILE as WAYS_FILE
from verbalizer_bench.experiments.sanity.gathering import bos_of, gather
from verbalizer_bench.experiments.sanity.scores import (
    ALL_SETS,
    FILE,
    GROUPS,
    answered,
    score_rows,
    suite_tasks,
)
from verbalizer_bench.experiments.sanity.sensitivity import WAYS, main
from verbalizer_bench.results.references import references
from verbalizer_bench.results.run import Run, load_run
from verbalizer_bench.results.statistics import summarize
from verbalizer_bench.tasks.data import SAMPLES
from verbalizer_bench.tasks.spec import LABEL_TYPES, TASKS_FOLDER
from verbalizer_bench.tasks.suite import read_dataset, suite_datasets
from verbalizer_bench.tasks.task import VerbalizerTask

RESULTS = REPOSITORY / "experiments" / "sanity" / "results"
SMOLLM2 = "smollm2-135m"
PAGE = REPOSITORY / "docs" / "sanity.md"
# F1 by label type where half of the documents are of each class, in points; and the outcome of all.
EXPECTED = {
    "perfect": (100, 100, 100, "follows"),
    "marked": (100, 100, 100, "follows"),
    "twice": (200 / 3, 200 / 3, 200 / 3, "verbose"),
    # "the" is dropped: three words, one of them right.
    "sentence": (50, 50, 50, "verbose"),
    "among-five": (100 / 3, 100 / 3, 100 / 3, "verbose"),
    "both": (200 / 3, 200 / 3, 200 / 3, "both"),
    "majority": (50, 50, 50, None),
    "first": (50, 50, 50, None),
    "second": (50, 50, 50, None),
    "meant": (100, 0, 0, None),
    # One of three natural pairs is the class names.
    "class-name": (100 / 3, 0, 0, None),
    "one-name": (50 / 3, 0, 50 / 3, None),
    "flipped": (0, 0, 0, "flipped"),
    "empty": (0, 0, 0, "neither"),
}
# What a run's legend has, in its order.
LEGEND = ("perfect", "majority", "among-five", "meant", "flipped")


@pytest.fixture(scope="module")
def tasks() -> list[VerbalizerTask]:
    return list(suite_tasks("sample"))


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_answered_without_a_model_scores_what_it_must(
    name: str, tasks: list[VerbalizerTask]
) -> None:
    types = summarize(answered(name, tasks), resamples=1)
    *expected, outcome = EXPECTED[name]
    found = [100 * types[group].f1.mean for group in GROUPS]
    assert found == pytest.approx([*expected, sum(expected) / 3])
    assert outcome is None or types["All"].outcomes[outcome] == pytest.approx(1)


def test_the_legend_of_a_run_says_the_same(tasks: list[VerbalizerTask]) -> None:
    some = [task for task in tasks if task.spec.name in ("fp", "mrpc")]
    legend = references(answered("empty", some))
    for one, name in zip(legend, LEGEND, strict=True):
        types = summarize(answered(name, some), resamples=1)
        assert one.f1 == pytest.approx({group: types[group].f1.mean for group in GROUPS}), name


def test_a_word_at_random_scores_half_and_each_draw_otherwise(tasks: list[VerbalizerTask]) -> None:
    draws = [summarize(answered("random", tasks, draw), resamples=1) for draw in range(3)]
    found = [draw["All"].f1.mean for draw in draws]
    assert len(set(found)) == 3 and found == pytest.approx([0.5] * 3, abs=0.05)


def test_the_whole_prompt_and_the_text_are_no_answer(tasks: list[VerbalizerTask]) -> None:
    prompt, start, text, word = (
        summarize(answered(name, tasks), resamples=1)["All"]
        for name in ("prompt", "prompt-start", "text", "text-word")
    )
    # Of the beginnings only SUBJ's has a label word: "judging if a given sentence is subjective".
    assert start.f1.mean < 0.02 and start.outcomes["neither"] > 0.8
    assert 0 < prompt.f1.mean < 0.1 and prompt.outcomes["both"] == pytest.approx(1)
    assert text.f1.mean < 0.01 and word.f1.mean < 0.01


def test_a_run_of_lm_eval_scores_the_same(tasks: list[VerbalizerTask], tmp_path: Path) -> None:
    some = [task for task in tasks if task.config.task.startswith("verbalizer_rte_natural")]
    by_name = {task.config.task: task for task in some}

    def says(request: Any) -> str:
        task = by_name[request.task_name]
        return ANSWERERS["runs-on"].answer(task, request.doc, random.Random())

    stored = load_run(write_run(tmp_path, "runs-on", list(by_name), says=says))
    ours = {task.task: task.scores for task in answered("runs-on", some).tasks}
    assert {task.task for task in stored.tasks} == set(ours)
    for task in stored.tasks:
        for metric, values in task.scores.items():
            assert values.tolist() == ours[task.task][metric].tolist(), metric


def test_a_row_is_written_for_each_draw_and_data_set(
    tasks: list[VerbalizerTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [task for task in tasks if task.spec.name in ("rte", "subj")]
    few = {name: ANSWERERS[name] for name in ("text-word", "empty")}
    monkeypatch.setattr("verbalizer_bench.experiments.sanity.scores.ANSWERERS", few)
    keys = [(row["answer"], row["draw"], row["data_set"]) for row in score_rows(some)]
    assert len(keys) == len(set(keys)) == (20 + 1) * 3


def test_the_stored_constant_answers_are_the_shares_of_the_classes() -> None:
    manifest = json.loads((TASKS_FOLDER / "manifest.json").read_text(encoding="utf-8"))
    stored = {
        (row["answer"], row["data_set"]): [float(row[group]) for group in GROUPS]
        for row in read_rows(RESULTS / FILE)
        if row["draw"] == "0"
    }
    for dataset, (spec, _) in suite_datasets().items():
        sources = manifest[dataset].items()
        counts = next(source["classes"] for name, source in sources if name != "sample")
        first = 100 * counts[spec.classes[0]] / sum(counts.values())
        assert stored["first", dataset] == pytest.approx([first] * 4, abs=1e-3)
        assert stored["second", dataset] == pytest.approx([100 - first] * 4, abs=1e-3)
        larger = max(first, 100 - first)
        assert stored["majority", dataset] == pytest.approx([larger] * 4, abs=1e-3)


def test_other_wordings_ask_for_the_same(tmp_path: Path) -> None:
    wordings.write_sets(tmp_path / "tasks")
    prompts = wordings.prompts()
    assert set(prompts) == {"a", "b", wordings.SPACE}
    for wording, of_datasets in prompts.items():
        assert set(of_datasets) == set(suite_datasets())
        for dataset, (own, verbalizers) in suite_datasets().items():
            name = f"{dataset}_{wording}"
            spec, same = read_dataset(tmp_path / "tasks" / name / f"_{name}.yaml")
            assert spec.prompt == of_datasets[dataset] != own.prompt
            assert (spec.fields, spec.classes, spec.sample) == (own.fields, own.classes, own.sample)
            assert same == verbalizers and spec.prompt.endswith("Answer:")
            # What is to be judged stands as in the suite's prompt.
            shown = [line for line in own.prompt.split("\n") if "{{" in line][1:]
            assert all(line in spec.prompt for line in shown)
            leaves = {file.stem for file in (tmp_path / "tasks" / name).glob("verbalizer_*.yaml")}
            assert set(wordings.suite_names([("neutral", 5)], wording).values()) & leaves


def test_rows_are_half_of_each_class_and_the_same_for_all_wordings(tmp_path: Path) -> None:
    wordings.write_rows(str(SAMPLES), tmp_path, 4, 0)
    for dataset, (spec, _) in suite_datasets().items():
        file = f"{spec.test_split}.jsonl"
        text = (tmp_path / dataset / file).read_text(encoding="utf-8")
        labels = [json.loads(line)["label"] for line in text.splitlines()]
        assert sorted(map(labels.count, spec.label_values)) == [2, 2]
        for wording in wordings.prompts():
            assert (tmp_path / f"{dataset}_{wording}" / file).read_text("utf-8") == text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--model", "toy"), "NAME=PATH"),
        (("--documents", "3"), "even"),
        (("--documents", "9998"), r"sst2: 12 rows.*--documents 24 or fewer"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_asked_is_told(words: tuple[str, str], told: str, tmp_path: Path) -> None:
    given = {"--model": "toy=toy", "--data": str(SAMPLES), **dict([words])}
    with pytest.raises(SystemExit, match=told):
        main([str(tmp_path / "out"), *(word for pair in given.items() for word in pair)])


def test_a_checkpoint_is_asked_in_several_ways(toys: tuple[Path, Path], tmp_path: Path) -> None:
    command = [str(tmp_path / "out"), "--model", f"toy={toys[0]}", "--data", str(SAMPLES)]
    main([*command, "--documents", "2", "--ways", "reference", "a"])
    rows = read_rows(gather(tmp_path / "out", tmp_path))
    assert [row["way"] for row in rows] == ["reference", "a"]
    change = rows[1]
    base, model, found = (float(change[f"All_{part}"]) for part in ("base", "model", "difference"))
    assert found == pytest.approx(model - base, abs=0.02)
    assert WAYS["a"].what in report.ways_table(rows) and "toy" in report.changes_table(rows)
    assert {row["machine"] for row in rows} == {machine()}
    # Rows of a model that is not there stay; of one that is, they are replaced.
    others = [{**row, "model": "other"} for row in rows]
    write_rows([*rows, *others], tmp_path / WAYS_FILE)
    assert read_rows(gather(tmp_path / "out", tmp_path)) == [*others, *rows]
    # What was asked of other documents is not compared.
    [stored] = (tmp_path / "out").rglob("samples_verbalizer_rte_a_natural_*.jsonl")
    first, *others = map(json.loads, stored.read_text(encoding="utf-8").splitlines())
    first["doc"]["sentence1"] = "another"
    stored.write_text("".join(json.dumps(row) + "\n" for row in (first, *others)))
    with pytest.raises(ValueError, match=r"rte_natural.*other documents"):
        gather(tmp_path / "out", tmp_path)


def test_findings_are_over_wordings_and_over_all_ways() -> None:
    def row(model: str, way: str, *f1: int) -> dict[str, str]:
        scores = {f"{group}_f1": str(value) for group, value in zip(GROUPS, f1, strict=False)}
        return {"model": model, "way": way, **scores}

    rows = [
        *(row("m", "reference", 60, 40, 20), row("m", "a", 30, 30, 30), row("m", "plain", 9, 9, 0)),
        *(row("n", "reference", 90, 60, 30), row("n", "a", 30, 30, 0)),
    ]
    assert report.findings(rows).split("\n") == [
        "- m: *All* is 40.0 with the suite's prompts, 30.0 to 40.0 over 2 wordings, 6.0 to 40.0 "
        "over all ways; natural minus unnatural is 40.0 with the suite's prompts, 0.0 to 40.0 over "
        "2 wordings, 0.0 to 40.0 over all ways.",
        "- n: *All* is 60.0 with the suite's prompts, 20.0 to 60.0 over 2 wordings; natural minus "
        "unnatural is 60.0 with the suite's prompts, 30.0 to 60.0 over 2 wordings.",
        "- n minus m: *All* differs by 20.0 with the suite's prompts, -10.0 to 20.0 over 2 "
        "wordings.",
    ]


def way_row(model: str, way: str, p: float, follows: int, seconds: int = 9) -> dict[str, str]:
    row = {"model": model, "way": way, "documents": "36", "seconds": str(seconds), "machine": "M"}
    for group in GROUPS:
        row[f"{group}_p_holm"] = f"{p:.4f}" if group == "All" else "0.9000"
        row |= {f"{group}_follows": str(follows), f"{group}_neither": str(100 - follows)}
    return row


def test_what_is_beyond_doubt_is_named_and_of_how_many() -> None:
    rows = [
        *(way_row("m", "reference", 1, 40), way_row("m", "a", 0.0125, 10)),
        *(way_row("m", "plain", 0.05, 0), way_row("n", "reference", 1, 50)),
        *(way_row("n", "a", 0.2, 50), way_row("alone", "reference", 1, 1)),
    ]
    assert report.moves(rows).split("\n") == [
        "- m: adjusted for all 8 differences 1 is below p = 0.05: paraphrase A of each prompt, "
        "All (p 0.013). Of its answers *follows* is 40 % with the suite's prompts, 0 to 10 % in "
        "the other ways; *neither* is 60 % with the suite's prompts, 90 to 100 % in the other "
        "ways.",
        "- n: adjusted for all 4 differences none is below p = 0.05. Of its answers *follows* is "
        "50 % with the suite's prompts, 50 % in the other ways; *neither* is 50 % with the "
        "suite's prompts, 50 % in the other ways.",
    ]


def test_what_the_ways_were_asked_on_is_said() -> None:
    rows = [
        *(way_row("m", "reference", 1, 40, 57), way_row("m", "a", 1, 4, 118)),
        {**way_row("m", "b", 1, 4, 60), "machine": "N"},
    ]
    assert report.measured(rows) == (
        "- m: 36 documents, M and N; 57 to 118 s of processor time a way."
    )


@pytest.mark.parametrize(
    ("counts", "said"), [((1, 1), "1"), ((0, 0), "0"), ((0, 1), "0 to 1"), (None, "")]
)
def test_bos_is_said_as_the_run_counted_it(counts: tuple[int, int] | None, said: str) -> None:
    run = SimpleNamespace(record=SimpleNamespace(bos_counts=counts))
    assert bos_of(cast(Run, run)) == said


@pytest.mark.smollm
def test_bos_with_and_without_a_template_is_what_the_page_says(smollm: Path) -> None:
    """A template that writes BOS is given none by `add_bos_token`; a bare prompt gets one."""
    from verbalizer_bench.models.adapters.llm import VerbalizerLLM

    bare = suite_datasets()["rte"][0].prompt
    ids = {}
    for added in (None, True, False):
        options = {} if added is None else {"add_bos_token": added}
        model = VerbalizerLLM(str(smollm), dtype="float32", device="cpu", **options)
        chat = model.apply_chat_template([{"role": "user", "content": bare}])
        ids[added] = (model.tok_encode(chat), model.tok_encode(bare))
        bos = model.tokenizer.bos_token_id
    assert ids[None][0] == ids[True][0] == ids[False][0]
    assert ids[None][0][0] == bos != ids[None][0][1]
    assert ids[None][1] == ids[False][1] and ids[True][1] == [bos, *ids[None][1]]


def test_the_page_quotes_what_the_answers_score() -> None:
    """Figures in the text, which no code writes, are those of `answers.csv`."""
    rows = {
        (row["answer"], row["data_set"]): float(row["All"])
        for row in read_rows(RESULTS / FILE)
        if row["draw"] == "0"
    }
    whole = {answer: score for (answer, data_set), score in rows.items() if data_set == ALL_SETS}
    manifest = json.loads((TASKS_FOLDER / "manifest.json").read_text(encoding="utf-8"))
    documents = 0
    for dataset, (_, verbalizers) in suite_datasets().items():
        sources = manifest[dataset].items()
        counts = next(source["classes"] for name, source in sources if name != "sample")
        documents += len(verbalizers) * sum(counts.values())
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    for quoted in (
        f"on all {documents:,} prompts",
        f"The larger class's word gets {whole['majority']:.1f} over the suite "
        f"({rows['majority', 'mrpc']:.1f} on MRPC, {rows['majority', 'fp']:.1f} on Financial "
        "PhraseBank)",
        f"by chance is between {whole['second']:.0f} and {whole['majority']:.0f}, not at 50",
        f"A copy of the text is {whole['text']:.1f}.",
        f"the beginning of the prompt gets {whole['prompt-start']:.1f}, since",
        *(f"- **{whole[answer]:.0f}** is" for answer in ("perfect", "twice", "sentence")),
        *(f"- **{whole[answer]:.0f}** is" for answer in ("among-five", "class-name", "flipped")),
    ):
        assert quoted in text, quoted


def test_the_text_on_wording_has_no_figure_that_no_code_writes() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## How far the wording")[2]
    prose = re.sub(r"<!-- (\w+) -->.*?<!-- end of \1 -->", "", section, flags=re.DOTALL)
    assert "compare" in prose and "|--" not in prose
    prose = prose.replace("95 % intervals", "")
    assert not re.findall(r"\b\d+\.\d\b|\d %|\d points?|\bp \d", prose)


def test_what_the_page_concludes_of_smollm2_is_in_the_table() -> None:
    found = read_rows(RESULTS / WAYS_FILE)
    rows = {row["way"]: row for row in found if row["model"] == SMOLLM2}
    first = rows["reference"]
    change = {way: float(row["All_difference"] or 0) for way, row in rows.items()}
    apart = abs(float(first["natural_f1"]) - float(first["unnatural_f1"]))
    assert set(rows) == set(WAYS)
    assert abs(change["plain-bos"] - change["plain"]) < 1 < change["system"]
    large = ("a", "b", "plain", "plain-bos", "beams")
    assert max(change[way] for way in large) < change["space"] < -apart < change["system"] < apart
    for way in (*large, "space"):
        for outcome, sign in (("follows", -1), ("neither", 1)):
            before, after = (
                sum(float(row[f"{group}_{outcome}"]) for group in LABEL_TYPES)
                for row in (first, rows[way])
            )
            assert sign * (after - before) > 0, (way, outcome)
    assert all(change[way] < -float(rows["a"]["All_base"]) / 2 for way in large)
    assert max(float(row["neutral_f1"]) for row in rows.values()) < 10


def test_the_page_says_what_the_tables_say(tmp_path: Path) -> None:
    assert (RESULTS / WAYS_FILE).is_file()
    copy = tmp_path / "page.md"
    copy.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    assert report.write(RESULTS, copy).read_text("utf-8") == PAGE.read_text("utf-8")
    copy.write_text("no tables", encoding="utf-8")
    with pytest.raises(ValueError, match="answers"):
        report.write(RESULTS, copy)
