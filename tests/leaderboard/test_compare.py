import dataclasses
import json
import random
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from tests.helpers.echo import write_run
from tests.helpers.runs import changed, run, task
from verbalizer_bench.cli import main
from verbalizer_bench.leaderboard.reports.comparison import compare
from verbalizer_bench.results.answers import answers
from verbalizer_bench.results.differences import FAMILIES, Pair, differences
from verbalizer_bench.results.run import Run, TaskScores, read_run

SST2 = ["verbalizer_sst2"]


def synthetic(shift: float, seed: int = 0, n: int = 40) -> Run:
    """Return a run of two data sets whose documents are as hard whatever the seed."""
    hard, own = np.random.default_rng(9), np.random.default_rng(seed)
    tasks = []
    for dataset in ("x", "y"):
        ease = hard.uniform(0.3, 0.6, n)
        for label_type in ("natural", "neutral", "unnatural"):
            for word in "pq":
                values = np.clip(ease + shift + own.normal(0, 0.05, n), 0, 1)
                tasks.append(task(dataset, label_type, word, list(values)))
    return dataclasses.replace(run(*tasks), name=f"m{seed}")


def of(pair: Pair, name: str):  # type: ignore[no-untyped-def]
    (found,) = [one for one in pair.differences if one.name == name]
    return found


def by_hand(one: TaskScores, other: TaskScores) -> float:
    return fmean(other.scores["f1"]) - fmean(one.scores["f1"])


def test_differences_are_the_other_run_minus_the_base() -> None:
    base, model = synthetic(0.0), synthetic(-0.1, seed=1)
    (pair,) = differences([base, model], resamples=500)
    single = [by_hand(a, b) for a, b in zip(base.tasks, model.tasks, strict=True)]
    assert of(pair, "All").difference == pytest.approx(fmean(single))
    assert of(pair, "x").difference == pytest.approx(fmean(single[:6]))
    natural = [d for t, d in zip(base.tasks, single, strict=True) if t.verbalizer.type == "natural"]
    assert of(pair, "natural").difference == pytest.approx(fmean(natural))
    assert of(pair, base.tasks[0].task).difference == pytest.approx(single[0])
    assert of(pair, "natural p|x").difference == pytest.approx((single[0] + single[6]) / 2)
    assert of(pair, "All").documents == 80
    assert len(pair.differences) == 4 + 2 + 6 + 12


def test_an_interval_is_that_of_a_slow_paired_reference() -> None:
    base, model = synthetic(0.0, n=10), synthetic(-0.02, seed=1, n=10)
    (pair,) = differences([base, model], resamples=4000)
    generator, draws = random.Random(0), []
    for _ in range(4000):
        total = []
        for tasks in ((0, 6), (6, 12)):
            documents = [generator.randrange(10) for _ in range(10)]
            for a, b in zip(base.tasks[slice(*tasks)], model.tasks[slice(*tasks)], strict=True):
                total += [b.scores["f1"][i] - a.scores["f1"][i] for i in documents]
        draws.append(fmean(total))
    draws.sort()
    found = of(pair, "All")
    assert (found.low, found.high) == pytest.approx((draws[100], draws[3900]), abs=0.001)


def test_holm_is_over_all_pairs_of_a_family() -> None:
    runs = [synthetic(0.0), synthetic(-0.1, 1), synthetic(0.0, 2)]
    first, second = differences(runs, resamples=999)
    assert (first.base, first.model, second.model) == ("m0", "m1", "m2")
    assert of(first, "All").p == 0.001
    assert of(first, "All").p_holm == pytest.approx(0.008)  # four groups, two pairs


def test_the_answer() -> None:
    runs = [synthetic(0.0), synthetic(-0.1, 1), synthetic(0.0, 2), synthetic(0.2, 3), synthetic(0)]
    texts = [answers([pair])[0] for pair in differences(runs, resamples=999)]
    assert texts[0].startswith("Did tuning hurt? Yes: m1 against m0: F1 over all is lower, -")
    assert texts[1].startswith("Did tuning hurt? It cannot be told: m2")
    assert "are likely to be missed" in texts[1]
    assert texts[2].startswith("Did tuning hurt? No, it helped: m3")
    assert texts[3].startswith("Did tuning hurt? No difference was found: m0")


