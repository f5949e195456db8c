import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.lmms_results import (
    DATE,
    LETTER,
    SHORT,
    VALUES,
    Made,
    choice,
    review,
    write_lmms,
    yes_no,
)
from verbalizer_bench.evaluation.items import mean_of_tasks
from verbalizer_bench.evaluation.items import yes_no as pope
from verbalizer_bench.evaluation.lmms_results import LmmsScore, read_scores
from verbalizer_bench.evaluation.recipe import read_evaluation
from verbalizer_bench.results.files import lmms_results_files

FEW = "no interval of so few questions, or of ones that are all alike"


def scores(folder: Path) -> dict[str, LmmsScore]:
    (file,) = lmms_results_files(folder)
    found, _ = read_scores(file, read_evaluation("evaluation/llava15"))
    return {score.title: score for score in found}


def test_a_mean_with_its_interval(tmp_path: Path) -> None:
    write_lmms(tmp_path, {"gqa": VALUES})
    (found,) = scores(tmp_path).values()
    assert found.title == "GQA" and found.value == 50 and found.remark == ""
    assert found.mean and found.mean.value == 50 and found.mean.questions == 8
    # 50 +- 1.96 * 12.5, in steps of 6.25.
    assert (found.mean.low, found.mean.high) == pytest.approx((25, 75))
    assert found.given["pretrained"] == "/x/llava" and not found.partial
    assert (
        "exact_match of lmms-eval's gqa (hub/made), 8 documents, asked by verbalizer-lvlm"
        in found.way
    )


def test_many_items_are_drawn_as_few(tmp_path: Path) -> None:
    """The interval of 20,000 answers, 30 % of them right: 30 +- 1.96 * 0.324."""
    write_lmms(tmp_path, {"gqa": Made("exact_match", 0.3, [1.0] * 6000 + [0.0] * 14000)})
    mean = scores(tmp_path)["GQA"].mean
    assert mean and (mean.low, mean.high) == pytest.approx((29.36, 30.64), abs=0.05)


def test_pope_is_the_mean_of_three(tmp_path: Path) -> None:
    """F1 1, 2/3 (one of two found) and 2 / (2 + 1): the mean of three."""
    right = [yes_no("yes", "yes"), yes_no("no", "no")]
    missed = [yes_no("yes", "yes"), yes_no("no", "yes")]
    wrong = [yes_no("yes", "yes"), yes_no("yes", "no")]
    tasks = {"pope_random": right, "pope_pop": missed, "pope_adv": wrong}
    made = {
        task: Made("pope_f1_score", f1, found)
        for (task, found), f1 in zip(tasks.items(), (1.0, 2 / 3, 2 / 3), strict=True)
    }
    write_lmms(tmp_path / "all", made)
    found = scores(tmp_path / "all")["POPE"]
    assert found.value == pytest.approx(7 / 9) and found.mean
    assert found.mean.value == pytest.approx(7 / 9) and found.mean.questions == 6
    write_lmms(tmp_path / "two", {task: made[task] for task in ("pope_random", "pope_pop")})
    found = scores(tmp_path / "two")["POPE"]
    assert found.value is None and "no score: pope_adv not beside pope_" in found.remark
    assert found.remark.endswith("--tasks pope_random,pope_pop,pope_adv")


def test_pope_counts_as_lmms_eval_does() -> None:
    """`Yes.` is neither word: it is no yes, and is missed in no recall."""
    items = pope([yes_no("yes.", "yes"), yes_no("yes", "yes"), yes_no("yes", "no")])
    assert items.value == pytest.approx(2 / 3)
    assert items.remark == "1 of 3 answers are neither yes nor no"


