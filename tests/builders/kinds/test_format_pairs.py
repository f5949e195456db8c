"""Pairs without a judge: what a verifier accepts against what it refuses, plain or sampled."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.builder import Model
from tests.helpers.data_recipes import COCO, PROMPTS, instructions, real_data
from tests.helpers.data_recipes import recipe as format_recipe
from tests.helpers.endpoint_server import Server, images, prompt
from tests.helpers.obeying import obey
from tests.helpers.preference import pairs
from verbalizer_bench.builders.build import build, dry_run
from verbalizer_bench.builders.filters.verifiers import verify
from verbalizer_bench.builders.pipeline.recipe import DataRecipe, read_recipe
from verbalizer_bench.builders.pipeline.sample import TrainingSample, read_samples

# An instruction of the evaluation data.
LEAK = (
    "You are a helpful assistant judging the sentiment of a movie review. If the movie review is "
    "positive, you need to output"
)


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the samples of a format-oriented set whose items are the same with and without."""
    real_data()
    folder = tmp_path_factory.mktemp("items")
    with pytest.MonkeyPatch.context() as patch, Server(Model(instructions())) as server:
        patch.setenv("OPENAI_API_KEY", "sk-test")
        made = format_recipe(folder, server.url, "limit=24", "captions=null", "pairing=same_items")
        build(made)
    return made.work / "accepted.jsonl"


def recipe(folder: Path, samples: Path, **changes: Any) -> DataRecipe:
    keys = {
        "kind": "format_pairs",
        "output": str(folder / "out"),
        "prompts": str(PROMPTS / "format_oriented.yaml"),
        "samples": str(samples),
        "images": str(COCO / "images"),
        "leakage": {"data": "sample"},
        "licence": "COCO's.",
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(keys | changes))
    return read_recipe(path)


def items(samples: Path) -> dict[str, TrainingSample]:
    return {sample.id: sample for sample in read_samples(samples)}


def obeys(sample: TrainingSample, answer: str) -> bool:
    assert sample.instruction
    asked = sample.instruction
    return verify(asked.type, asked.arguments, sample.turns[0].question, answer)


def test_the_plain_answer_is_refused_and_the_formatted_one_accepted(
    accepted: Path, tmp_path: Path
) -> None:
    made = recipe(tmp_path, accepted)
    built = build(made)
    known = items(accepted)
    formatted = [sample for sample in known.values() if sample.instruction]
    assert built.usage.calls == 0 and "No model is asked" in dry_run(made)
    for name in ("fovit", "foit"):
        found = {pair.id.removesuffix(f"-{name}"): pair for pair in pairs(made, f"pairs_{name}")}
        assert set(found) == {
            sample.id
            for sample in formatted
            if not obeys(sample, known[str(sample.pair)].turns[0].answer)
        }
        assert len(found) > 10
        for key, pair in found.items():
            item = known[key]
            assert item.instruction
            assert pair.chosen[0].content == item.turns[0].answer
            assert pair.rejected[0].content == known[str(item.pair)].turns[0].answer
            assert item.instruction.text.strip() in pair.prompt[0].content
            assert (str(item.caption) in pair.prompt[0].content) == (name == "foit")
            assert pair.images == ([item.image] if name == "fovit" else [])
    report = (made.output / "report.md").read_text()
    rejected = [sample for sample in built.sets.rejected if sample.rejection] if built.sets else []
    assert all(sample.rejection and sample.rejection.reason == "accepted" for sample in rejected)
    assert "No model was asked." in report


def test_a_set_without_plain_answers_is_refused_with_the_way_out(
    accepted: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in accepted.read_text().splitlines()]
    alone = tmp_path / "accepted.jsonl"
    alone.write_text("".join(json.dumps({**line, "pair": None}) + "\n" for line in lines))
    with pytest.raises(ValueError, match=r"pairing=same_items, or give rejected=sampled"):
        build(recipe(tmp_path, alone))
    plain = [line for line in lines if "instruction" not in line]
    alone.write_text("".join(json.dumps(line) + "\n" for line in plain))
    with pytest.raises(ValueError, match="no sample has an instruction"):
        build(recipe(tmp_path, alone))
    with pytest.raises(FileNotFoundError, match=r"give accepted\.jsonl in the work folder"):
        build(recipe(tmp_path, tmp_path / "nowhere.jsonl"))


def test_sampled_completions_are_sorted_by_the_verifier(
    accepted: Path, serve: Callable[..., Server], tmp_path: Path
) -> None:
    known = {sample.turns[0].question: sample for sample in items(accepted).values()}
    formatted = [sample for sample in items(accepted).values() if sample.instruction]

    def answer(body: dict[str, Any]) -> str:
        """Obey with every second seed; never for one item, always for one, leak for one."""
        asked = prompt(body)
        item = next(
            sample
            for sample in formatted
            if sample.turns[0].question in asked and sample.instruction
        )
        place, number = formatted.index(item), body["seed"]
        if place == 2:
            return LEAK
        if place == 1 or (place != 0 and number % 2):
            assert item.instruction
            kind, arguments = item.instruction.type, item.instruction.arguments
            return obey(kind, arguments, item.turns[0].question, f"number {number}")
        return f"Just words and the number {number}"

    server = serve(answer)
    endpoint = {"model": "answerer", "base_url": server.url, "parameters": {"temperature": 1.0}}
    made = recipe(
        tmp_path,
        accepted,
        chosen="sampled",
        rejected="sampled",
        prompted="fovit",
        endpoints={"completion": endpoint},
        completions={"k": 8},
    )
    assert f"{8 * len(formatted):,}" in dry_run(made)
    built = build(made)
    assert built.usage.calls == 8 * len(formatted)
    assert all(len(images(one.body)) == 1 for one in server.requests)
    found = {pair.id.removesuffix("-fovit"): pair for pair in pairs(made, "pairs_fovit")}
    by_id = {sample.id: sample for sample in known.values()} | items(accepted)
    assert found
    for key, pair in found.items():
        assert obeys(by_id[key], pair.chosen[0].content)
        assert not obeys(by_id[key], pair.rejected[0].content)
    said = {
        sample.id.removesuffix("-fovit"): sample.rejection.reason
        for sample in (built.sets.rejected if built.sets else ())
        if sample.rejection
    }
    assert said.pop(formatted[0].id) == "refused"
    assert said.pop(formatted[1].id) == "accepted"
    # The set's own answer could be used; none of those that were sampled can.
    assert said.pop(formatted[2].id) == "leakage"
    assert len(found) + len(said) + 3 == len(formatted)


def test_sampled_completions_about_images_need_the_images(accepted: Path, tmp_path: Path) -> None:
    endpoint = {"model": "answerer", "parameters": {"temperature": 1.0}}
    with pytest.raises(ValueError, match="images: missing"):
        recipe(
            tmp_path, accepted, rejected="sampled", endpoints={"completion": endpoint}, images=None
        )


def test_completions_need_an_endpoint_with_a_temperature(accepted: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"endpoints\.completion: missing"):
        recipe(tmp_path, accepted, rejected="sampled")
    with pytest.raises(ValueError, match=r"endpoints\.completion\.parameters\.temperature"):
        recipe(
            tmp_path, accepted, rejected="sampled", endpoints={"completion": {"model": "answerer"}}
        )