def test_a_base_at_the_floor_cannot_lose_anything() -> None:
    """It is said with or without a difference, and of a base that says one text too."""

    def level(value: float, name: str, said: str | None = None) -> Run:
        types = ("natural", "neutral", "unnatural")
        tasks = [task("x", label_type, "p", [value] * 40) for label_type in types]
        common = (said, 40) if said else None
        return run(*(dataclasses.replace(one, common=common) for one in tasks), name=name)

    def told(*runs: Run) -> str:
        (pair,) = differences(runs, resamples=99)
        return answers([pair])[0]

    floor = "base scores F1 0 in all: a base at 0 cannot lose anything."
    none = told(level(0, "base"), level(0, "tuned"))
    assert none.startswith("Did tuning hurt? It cannot be told: tuned") and none.endswith(floor)
    better = told(level(0, "base"), level(0.5, "tuned"))
    assert better.startswith("Did tuning hurt? No, it helped: ") and better.endswith(floor)
    assert "cannot lose" not in told(level(0.5, "base"), level(0, "tuned"))
    same = told(level(0.5, "base", "foo"), level(0.5, "tuned", "bar"))
    assert same.startswith("Did tuning hurt? It cannot be told: ")
    assert "base: 120 of 120 responses are the same text, 'foo', whatever it is asked: it " in same
    assert same.endswith(
        "tuned: 120 of 120 responses are the same text, 'bar', whatever it is asked."
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("compare")
    return [read_run(write_run(folder, answer, SST2)) for answer in ("foo", "foo bar")]


def test_files_are_whole_and_the_same_every_time(two: list[Run], tmp_path: Path) -> None:
    found = compare(*two, resamples=200)
    files = [found.write(tmp_path / name) for name in ("a", "b")]
    assert [file.name for file in files[0]] == [
        f"compare.{end}" for end in ("md", "json", "png", "svg")
    ]
    for a, b in zip(*files, strict=True):
        assert a.read_bytes() == b.read_bytes() and a.stat().st_size > 500
    assert "say nothing of training seeds" in str(found)
    assert "partial: less than the suite was run" in str(found)
    data = json.loads(files[0][1].read_text())
    assert (data["seed"], data["resamples"]) == (0, 200) and data["partial"]
    assert len(data["pairs"][0]["differences"]) == 4 + 1 + 12 + 12


def test_a_comparison_is_a_table_for_notebooks_and_pandas(two: list[Run]) -> None:
    found = compare(*two, resamples=50)
    frame = found.to_frame()
    assert len(frame) == 29 and set(frame["family"]) == set(FAMILIES)
    assert ((frame["f1_model"] - frame["f1_base"] - frame["difference"]).abs() < 1e-12).all()
    html = found._repr_html_()
    assert html.startswith("<p>Did tuning hurt? ") and html.count("<tr>") == 1 + 4
    assert "<th>Label type</th>" in html and "<td>unnatural</td>" in html


def refused(*runs: Run) -> str:
    with pytest.raises(ValueError) as caught:
        compare(*runs, resamples=10)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_raw_prompts_are_refused_and_the_first_named(two: list[Run], tmp_path: Path) -> None:
    folder = write_run(tmp_path, "bar", SST2)
    for name in ("natural_1_0", "neutral_foo_bar"):
        (file,) = folder.glob(f"samples_verbalizer_sst2_{name}_*")
        lines = file.read_text().split("\n")
        for number in (5, 3):
            row = json.loads(lines[number])
            row["doc"]["sentence"] += " indeed"
            lines[number] = json.dumps(row)
        file.write_text("\n".join(lines))
    text = refused(two[0], read_run(folder))
    assert "verbalizer_sst2_natural_1_0, document 3: the raw prompts differ" in text
    assert "indeed" in text and "indeed" not in text.split(" in ")[0]


def test_other_documents_tasks_and_protocols_are_refused(two: list[Run], tmp_path: Path) -> None:
    assert "1 run given" in refused(two[0])
    less = read_run(write_run(tmp_path / "less", "bar", SST2, limit=5))
    assert "was run on 24 documents" in refused(two[0], less)
    assert "document 5 is in one of them only" in refused(two[0], less)
    same = read_run(write_run(tmp_path / "same", "foo", SST2, limit=5))
    assert "partial" in str(compare(less, same, resamples=10))
    one = dataclasses.replace(two[1], tasks=two[1].tasks[:3])
    assert "lacks the task verbalizer_sst2_" in refused(two[0], one)
    text = refused(two[0], changed(two[1], generation={"num_beams": 1}))
    told = f"toy (num_beams=10) in {two[0].folder}, toy (num_beams=1) in {two[1].folder};"
    assert f"differ in protocol: {told} run both alike" in text
    text = refused(two[0], changed(two[1], generation={"num_beams": 1, "top_k": 5}))
    assert "toy (num_beams=10) in " in text and ", toy (num_beams=1; top_k=5) in " in text
    both = [changed(run, generation={"num_beams": 4}) for run in two]
    text = refused(both[0], changed(both[1], generation={"top_k": 5}))
    assert "toy (without that) in " in text and ", toy (top_k=5) in " in text


def test_one_document_has_no_interval(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path, answer, SST2, limit=1)) for answer in ("foo", "bar")]
    found = compare(*runs, resamples=10)
    found.write(tmp_path / "out")
    assert all(one.low is None and one.error is None for one in found.pairs[0].differences)
    json.loads((tmp_path / "out" / "compare.json").read_text(), parse_constant=pytest.fail)