def test_pope_draws_images_in_all_splits_together() -> None:
    """Of 40 images 20 are missed in all of their six questions, alike in the three splits."""
    said = [("yes" if (n // 6) % 2 else "no", n + 1) for n in range(240)]
    split = pope([yes_no(answer, "yes", number) for answer, number in said])
    mean = mean_of_tasks([split] * 3)
    # Over questions it would be 0.11.
    assert mean.high - mean.low == pytest.approx(0.275, abs=0.03)
    turned = pope([yes_no(answer, "yes", number) for answer, number in reversed(said)])
    assert mean_of_tasks([split, turned, split]) == mean
    one = mean_of_tasks([pope([yes_no("yes", "yes", 1), yes_no("no", "yes", 2)])])
    assert math.isnan(one.low) and one.questions == 2


def test_mme_is_a_sum_over_categories(tmp_path: Path) -> None:
    """Posters: 200 and 50 (one of two right); count: 0. 125 + 0."""

    def two(category: str, image: str, first: float, second: float) -> list[dict[str, Any]]:
        about = {"category": category, "question_id": image}
        return [about | {"score": first}, about | {"score": second}]

    values = [*two("posters", "a", 1, 1), *two("posters", "b", 1, 0), *two("count", "a", 0, 0)]
    write_lmms(tmp_path, {"mme": Made("mme_perception_score", 125.0, values)})
    found = scores(tmp_path)["MME"]
    assert found.value == 125 and found.mean and math.isnan(found.mean.low)
    assert found.remark == FEW
    posters = [row for n in range(16) for row in two("posters", f"{n}", 1, n % 2)]
    counts = [row for n in range(4) for row in two("count", f"{n}", n % 2, 1)]
    one = [row for n in range(4, 20) for row in two("count", f"{n}", n % 2, 1)]
    for name, more in {"few": [], "many": one}.items():
        made = Made("mme_perception_score", 250.0, [*posters, *counts, *more])
        write_lmms(tmp_path / name, {"mme": made})
    few, many = (scores(tmp_path / name)["MME"] for name in ("few", "many"))
    assert few.value == many.value == 250 and few.mean and math.isnan(few.mean.low)
    # An image is worth 50 or 200: of two categories the error is 75 * sqrt(1 / 16 + 1 / 20).
    assert few.remark == FEW and many.remark == "" and many.mean
    assert (many.mean.low, many.mean.high) == pytest.approx((250 - 49.3, 250 + 49.3), abs=8)


def test_what_is_all_alike_is_not_certain(tmp_path: Path) -> None:
    write_lmms(tmp_path, {"gqa": Made("exact_match", 1.0, [1.0] * 20)})
    found = scores(tmp_path)["GQA"]
    assert found.value == 100 and found.mean and math.isnan(found.mean.low)
    assert found.remark == FEW


def test_mmbench_is_right_in_all_rounds(tmp_path: Path) -> None:
    values = [choice(1, "A", "A"), choice(1_000_001, "(B).", "B"), choice(2, "A", "A")]
    values += [choice(1_000_002, "A", "B")]
    made = Made("gpt_eval_score", 50.0, values, LETTER)
    write_lmms(tmp_path / "a", {"mmbench_en_dev_static": made})
    found = scores(tmp_path / "a")["MMBench"]
    assert found.value == 50 and found.mean and found.mean.value == 50 and found.remark == FEW
    # What no rule of ours reads has lmms-eval's number, without an interval.
    values[3] = choice(1_000_002, "I think that it is a bee", "B")
    write_lmms(tmp_path / "b", {"mmbench_en_dev_static": made._replace(score=100.0)})
    found = scores(tmp_path / "b")["MMBench"]
    assert found.value == 100 and found.mean is None
    assert found.remark == "1 of 4 answers are no plain letter; no interval"


def test_a_judge_that_may_have_failed(tmp_path: Path) -> None:
    """mmbench_cn_dev asks a judge about what names no letter, and draws one where it fails."""
    suffix = "\n请直接使用所提供的选项字母作为答案回答。"
    values = [choice(1, "A", "A"), choice(2, "B", "A")]
    made = Made("gpt_eval_score", 50.0, values, suffix)
    write_lmms(tmp_path / "a", {"mmbench_cn_dev": made})
    found = scores(tmp_path / "a")["MMBench-CN"]
    assert found.value == 50 and "judged by nobody" in found.way
    values[1] = choice(2, "a bee", "A")
    write_lmms(tmp_path / "b", {"mmbench_cn_dev": made})
    found = scores(tmp_path / "b")["MMBench-CN"]
    assert found.value is None and "a random letter, stands for them" in found.remark


def test_failed_verdicts_are_no_scores(tmp_path: Path) -> None:
    """A dead judge: lmms-eval writes 100.0 for LLaVA-Bench, 0.0 for MM-Vet."""
    dead = [review((-1, -1)), review((-1, -1))]
    task = {"llava_in_the_wild": Made("gpt_eval_llava_all", 100.0, dead, "")}
    write_lmms(tmp_path / "llava", task)
    found = scores(tmp_path / "llava")["LLaVA-Bench"]
    assert found.value is None and "no score: 2 of 2 verdicts failed, and" in found.remark
    graded = [{"score": 0.0, "eval_model": ""}, {"score": 0.4, "eval_model": "gpt-4o"}]
    write_lmms(tmp_path / "mmvet", {"mmvet": Made("gpt_eval_score", 20.0, graded, "")})
    found = scores(tmp_path / "mmvet")["MM-Vet"]
    assert found.value is None and "no score: 1 of 2 verdicts failed" in found.remark
    write_lmms(tmp_path / "blind", {"mmvet": Made("gpt_eval_score", 20.0, graded)}, samples=False)
    found = scores(tmp_path / "blind")["MM-Vet"]
    assert found.value is None and "without samples (--log_samples) nobody can" in found.remark


def test_verdicts_have_a_judges_name(tmp_path: Path) -> None:
    """(6 + 9) / (8 + 10), rounded as lmms-eval rounds; the question has no reasoning before it."""
    task = {
        "llava_in_the_wild": Made("gpt_eval_llava_all", 83.3, [review((8, 6)), review((10, 9))], "")
    }
    graded = [{"score": 0.25, "eval_model": "gpt-4o"}, {"score": 0.75, "eval_model": "gpt-4o"}]
    write_lmms(tmp_path, task | {"mmvet": Made("gpt_eval_score", 50.0, graded, "")})
    found = scores(tmp_path)
    assert found["LLaVA-Bench"].value == 83.3 and "judged by gpt-4o, 2" in found["LLaVA-Bench"].way
    mmvet = found["MM-Vet"]
    assert mmvet.value == 50 and mmvet.mean and mmvet.mean.value == 50
    assert "could not read is a 0" in mmvet.remark and "asked without 'First please" in mmvet.remark


def test_two_judges_make_no_score(tmp_path: Path) -> None:
    graded = [{"score": 0.2, "eval_model": judge} for judge in ("gpt-4o", "other")]
    write_lmms(tmp_path, {"mmvet": Made("gpt_eval_score", 20.0, graded, "")})
    found = scores(tmp_path)["MM-Vet"]
    assert found.value is None
    assert found.remark.startswith("no score: its verdicts are of 2 judges: gpt-4o, other")


def test_a_part_is_called_one(tmp_path: Path) -> None:
    write_lmms(tmp_path, {"gqa": VALUES}, limit=8.0)
    found = scores(tmp_path)["GQA"]
    assert found.partial and "8 of 5,000 documents" in found.way
    write_lmms(tmp_path, {"gqa": VALUES}, offset=3)
    found = scores(tmp_path)["GQA"]
    assert found.partial and "8 of 8 documents from number 3 on" in found.way


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Made("exact_match", math.nan, [1.0]), "gqa has exact_match=nan, which is no number"),
        (Made("exact_match", None, [1.0]), "gqa has exact_match=None, which is no number"),
        (Made("exact_match", 0.5, [1.0, math.nan]), "a sample of gqa has exact_match=nan"),
        (Made("accuracy", 0.5, [1.0]), "gqa has no exact_match; of numbers it has accuracy,none"),
    ],
)
def test_what_is_no_score(tmp_path: Path, made: Made, message: str) -> None:
    write_lmms(tmp_path, {"gqa": made})
    found = scores(tmp_path)["GQA"]
    assert found.value is None and found.remark == f"no score: {message}"


