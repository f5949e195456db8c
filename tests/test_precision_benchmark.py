"""The precision rule by hand, and its measurement on a few prompts."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import precision, precision_arms
from benchmarks.agreement import Agreement, AskedDocument, agreement, f1, f1_difference
from benchmarks.precision_arms import ENGINE, GENERATE, MeasuredModel, PrecisionArm


def test_agreement_by_hand() -> None:
    reference = [[1, 2], [3], [4], [5]]
    found = agreement(reference, [[1, 2], [3], [9], [9]], [[1, 2], [9], [4], [9]])
    assert found == Agreement(4, engine=2, generate=2, only_engine=1, only_generate=1)


@pytest.mark.parametrize(
    ("only_engine", "only_generate", "p_worse", "p_differs"),
    [
        (0, 0, 1.0, 1.0),
        (0, 5, 1 / 32, 1 / 16),
        (5, 0, 1.0, 1 / 16),
        (0, 4, 1 / 16, 1 / 8),
        (1, 2, 1 / 2, 1.0),
    ],
)
def test_mcnemar_by_hand(
    only_engine: int, only_generate: int, p_worse: float, p_differs: float
) -> None:
    found = Agreement(100, 50 + only_engine, 50 + only_generate, only_engine, only_generate)
    assert found.p_worse == pytest.approx(p_worse)
    assert found.p_differs == pytest.approx(p_differs)
    assert found.worse == (p_worse < 0.05)


def asked(label_type: str, dataset: str = "a") -> AskedDocument:
    return AskedDocument(f"{dataset}_{label_type}", dataset, label_type, "", "yes")


def test_f1_is_the_mean_of_the_label_types() -> None:
    # Three natural, six neutral, three unnatural verbalizers of two data sets.
    types = ["natural"] * 3 + ["neutral"] * 6 + ["unnatural"] * 3
    documents = [asked(kind, dataset) for dataset in "ab" for kind in types]
    natural_alone = ["yes" if document.label_type == "natural" else "no" for document in documents]
    assert f1(documents, ["yes"] * 24) == pytest.approx(1)
    assert f1(documents, natural_alone) == pytest.approx(1 / 3)
    found = f1_difference(documents, natural_alone, ["no"] * 24)
    assert found.mean == pytest.approx(1 / 3)
    assert found.low is not None and found.high is not None
    assert found.low < 1 / 3 < found.high
    assert f1_difference(documents, natural_alone, natural_alone).mean == 0


@pytest.fixture(scope="module")
def toy(toys: tuple[Path, Path]) -> MeasuredModel:
    return MeasuredModel("toy", toys[0], chat=False, documents=1)


def run(
    arm: PrecisionArm, toy: MeasuredModel, documents: list[AskedDocument], cache: Path
) -> tuple[precision_arms.Generated, list[int]]:
    done: list[int] = []
    return precision_arms.run_arm(arm, toy, documents, cache, done.append), done


def test_arms_are_kept_and_gone_on_with(
    toy: MeasuredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = precision_arms.asked_documents("sample", 1)[:4]
    plain, ours = (PrecisionArm(way, "float32", 3) for way in (GENERATE, ENGINE))
    first, done = run(plain, toy, documents, tmp_path)
    assert done == [1, 2, 3, 4] and first.cpu_seconds > 0
    (file,) = tmp_path.iterdir()
    # A process that was killed while it wrote the third.
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2]) + lines[2][:9])
    again, done = run(plain, toy, documents, tmp_path)
    assert (again.tokens, again.texts, done) == (first.tokens, first.texts, [3, 4])
    assert run(plain, toy, documents, tmp_path)[1] == []
    shared, done = run(ours, toy, documents, tmp_path)
    assert (shared.tokens, done) == (first.tokens, [1, 2, 3, 4])
    monkeypatch.setattr(precision_arms, "engine_sha256", lambda: "another")
    assert run(ours, toy, documents, tmp_path)[1] == [1, 2, 3, 4]
    assert run(plain, toy, documents, tmp_path)[1] == []


def test_the_result_is_whole(
    toy: MeasuredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the samples there is a document a task; the rule itself is tested on a real model."""
    documents = precision_arms.asked_documents("sample", 1)[::9]
    monkeypatch.setattr(precision, "asked_documents", lambda data, count: documents)
    monkeypatch.setattr(precision, "models", lambda: {"toy": toy})
    arguments = ["--data", "sample", "--dtypes", "bfloat16", "--beams", "2"]
    monkeypatch.setattr(precision.sys, "exit", lambda text: None)
    places = ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path)]
    precision.main([*arguments, *places])
    result: dict[str, Any] = json.loads((tmp_path / "precision.json").read_text())
    (part,) = result["measured"]
    row = part["precisions"]["bfloat16"]
    assert part["float32_equal"] == part["prompts"] == row["prompts"] == len(documents)
    assert row["engine"] - row["only_engine"] == row["generate"] - row["only_generate"]
    assert "| toy, 2 beams" in (tmp_path / "precision.md").read_text()


def measured(
    stories: Path, real_data: Path, documents: int, cache: Path, every: int = 1
) -> dict[str, Any]:
    """Return what the benchmark says of bfloat16 on the real model."""
    model = MeasuredModel("stories260K", stories, chat=False, documents=documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            precision,
            "asked_documents",
            lambda data, count: precision_arms.asked_documents(data, count)[::every],
        )
        part = precision.measure(model, str(real_data), 10, cache)
    print(part)
    return part


def test_the_engine_in_bfloat16_is_not_much_worse_than_generate(
    stories: Path, real_data: Path, tmp_path: Path
) -> None:
    """On few prompts, so that only what is broken is found: one in a thousand sound ones is."""
    part = measured(stories, real_data, documents=1, cache=tmp_path, every=3)
    row = part["precisions"]["bfloat16"]
    assert part["prompts"] == part["float32_equal"] == 36
    assert row["p_worse"] > 0.001, row
    assert row["engine"] > 0


@pytest.mark.slow
def test_the_engine_in_bfloat16_is_no_worse_than_generate(
    stories: Path, real_data: Path, tmp_path: Path
) -> None:
    part = measured(stories, real_data, documents=8, cache=tmp_path)
    row = part["precisions"]["bfloat16"]
    assert part["prompts"] == part["float32_equal"] == 864
    assert not row["worse"], row


@pytest.mark.smollm
def test_on_a_larger_model_too(smollm: Path, real_data: Path) -> None:
    """Half an hour where the benchmark has not run before: what it found is kept and used."""
    model = MeasuredModel("SmolLM2-135M-Instruct", smollm, chat=True, documents=2)
    part = precision.measure(model, str(real_data), 10, precision_arms.CACHE)
    print(part)
    assert not part["precisions"]["bfloat16"]["worse"]