def asked(
    run: Run, name: str, weights: str, image: str | None, sha256: str = "", **changes: object
) -> Run:
    """Return a run as our adapters record it: of these weights, shown this image."""
    shown = None if image is None else {"mode": image, "sha256": sha256 or image * 3}
    record = {
        "fingerprint": {"weights": weights},
        "image": shown,
        "bos_counts": [1, 1],
        "dtype": "torch.float32",
        "engine": {"shared_prefix": 9},
        "chat_template_sha256": "t",
        **changes,
    }
    return dataclasses.replace(changed(run, {"verbalizer_bench": record}), name=name)


def test_an_image_and_tuning_are_never_one_answer(two: list[Run], tmp_path: Path) -> None:
    base = asked(two[0], "base", "b", None)
    white = asked(two[1], "white", "v", "white")
    (alone,) = compare(base, white, resamples=50).answers
    assert alone.startswith("Did tuning and image together hurt? ")
    assert "white (white image) against base (no image): " in alone
    assert "these runs do not tell: a run of white with image=none beside them would." in alone
    none = asked(two[0], "none", "v", "none")
    found = compare(base, white, none, resamples=50)
    found.write(tmp_path)
    assert [(pair.base, pair.model) for pair in found.pairs] == [
        *(("base", "white"), ("base", "none"), ("none", "white")),
    ]
    both, tuning, image = found.answers
    assert both.startswith("Did tuning and image together hurt? ") and "do not tell" not in both
    whole = [of(pair, "All") for pair in found.pairs]
    assert whole[0].difference == pytest.approx(whole[1].difference + whole[2].difference)
    assert "the image alone (white (white image) against none (no image), the same weights)" in both
    assert "tuning alone (none against base) All cannot be told apart, 0.0" in both
    assert tuning.startswith("Did tuning hurt? ") and "image" not in tuning
    assert image.startswith("Did the image hurt? The weights are the same. ")
    data = json.loads((tmp_path / "compare.json").read_text())
    assert [pair["differs"] for pair in data["pairs"]] == [
        *(["tuning", "image"], ["tuning"], ["image"]),
    ]
    assert data["answer"] == [both, tuning, image]
    # Other weights without an image say nothing of this one's image.
    other = asked(two[0], "none", "w", "none")
    (first, _) = answers(differences([base, white, other], resamples=50))
    assert "do not tell" in first


