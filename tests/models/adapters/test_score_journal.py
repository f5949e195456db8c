"""Scores are kept as responses are: a killed run goes on, and computes none twice."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from tests.helpers.asking import STORY
from tests.helpers.journals import (
    check_refuses_other_weights,
    check_went_on,
    kill_at,
    kill_command,
    open_journal,
    rows,
    writing,
)
from tests.helpers.text_tasks import write_text_tasks
from verbalizer_bench.cli import main
from verbalizer_bench.models.adapters import scoring
from verbalizer_bench.models.adapters.journal import Scored, counted, kept
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM

LONG = " and the dog was very friendly and they played all day long in the park"


def questions(count: int = 5) -> list[Instance]:
    """Return continuations of contexts; one is too long for the engine, two requests are equal."""
    asked = [
        Instance("loglikelihood", {"n": n}, (STORY[: 30 + 9 * n], ending), 0, ("q", n, 1))
        for n in range(count)
        for ending in (" yes", " no", " the park", LONG)
    ]
    return [*asked, *(Instance("loglikelihood", {}, ("x", " y"), 0, ("q", 9, 1)) for _ in range(2))]


def texts() -> list[Instance]:
    return [
        Instance("loglikelihood_rolling", {}, ((2 * STORY)[: 70 * n],), 0, ("t", n, 1))
        for n in range(6)
    ]


@pytest.fixture(scope="module", params=["llm", "lvlm"])
def model(request: pytest.FixtureRequest, toys: tuple[Path, Path]) -> Any:
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "batch_size": 2}
    if request.param == "llm":
        return VerbalizerLLM(str(toys[0]), **options, max_length=64)
    return VerbalizerLVLM(str(toys[1]), **options, image="none", max_length=64)


@pytest.mark.parametrize("kind", ["loglikelihood", "loglikelihood_rolling"])
def test_kills_at_every_kind_of_moment(model: Any, kind: str, tmp_path: Path) -> None:
    """The first, a middle and the last score; before, inside and behind its line."""
    asked = texts() if kind == "loglikelihood_rolling" else questions()
    score, last = getattr(model, kind), len(asked)
    uninterrupted = score(asked, disable_tqdm=True)
    before = model.get_model_info()["verbalizer_bench"]
    for row, part in ((1, 0.5), (2, 1), (last // 2, 0.5), (last - 1, 0.1), (last, 1)):
        folder = tmp_path / f"{row} {part}"
        written = kill_at(row, part, model, folder, lambda: score(asked, disable_tqdm=True))
        model._start_counts()
        with writing(model, open_journal(folder)):
            found = score(asked, disable_tqdm=True)
        assert flat(found) == pytest.approx(flat(uninterrupted), abs=1e-4)
        check_went_on(folder, written, last)
        # What was written is what is given back, to the last bit.
        with writing(model, open_journal(folder)):
            assert score(asked, disable_tqdm=True) == found
        record = model.get_model_info()["verbalizer_bench"]
        assert sum(record["scores"].values()) == 2 * last
        assert record["engine"] == {} and record["bos_counts"] == before["bos_counts"]
    assert kept(folder) == {"scores": last} and counted(kept(folder)) == f"{last} scores"


def flat(scores: list[Any]) -> list[float]:
    return [float(n) for score in scores for n in (score if isinstance(score, tuple) else [score])]


def test_nothing_is_computed_that_the_journal_has(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, bars, told = questions(), [], []
    with writing(model, open_journal(tmp_path)):
        first = model.loglikelihood(asked[:9], disable_tqdm=True)
    progress = scoring.progress
    monkeypatch.setattr(scoring, "progress", lambda *how: bars.append(how) or progress(*how))
    monkeypatch.setattr(model.cache_hook, "add_partial", lambda *told_: told.append(told_))
    with writing(model, open_journal(tmp_path)):
        whole = model.loglikelihood(asked, disable_tqdm=True)
    assert whole[:9] == first
    assert [bar[1:3] for bar in bars] == [(len(asked), 9)]
    scores = {request.args: score for request, score in zip(asked, whole, strict=True)}
    assert {args: score for _, args, score in told} == scores and len(told) == len(asked)
    model.model.forward, forward = None, model.model.forward
    try:
        with writing(model, open_journal(tmp_path)):
            assert model.loglikelihood(asked, disable_tqdm=True) == whole
    finally:
        model.model.forward = forward


def test_a_request_that_is_repeated_is_scored_once(model: Any, tmp_path: Path) -> None:
    """As lm-eval pads the requests of a rank."""
    (one,) = questions(0)[:1]
    for score, asked in ((model.loglikelihood, one), (model.loglikelihood_rolling, texts()[1])):
        with writing(model, open_journal(tmp_path / asked.request_type)):
            assert len(set(score([asked, asked, asked], disable_tqdm=True))) == 1
        assert len(rows(tmp_path / asked.request_type)) == 1


def test_scores_come_back_to_the_last_bit(tmp_path: Path) -> None:
    values = [-0.1, -1 / 3, -1e-300, -math.inf, -123456.789, 5e-324, -0.0]
    book = open_journal(tmp_path)
    for number, value in enumerate(values):
        book.add(str(number), questions(0)[0], Scored(value, None, "forward"))
    book.add("greedy", questions(0)[0], Scored(-0.5, False, "shared_prefix"))
    book.close()
    again = open_journal(tmp_path)
    again.close()
    assert [again.scores[str(n)].value for n in range(len(values))] == values
    assert again.scores["greedy"] == Scored(-0.5, False, "shared_prefix")


@pytest.mark.parametrize("score", ["0.5", True, None, [1.0]])
def test_a_row_whose_score_is_no_number_is_named(score: Any, tmp_path: Path) -> None:
    row = {"key": "a", "engine": "forward", "score": score}
    lines = ['{"journal": 1, "command": [], "protocol": {}}', json.dumps(row)]
    (tmp_path / "journal-0.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"journal-0\.jsonl, line 2: not what a run writes"):
        kept(tmp_path)


def test_responses_of_older_journals_keep_their_keys(tmp_path: Path) -> None:
    book = open_journal(tmp_path, versions={"task": 2.0})
    arguments = ("prompt", {"until": [], "num_beams": 10})
    asked = Instance("generate_until", {"text": "é"}, arguments, 0, ("task", 3, 1))
    digest = "62d7221962c68fff5f4a42d2121286e64e90b8ad0e0e7f3ef9b3fd00254713c7"
    assert book.keys([asked]) == [f"{digest}-1"]
    pair = ("prompt", " yes")
    kinds = ("loglikelihood", "loglikelihood_rolling", "generate_until")
    same = [Instance(kind, {"text": "é"}, pair, 0, ("task", 3, 1)) for kind in kinds]
    assert len(set(book.keys(same))) == 3
    book.close()


def test_a_run_goes_on_with_fewer_ranks_and_refuses_other_models(
    model: Any, tmp_path: Path
) -> None:
    asked = questions()
    for rank in (0, 1):
        with writing(model, open_journal(tmp_path, rank=rank, world_size=2)):
            model.loglikelihood(asked[rank:12:2], disable_tqdm=True)
    with writing(model, open_journal(tmp_path)):
        model.loglikelihood(asked, disable_tqdm=True)
    assert len(rows(tmp_path)) == len(asked)
    check_refuses_other_weights(
        model, tmp_path, lambda: model.loglikelihood(asked, disable_tqdm=True)
    )


def test_a_run_that_is_killed_and_resumed(
    toys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The whole command, with tasks of others."""
    asked = [(STORY[: 12 * n], "yes", "no") for n in range(1, 5)]
    tasks = write_text_tasks(tmp_path / "tasks", asked)
    arguments = [
        *("--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]},dtype=float32"),
        *("--tasks", tasks, "--include_path", str(tmp_path / "tasks"), "--device", "cpu"),
    ]
    killed = tmp_path / "killed"
    before = kill_command(7, 0.9, arguments, killed, monkeypatch)
    assert "an unfinished run left 6 scores in it; go on with" in capsys.readouterr().err
    assert main(["run", "--resume", str(killed)]) == 0
    for said in ("6 of 8 scores are kept, 2 are left", "0 of 4 responses are kept, 4 are left"):
        assert caplog.text.count(said) == 1
    check_went_on(killed, before, 2 * 4 + 4)
    (results,) = killed.rglob("results_*.json")
    record = json.loads(results.read_text())["config"]["verbalizer_bench"]
    assert record["engine"] == {"shared_prefix": 4} and record["responses_by_rank"] == [4]
    assert sum(record["scores"].values()) == 8
