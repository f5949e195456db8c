"""300 records through all stages, with a server that misbehaves; killed, and restarted."""

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.builder import Model
from tests.helpers.data_recipes import instructions, real_data, recipe
from tests.helpers.endpoint_server import Faults, Server
from tests.helpers.kills import killed_at
from verbalizer_bench.builders.build import Built, build
from verbalizer_bench.builders.filters.verifiers import verify
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import TrainingSample, read_samples

SHARES = {
    "sloppy": 0.15,
    "defiant": 0.05,
    "mention": 0.06,
    "curious": 0.04,
    "chatty": 0.04,
    "silent": 0.02,
    "stubborn": 0.02,
    "leak": 0.03,
    "twin": 0.04,
    "unseen": 0.04,
}
FAULTS = Faults(
    seed=5,
    rate_limited=0.04,
    error=0.04,
    slow=0.02,
    cut=0.03,
    garbled=0.02,
    empty=0.01,
    refused=0.03,
    retry_after="0.05",
    slow_seconds=0.2,
)
SETS = ("fovit", "foit", "nofovit", "nofoit")


@pytest.fixture(scope="module")
def model() -> Model:
    real_data()
    return Model(instructions(), SHARES)


@pytest.fixture(scope="module")
def undisturbed(
    model: Model, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DataRecipe, Built, Server]:
    """Build once, with faults and no kills."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch, Server(model, FAULTS, delay=0.01) as server:
        patch.setenv("OPENAI_API_KEY", "sk-test")
        made = recipe(folder, server.url)
        return made, build(made), server


def outputs(made: DataRecipe) -> dict[str, bytes]:
    """Return what must be the same in builds that are to be identical."""
    files = [*made.output.glob("*.*"), *made.work.glob("*.jsonl"), made.work / "stages.json"]
    return {file.name: file.read_bytes() for file in files if file.name != "calls.jsonl"}


def calls(made: DataRecipe) -> list[dict[str, Any]]:
    lines = (made.work / "calls.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def answered(server: Server) -> int:
    return sum(asked.outcome in ("ok", "slow") for asked in server.requests)


def reasons(samples: Any) -> Counter[str]:
    return Counter(sample.rejection.reason for sample in samples)


def test_every_record_is_accepted_or_rejected(
    undisturbed: tuple[DataRecipe, Built, Server],
) -> None:
    made, built, _ = undisturbed
    accepted, rejected = (read_samples(made.work / f"{n}.jsonl") for n in ("accepted", "set_aside"))
    ids = [sample.id for sample in accepted + rejected]
    assert len(ids) == len(set(ids)) == 300
    assert built.sets and len(built.sets.accepted) == len(accepted)
    assert all(sample.rejection is None for sample in accepted)
    assert all(sample.rejection and sample.rejection.detail for sample in rejected)
    counted = reasons(rejected)
    for reason in ("format", "refusal", "empty", "leakage", "duplicate"):
        assert counted[reason], counted
    # Mentions and chatter are mended by an attempt that names them.
    assert not counted["mention"] and not counted["unparsable"]
    assert len(accepted) > 200


def test_what_was_accepted_obeys(undisturbed: tuple[DataRecipe, Built, Server]) -> None:
    _, built, _ = undisturbed
    assert built.sets
    formatted = [sample for sample in built.sets.accepted if sample.arm == "format"]
    assert formatted and all(sample.verified for sample in formatted)
    for sample in formatted:
        assert sample.instruction
        turn = sample.turns[0]
        asked = sample.instruction
        assert verify(asked.type, asked.arguments, turn.question, turn.answer)
    for sample in built.sets.accepted:
        assert "caption" not in f"{sample.turns}" and "description" not in f"{sample.turns}"
    mended = [
        sample for sample in formatted if len([a for a in sample.attempts if a.role == "item"]) > 1
    ]
    assert any("format:" in str(sample.attempts[-2].problem) for sample in mended)
    assert all(sample.attempts[-1].problem is None for sample in built.sets.accepted)


def test_no_call_is_repeated_after_success(
    undisturbed: tuple[DataRecipe, Built, Server],
) -> None:
    made, built, server = undisturbed
    # The same body twice is another attempt; its key has another n.
    keys = [sample["key"] for sample in calls(made)]
    assert len(keys) == len(set(keys)) == answered(server) == built.usage.calls
    assert server.peak <= 16
    outcomes = Counter(asked.outcome for asked in server.requests)
    assert all(outcomes[kind] for kind in ("rate_limited", "error", "cut", "garbled", "slow"))


def test_a_second_run_asks_nothing_and_changes_nothing(
    undisturbed: tuple[DataRecipe, Built, Server],
) -> None:
    made, built, _ = undisturbed
    before = outputs(made)
    again = build(made)  # the server is gone
    assert again.usage.calls == again.usage.cached == 0
    assert again.sets == built.sets
    assert outputs(made) == before


def test_the_sets_are_training_records(undisturbed: tuple[DataRecipe, Built, Server]) -> None:
    from verbalizer_bench.io.conversation_files import read_records
    from verbalizer_bench.io.conversations import Conversation

    made, built, _ = undisturbed
    assert built.sets
    samples: dict[str, list[TrainingSample]] = {
        arm: [sample for sample in built.sets.accepted if sample.arm == arm]
        for arm in ("format", "plain")
    }
    for name in SETS:
        records = list(read_records(made.output / f"{name}.json"))
        assert all(isinstance(record, Conversation) for record in records)
        of_arm = samples["plain" if name.startswith("no") else "format"]
        assert [record.id for record in records] == [sample.id for sample in of_arm]
        for record, sample in zip(records, of_arm, strict=True):
            assert isinstance(record, Conversation)
            (asked, answered) = record.messages
            assert answered.text == sample.turns[0].answer
            assert sample.turns[0].question in asked.text
            assert record.images == ((sample.image,) if name.endswith("vit") else ())
            assert asked.text.startswith(f"{sample.caption}\n") == name.endswith("foit")
            if sample.instruction:
                assert sample.instruction.text.strip() in asked.text


@pytest.mark.parametrize("name", SETS)
def test_the_sets_load_in_datasets(
    undisturbed: tuple[DataRecipe, Built, Server], name: str, tmp_path: Path
) -> None:
    import datasets

    made, _, _ = undisturbed
    file = made.output / f"{name}.json"
    table = datasets.load_dataset(
        "json", data_files=str(file), split="train", cache_dir=str(tmp_path)
    )
    assert table.to_list() == json.loads(file.read_text())


def test_every_record_has_its_provenance(undisturbed: tuple[DataRecipe, Built, Server]) -> None:
    made, _, _ = undisturbed
    stored = {sample["key"] for sample in calls(made)}
    for name in SETS:
        records = json.loads((made.output / f"{name}.json").read_text())
        lines = (made.output / f"{name}.provenance.jsonl").read_text().splitlines()
        for record, line in zip(records, map(json.loads, lines), strict=True):
            assert line["id"] == record["id"]
            assert line["prompts"]["version"] == "2"
            assert line["models"] == ["tester-served"]
            assert {attempt["key"] for attempt in line["attempts"]} <= stored
            assert (line["instruction"] is None) == name.startswith("no")
            assert line["image_sha256"] or record["id"].startswith("c")


def test_killed_and_restarted_ten_times_it_ends_in_the_same_files(
    undisturbed: tuple[DataRecipe, Built, Server],
    model: Model,
    serve: Callable[..., Server],
    tmp_path: Path,
) -> None:
    server = serve(model, FAULTS, delay=0.01)
    made = recipe(tmp_path, server.url)
    moments = random.Random(3)
    for _ in range(10):
        at = moments.randint(10, 75)
        assert killed_at(server, at, lambda: build(made)), "it was done too early"
    build(made)
    # What was under way at a kill was answered and is not stored; all else is asked once.
    assert answered(server) - len(calls(made)) <= 16 * 10
    keys = [sample["key"] for sample in calls(made)]
    assert len(keys) == len(set(keys))
    assert outputs(made) == outputs(undisturbed[0])


@pytest.mark.parametrize("pairing", ["disjoint", "same_items"])
def test_pairing(pairing: str, model: Model, serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(model)
    made = recipe(tmp_path, server.url, "limit=60", "captions=null", f"pairing={pairing}")
    built = build(made)
    assert built.sets
    by_arm: Mapping[str, list[TrainingSample]] = {
        arm: [sample for sample in built.sets.accepted if sample.arm == arm]
        for arm in ("format", "plain")
    }
    images = {arm: [sample.image for sample in samples] for arm, samples in by_arm.items()}
    total = len(built.sets.accepted) + len(built.sets.rejected)
    if pairing == "disjoint":
        assert total == 60 and not set(images["format"]) & set(images["plain"])
        return
    assert total == 120 and images["format"] == images["plain"]
    for one, other in zip(by_arm["format"], by_arm["plain"], strict=True):
        assert one.turns[0].question == other.turns[0].question
        assert one.caption == other.caption and one.pair == other.id
        assert one.turns[0].answer != other.turns[0].answer
    assert reasons(built.sets.rejected)["pair"]