ALIKE: dict[str, object] = {}
DIFFERENT: dict[str, tuple[str | None, dict[str, object], str]] = {
    "image": ("noise", ALIKE, "white image in"),
    "template": ("white", {"chat_template_sha256": None}, "with a chat template in"),
    "another template": ("white", {"chat_template_sha256": "u"}, "chat template t in"),
    "precision": ("white", {"dtype": "torch.bfloat16"}, "float32 in"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_one_named_difference_is_let_through_and_stands_in_the_answer(
    name: str, two: list[Run], tmp_path: Path
) -> None:
    shown, changes, told = DIFFERENT[name]
    name = name.split()[-1]
    base = asked(two[0], "one", "v", "white")
    run = asked(two[1], "other", "v", shown, **changes)
    text = refused(base, run)
    assert f"differ in {name}: {told}" in text and f"`compare --allow {name}`" in text
    for wrong in {"image", "template", "engine", "precision"} - {name}:
        with pytest.raises(ValueError, match=f"--allow {name}"):
            compare(base, run, resamples=10, allowed={wrong})
    found = compare(base, run, resamples=10, allowed={name})
    found.write(tmp_path)
    (said,) = found.answers
    words = {"template": "chat template"}.get(name, name)
    assert said.startswith(f"Did the {words} hurt? The weights are the same. ")
    assert f"Let through by --allow: {name}." in str(found)
    data = json.loads((tmp_path / "compare.json").read_text())
    assert data["allowed"] == [name] and data["pairs"][0]["differs"] == [words]
    # What is not named stays refused, whatever is let through.
    greedy = changed(run, generation={"num_beams": 1})
    with pytest.raises(ValueError, match=r"differ in protocol: .*num_beams=1"):
        compare(base, greedy, allowed={"image", "template", "engine", "precision"})


def test_a_bos_that_the_template_writes_is_let_through_with_it(two: list[Run]) -> None:
    """SmolLM2's template begins with BOS, which its tokenizer does not write."""
    one = asked(two[0], "one", "v", "white")
    plain: dict[str, object] = {"chat_template_sha256": None, "bos_counts": [0, 0]}
    other = asked(two[1], "other", "v", "white", **plain)
    text = refused(one, other)
    assert "differ in template: with a chat template in" in text
    assert "without a chat template (prompts without BOS) in" in text
    (said,) = compare(one, other, resamples=10, allowed={"template"}).answers
    assert said.startswith("Did the chat template with its BOS hurt? The weights are the same. ")
    # With one template BOS is nobody's part.
    bare = asked(two[1], "other", "v", "white", bos_counts=[0, 0])
    with pytest.raises(ValueError, match=r"differ in protocol: .*prompts without BOS"):
        compare(one, bare, allowed={"template"})


def test_what_is_let_through_is_a_list_of_known_names(
    two: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(run.folder) for run in two]
    assert main(["compare", *folders, "-o", str(tmp_path), "--allow", "images"]) == 2
    error = capsys.readouterr().err
    assert (
        "--allow images: one of image, template, engine, precision" in error
        and error.count("\n") == 1
    )
    options = ["--allow", "image,template", "--allow", "engine"]
    assert main(["compare", *folders, "-o", str(tmp_path), *options]) == 0
    assert "Let through by --allow: engine, image, template." in capsys.readouterr().out


def test_a_stock_model_is_another_engine(two: list[Run], tmp_path: Path) -> None:
    ours = asked(two[1], "ours", "v", None, chat_template_sha256=None)
    text = refused(two[0], ours)
    assert "differ in engine: lm-eval's hf in" in text
    (said,) = compare(two[0], ours, resamples=10, allowed={"engine"}).answers
    assert said.startswith("Did tuning and engine together hurt? ")


def test_below_float32_the_engine_is_told_from_the_precision(two: list[Run]) -> None:
    low = {"dtype": "torch.bfloat16"}
    shared = asked(two[0], "shared", "v", "white", **low)
    plain = asked(two[1], "plain", "v", "white", **low, engine={"generate": 9})
    text = refused(shared, plain)
    assert "differ in engine: our adapters by shared_prefix in" in text and "precision" not in text
    half = asked(two[1], "half", "v", "white", dtype="torch.float16", engine={"generate": 9})
    (said,) = compare(shared, half, resamples=10, allowed={"engine", "precision"}).answers
    assert said.startswith("Did engine and precision together hurt? ")
    assert "half (our adapters by generate, float16) against shared (our adapters by shared" in said
    # In float32 both engines give the same responses.
    exact = asked(two[1], "exact", "v", "white", engine={"generate": 9})
    (said,) = compare(shared, exact, resamples=10, allowed={"precision"}).answers
    assert said.startswith("Did the precision hurt? The weights are the same. ")


def test_files_of_one_name_are_two_images(two: list[Run], tmp_path: Path) -> None:
    one, other = (asked(run, "x", "v", "a.png") for run in two)
    assert compare(one, other, resamples=10).pairs
    other = asked(two[1], "x", "v", "a.png", sha256="else")
    assert "differ in image: image a.png (a.pnga.pnga." in refused(one, other)


FAMILY = {"architecture": "LlamaForCausalLM", "tokenizer": "a"}
OTHER = {"architecture": "Qwen2ForCausalLM", "tokenizer": "b"}
KIN: list[tuple[dict[str, str], dict[str, object], str]] = [
    # The second run's fingerprint; what else differs of it; what is said.
    (FAMILY, {}, ""),
    (
        OTHER,
        {"chat_template_sha256": "u"},
        "these are not one model before and after tuning: the "
        "architectures (LlamaForCausalLM, Qwen2ForCausalLM), the tokenizers and the chat templates",
    ),
    (
        FAMILY | {"tokenizer": "b"},
        {},
        "these may not be one model before and after tuning: the tok",
    ),
    (FAMILY, {"chat_template_sha256": "u"}, "one and other: the chat templates differ: what the"),
    # Ids of two vocabularies are not to be compared.
    (
        OTHER,
        {"eos_token_ids": [7]},
        "tuning: the architectures (LlamaForCausalLM, Qwen2ForCausalLM) and the tokenizers differ.",
    ),
    (
        FAMILY,
        {"eos_token_ids": [0, 2], "endings": {"eos": 9}},
        "at other ids, those of one at 2 (3 "
        "of 9 cut off) and those of other at 0, 2 (0 of 9 cut off): one that runs on",
    ),
    ({}, {"fingerprint": {"weights": "w"}}, ""),
]


@pytest.mark.parametrize(("family", "changes", "said"), KIN)
def test_what_is_not_tunings_is_named(
    family: dict[str, str], changes: dict[str, object], said: str, two: list[Run]
) -> None:
    common = {"eos_token_ids": [2], "endings": {"eos": 6, "limit": 3}}
    prints = [
        {"fingerprint": FAMILY | {"weights": "v"}},
        {"fingerprint": family | {"weights": "w"}},
    ]
    base = asked(two[0], "one", "v", None, **common | prints[0])
    run = asked(two[1], "other", "w", None, **common | prints[1] | changes)
    (told,) = compare(base, run, resamples=10).answers
    assert told.startswith("Did tuning hurt? ") and said in told
    wanted = int(bool(said))
    assert told.count("before and after") + told.count("differ: ") + told.count("ids") == wanted


def test_an_lvlm_is_made_from_a_text_model(two: list[Run]) -> None:
    prints = [
        {"fingerprint": one | {"weights": name}}
        for name, one in zip("vw", (FAMILY, OTHER), strict=True)
    ]
    base, run = (
        asked(one, one.name, "", image, **changes)
        for one, image, changes in zip(two, (None, "none"), prints, strict=True)
    )
    (pair,) = compare(base, run, resamples=10).pairs
    assert pair.caveats == ()
    sizes = {"hidden_size": 2048, "num_hidden_layers": 24}
    own = {"intermediate_size": 8}, {"num_hidden_layers": 28}
    base, run = (
        asked(one, one.name, "", image, language_model=sizes | more, **changes)
        for one, image, changes, more in zip(two, (None, "none"), prints, own, strict=True)
    )
    (pair,) = compare(base, run, resamples=10).pairs
    assert pair.caveats == (
        f"{base.name} and {run.name}: these are not one language model before and after tuning: "
        "num_hidden_layers 24 and 28.",
    )


def test_what_is_to_be_known_of_a_base_is_said_once(two: list[Run]) -> None:
    floor = [asked(two[0], name, name, None) for name in ("base", "b", "c")]
    found = differences(floor, resamples=10)
    bare = [dataclasses.replace(pair, same=("all the same", None)) for pair in found]
    told = answers(bare)
    assert ["all the same" in text for text in told] == [True, False]
    assert "all the same" in answers([bare[1]])[0]


def test_one_document_has_no_interval_and_the_answer_says_so() -> None:
    (told,) = answers(differences([synthetic(0.0, n=1), synthetic(-0.2, seed=1, n=1)]))
    assert "It cannot be told" in told
    assert "one document, which gives no interval" in told
    (told,) = answers(differences([synthetic(0.0, n=2), synthetic(-0.2, seed=1, n=2)]))
    assert "no interval" not in told