def test_without_samples_there_is_no_interval(tmp_path: Path) -> None:
    write_lmms(tmp_path, {"gqa": VALUES}, samples=False)
    found = scores(tmp_path)["GQA"]
    assert found.value == 50 and found.mean is None
    assert found.remark == "no interval, for want of --log_samples"


def test_another_prompt_is_told(tmp_path: Path) -> None:
    write_lmms(tmp_path / "a", {"gqa": VALUES._replace(suffix=" Answer:")})
    assert scores(tmp_path / "a")["GQA"].remark == f"asked without {SHORT!r} behind the question"
    write_lmms(tmp_path / "b", {"gqa": VALUES})
    ways = {scores(tmp_path / name)["GQA"].way for name in "ab"}
    # Of the made configurations; lmms-eval's have the prompt in them.
    assert len(ways) == 1


def test_other_settings_are_another_way(tmp_path: Path) -> None:
    ways = set()
    for name, change in {"a": {}, "b": {"generation_kwargs": {"max_new_tokens": 1}}}.items():
        folder = write_lmms(tmp_path / name, {"gqa": VALUES})
        file = folder / f"{DATE}_results.json"
        record = json.loads(file.read_text())
        record["configs"]["gqa"] |= change
        file.write_text(json.dumps(record))
        ways.add(scores(tmp_path / name)["GQA"].way)
    assert len(ways) == 2


