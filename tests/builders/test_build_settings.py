"""Limits, stages alone, budgets, failures, prompts that change, and what is written beside sets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from tests.helpers.builder import Model
from tests.helpers.data_recipes import COCO, instructions, real_data, recipe
from tests.helpers.endpoint_server import Server, images, prompt
from verbalizer_bench.builders.build import build
from verbalizer_bench.builders.pipeline.sample import read_samples


@pytest.fixture(scope="module")
def model() -> Model:
    real_data()
    return Model(instructions())


def test_limit_is_the_beginning_of_the_whole(
    model: Model, serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(model)
    small = build(recipe(tmp_path, server.url, "limit=10"))
    assert small.sets and len(small.sets.accepted) == 10
    mark = len(server.requests)
    large = build(recipe(tmp_path, server.url, "limit=20"))
    assert large.sets and large.sets.accepted[:10] == small.sets.accepted
    # What the small one asked was stored; the large one asked as much again.
    assert len(server.requests) == 2 * mark and large.usage.cached == mark
    beyond = build(recipe(tmp_path, server.url, "limit=120"))
    assert beyond.sets and sum(sample.id.startswith("c") for sample in beyond.sets.accepted) == 2


def test_every_stage_alone(model: Model, serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(model)
    whole = recipe(tmp_path / "whole", server.url, "limit=8")
    build(whole)
    expected = {file.name: file.read_bytes() for file in whole.work.glob("?_*.jsonl")}
    assert list(sorted(expected)) == [
        "1_images.jsonl",
        "2_captions.jsonl",
        "3_instructions.jsonl",
        "4_items.jsonl",
        "5_check.jsonl",
    ]
    folder = tmp_path / "alone"
    with pytest.raises(FileNotFoundError, match=r"1_images.jsonl: no such file; run stage=images"):
        build(recipe(folder, server.url, "limit=8", "stage=captions"))
    with pytest.raises(FileNotFoundError, match=r"5_check.jsonl: no such file; run stage=check"):
        build(recipe(folder, server.url, "limit=8", "stage=sets"))
    with pytest.raises(ValueError, match="stage=caption: no such stage; did you mean captions"):
        build(recipe(folder, server.url, "limit=8", "stage=caption"))
    for name in ("images", "captions", "instructions", "items", "check"):
        made = recipe(folder, server.url, "limit=8", f"stage={name}")
        (file,) = build(made).files
        assert file.read_bytes() == expected[file.name]
        assert not (made.output / "fovit.json").exists()
    made = recipe(folder, server.url, "limit=8", "stage=sets")
    build(made)
    for name in ("fovit.json", "report.md", "README.md"):
        assert (made.output / name).read_bytes() == (whole.output / name).read_bytes()


def test_the_budget_stops_it_and_more_goes_on(
    model: Model, serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(model)
    tokens = 40_000
    # An estimate must not be below what the server counts.
    block = "endpoints.default.image_tokens=9000"
    with pytest.raises(
        ValueError, match=r"stopped: budget.tokens=40,000.*raise the budget"
    ) as stop:
        build(recipe(tmp_path, server.url, "captions=null", f"budget.tokens={tokens}", block))
    assert "\n" not in str(stop.value)
    mark = len(server.requests)
    assert mark > 0
    usage = [json.loads(line) for line in _calls(tmp_path)]
    assert (
        sum(sum(row["usage"][name] for name in ("input_tokens", "output_tokens")) for row in usage)
        <= tokens
    )
    built = build(recipe(tmp_path, server.url, "captions=null"))
    assert built.sets and len(built.sets.accepted) == 118
    assert len({asked.hash for asked in server.requests}) == len(server.requests)


def _calls(folder: Path) -> list[str]:
    path = folder / "data/format_oriented/calls.jsonl"
    return path.read_text().splitlines()[1:]


@pytest.mark.parametrize("failures", ["stop", "set_aside"])
def test_calls_that_fail_for_good(
    failures: str, model: Model, serve: Callable[..., Server], tmp_path: Path
) -> None:
    broken = [True]

    def answer(body: dict[str, Any]) -> Any:
        if broken[0] and images(body) and len(images(body)[0]) % 10 == 0:
            return web.Response(status=500)
        return model(body)

    server = serve(answer)
    overrides = ("limit=30", "endpoints.default.retries=1", f"failures={failures}")
    if failures == "stop":
        with pytest.raises(ValueError, match=r"of 30 calls failed, the first: caption: tester at"):
            build(recipe(tmp_path, server.url, *overrides))
        broken[0] = False
        mark = len(server.requests)
        built = build(recipe(tmp_path, server.url, *overrides))
        assert built.sets and len(built.sets.accepted) == 30
        asked_again = [one for one in server.since(mark) if images(one.body)]
        assert 0 < len(asked_again) < 10
        return
    built = build(recipe(tmp_path, server.url, *overrides))
    assert built.sets and built.sets.rejected
    assert {sample.rejection.reason for sample in built.sets.rejected if sample.rejection} == {
        "failed"
    }


def test_requests_that_the_server_rejects_are_rejected(
    model: Model, serve: Callable[..., Server], tmp_path: Path
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if images(body) and len(images(body)[0]) % 10 == 0:
            return web.json_response({"error": {"message": "content policy"}}, status=400)
        return model(body)

    built = build(recipe(tmp_path, serve(answer).url, "limit=30"))
    assert built.sets and built.sets.rejected
    for sample in built.sets.rejected:
        assert sample.rejection and sample.rejection.reason == "rejected"
        assert "content policy" in sample.rejection.detail


def test_another_prompt_asks_again_for_what_depends_on_it_alone(
    model: Model, serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(model)
    made = recipe(tmp_path, server.url, "limit=10")
    build(made)
    mark = len(server.requests)
    prompts = yaml.safe_load(made.prompts.read_text())
    prompts["version"] = "next"
    prompts["prompts"]["answer"]["user"] += "\nBe brief."
    (tmp_path / "prompts.yaml").write_text(yaml.safe_dump(prompts))
    again = build(recipe(tmp_path, server.url, "limit=10", f"prompts={tmp_path / 'prompts.yaml'}"))
    asked = server.since(mark)
    assert len(asked) == 5 and all("Be brief." in prompt(one.body) for one in asked)
    assert again.usage.cached == mark - 5
    line = json.loads((made.output / "nofovit.provenance.jsonl").read_text().splitlines()[0])
    assert line["prompts"]["version"] == "next"


def test_captions_of_the_annotations_need_no_model_that_sees(
    model: Model, serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(model)
    file = COCO / "captions_val2014_subset.json"
    block = {"folder": str(COCO / "images"), "annotations": str(file), "captions": True, "n": 20}
    built = build(recipe(tmp_path, server.url, captions=None, images=block))
    assert built.sets and len(built.sets.accepted) == 20
    assert not any(images(asked.body) for asked in server.requests)


def test_sets_hold_so_many_and_the_report_says_how_many_are_left(
    model: Model, serve: Callable[..., Server], tmp_path: Path
) -> None:
    made = recipe(tmp_path, serve(model).url, "limit=20", "sets=6")
    build(made)
    assert len(json.loads((made.output / "fovit.json").read_text())) == 6
    report = (made.output / "report.md").read_text()
    assert "Accepted and in no set, for they are full: 8." in report
    assert "20 records: 20 accepted, 0 set aside" in report
    assert "| all | " in report and "## Yield by instruction" in report
    from PIL import Image

    assert Image.open(made.output / "report.png").size > (800, 300)


def test_the_card_names_models_and_terms_and_loads(
    model: Model, serve: Callable[..., Server], tmp_path: Path
) -> None:
    import datasets

    made = recipe(tmp_path, serve(model).url, "limit=8")
    build(made)
    card = (made.output / "README.md").read_text()
    assert "COCO's." in card and "tester-served" in card and "pairing: disjoint" in card
    assert "the terms of their providers" in card
    # Of samples nobody shall read that the data themselves were looked at.
    assert "a prompt of the evaluation data (the embedded samples alone), nor a shorter" in card
    head = yaml.safe_load(card.split("---")[1])
    assert [one["config_name"] for one in head["configs"]] == ["fovit", "foit", "nofovit", "nofoit"]
    # The folder itself is a data set, by the card's head.
    table = datasets.load_dataset(
        str(made.output), "nofoit", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert table.to_list() == json.loads((made.output / "nofoit.json").read_text())


def test_it_is_uploaded_only_where_the_recipe_says_so(
    model: Model, serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    done: list[tuple[str, dict[str, Any]]] = []

    class Api:
        def create_repo(self, name: str, **others: Any) -> None:
            done.append((name, others))

        def upload_folder(self, **others: Any) -> None:
            done.append((others["repo_id"], others))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    server = serve(model)
    build(recipe(tmp_path, server.url, "limit=4"))
    assert not done
    build(recipe(tmp_path, server.url, "limit=4", "push_to_hub=true", "hub_id=me/fovit"))
    assert [name for name, _ in done] == ["me/fovit", "me/fovit"] and done[0][1]["private"]
    patterns = done[1][1]["allow_patterns"]
    assert "fovit.json" in patterns and "README.md" in patterns
    assert not any("calls" in pattern or "format_oriented" in pattern for pattern in patterns)


def test_the_bar_has_records_a_minute_rejected_and_spent(
    model: Model, serve: Callable[..., Server], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    build(recipe(tmp_path, serve(model).url, "limit=10"))
    last = [
        line for line in capfd.readouterr().err.replace("\r", "\n").split("\n") if "check" in line
    ][-1]
    assert "10/10" in last and "records/min, 0 rejected" in last and "tokens" in last
    assert "spent" in last


def test_evaluation_data_that_is_not_there_is_said_before_any_call(
    model: Model, serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(model)
    with pytest.raises(FileNotFoundError, match="no such folder; give hub, sample or a folder"):
        build(recipe(tmp_path, server.url, f"leakage.data={tmp_path / 'none'}"))
    assert not server.requests


def test_no_key_turns_up_in_any_file(
    model: Model, serve: Callable[..., Server], tmp_path: Path, key: str
) -> None:
    server = serve(model)
    build(recipe(tmp_path, server.url, "limit=6"))
    assert {asked.key for asked in server.requests} == {key}
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or key.encode() not in file.read_bytes(), file


def test_rows_of_every_stage_are_all_there(
    model: Model, serve: Callable[..., Server], tmp_path: Path
) -> None:
    made = recipe(tmp_path, serve(model).url, "limit=12")
    build(made)
    for file in sorted(made.work.glob("?_*.jsonl")):
        assert len(read_samples(file)) == 12, file


def test_captions_of_a_file_are_checked_before_they_are_asked_about(
    model: Model, serve: Callable[..., Server], tmp_path: Path
) -> None:
    """Both those that stand in for a model's, and those that enter with their images."""
    names = sorted(path.name for path in (COCO / "images").iterdir())[:4]
    texts = (
        "A dog lies on a red bench.",
        "I'm sorry, but I can't help with that.",
        "A dog and the",
    )
    texts = (*texts, "<think>A dog.</think> A dog lies there.")
    file = tmp_path / "captions.jsonl"
    lines = (
        json.dumps({"image": name, "caption": text})
        for name, text in zip(names, texts, strict=True)
    )
    file.write_text("\n".join(lines))
    server = serve(model)
    block = {"folder": str(COCO / "images"), "annotations": str(file), "captions": True}
    made = recipe(tmp_path, server.url, images=block, captions={"file": str(file)})
    built = build(made)
    assert built.sets and {sample.caption for sample in built.sets.accepted} == {texts[0]}
    rejected = [sample.rejection[:2] for sample in built.sets.rejected if sample.rejection]
    # The good one enters as well, with the same question.
    kept_out = sorted(one for one in rejected if one != ("check", "duplicate"))
    kinds = ("cut_off", "refusal", "thoughts")
    assert kept_out == [(stage, kind) for stage in ("captions", "instructions") for kind in kinds]
    assert not any("sorry" in prompt(one.body) for one in server.requests)