def test_samples_of_another_model(tmp_path: Path) -> None:
    folder = write_lmms(tmp_path / "a", {"gqa": VALUES})
    other = write_lmms(tmp_path / "b", {"gqa": Made("exact_match", 1.0, [1.0] * 8)})
    name = f"{DATE}_samples_gqa.jsonl"
    (folder / name).write_bytes((other / name).read_bytes())
    with pytest.raises(ValueError, match=r"_samples_gqa.jsonl: its samples make 1, and .* has 0.5"):
        scores(tmp_path / "a")


def test_broken_files(tmp_path: Path) -> None:
    folder = write_lmms(tmp_path, {"gqa": VALUES})
    file, samples = folder / f"{DATE}_results.json", folder / f"{DATE}_samples_gqa.jsonl"
    text = samples.read_text()
    samples.write_text("".join(text.splitlines(keepends=True)[:3]))
    with pytest.raises(ValueError, match=r"gqa.jsonl: 3 samples of 8 documents that .* has; run"):
        scores(tmp_path)
    samples.write_text(text[:-20])
    with pytest.raises(ValueError, match=r"_samples_gqa.jsonl, line 8: not JSON"):
        scores(tmp_path)
    samples.write_text(text.replace('"exact_match": 1.0', '"exact_match": {"a": 1}'))
    with pytest.raises(ValueError, match=r"exact_match is not as lmms-eval's gqa writes it \(Type"):
        scores(tmp_path)
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"n-samples": {}}))
    with pytest.raises(ValueError, match=r"_results.json: no gqa in its n-samples; run it again"):
        scores(tmp_path)
    file.write_text(json.dumps(record)[:400])
    with pytest.raises(ValueError, match=r"_results.json: not JSON"):
        scores(tmp_path)
    file.write_text('{"overall_acc": 0.5}')
    with pytest.raises(ValueError, match=r"_results.json: not as a run writes it: results: Field"):
        scores(tmp_path)


def test_what_is_not_shown_is_named(tmp_path: Path) -> None:
    """Files that tasks submit, called results too, are none."""
    folder = write_lmms(tmp_path, {"gqa": VALUES, "mmmu_val": VALUES})
    (folder / "mmbench_en_dev_static_results.json").write_text('{"overall_acc": 0.5}')
    (file,) = lmms_results_files(tmp_path)
    found, left = read_scores(file, read_evaluation("evaluation/llava15"))
    assert [score.title for score in found] == ["GQA"]
    assert left == f"{file}: not in the recipe, and not shown: mmmu_val"
