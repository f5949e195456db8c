"""Once against a real model server on this machine: `transformers serve`, with tiny checkpoints.

A Llama of 150,000 weights learns by heart what to say to three quarters of the prompts; what it
says to the others, and what a LLaVA of random weights says of photographs, comes as it comes.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.builder import about, question
from tests.helpers.checkpoints import clone
from tests.helpers.data_recipes import COCO, PROMPTS, real_data, recipe
from tests.helpers.endpoint_server import Server
from tests.helpers.model_server import needs_server, serving
from tests.helpers.obeying import obey
from tests.helpers.preference import Assistant, photographs, questions, rated
from tests.helpers.preference import recipe as preference_recipe
from verbalizer_bench.builders.build import build
from verbalizer_bench.builders.kinds.items import schema
from verbalizer_bench.builders.pipeline.prompts import read_prompts
from verbalizer_bench.builders.pipeline.recipe import DataRecipe
from verbalizer_bench.builders.pipeline.sample import TrainingSample, read_samples
from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.protocol import Request, body

pytestmark = pytest.mark.slow
STEPS = 700


def short_prompts(folder: Path) -> Path:
    """Write prompts that a tiny model has room for; the wording is a recipe's to choose."""
    prompts = yaml.safe_load((PROMPTS / "format_oriented.yaml").read_text())
    prompts["prompts"] = {
        "caption": {"user": "Say what you see."},
        "item": {"user": "{caption} {instruction} Ask and answer."},
        "question": {"user": "{caption} Ask."},
        "answer": {"user": "{caption} {question} Answer."},
    }
    path = folder / "prompts.yaml"
    path.write_text(yaml.safe_dump(prompts))
    return path


def lessons(
    samples: list[TrainingSample], endpoint: Endpoint, prompts: Path
) -> list[tuple[Any, str]]:
    """Return the messages that the server is sent, as it is sent them, with what to say."""
    told, pairs = read_prompts(prompts, {}), []

    def learn(role: str, values: dict[str, str], form: Any, say: Any) -> None:
        request = Request(role, told.messages(role, values), form)
        text = say if isinstance(say, str) else json.dumps(say)
        pairs.append((body(request, endpoint, "none")["messages"], text))

    for sample in samples:
        values = {"caption": str(sample.caption)}
        asks = question(str(sample.caption), "good")
        if sample.instruction:
            kind, arguments = sample.instruction.type, sample.instruction.arguments
            answer = obey(kind, arguments, asks, about(str(sample.caption)))
            values["instruction"] = sample.instruction.text
            form = schema("question", "answer")
            learn("item", values, form, {"question": asks, "answer": answer})
        else:
            learn("question", values, schema("question"), {"question": asks})
            values["question"] = asks
            learn("answer", values, None, f"There is {about(str(sample.caption))}.")
    return pairs


def teach(pairs: list[tuple[Any, str]], folder: Path) -> None:
    """Train a Llama on them, by heart."""
    import torch

    from tests.helpers.toy import EOS, make_llm, make_tokenizer

    tokenizer = make_tokenizer([f"{messages} {said}" for messages, said in pairs])
    model = make_llm(tokenizer, seed=0)
    model.config.max_position_embeddings = 2048
    samples = []
    for messages, said in pairs:
        asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        before = tokenizer(asked)["input_ids"]
        after = tokenizer(f" {said}{EOS}", add_special_tokens=False)["input_ids"]
        samples.append((before + after, len(before)))
    longest = max(len(ids) for ids, _ in samples)
    ids = torch.zeros(len(samples), longest, dtype=torch.long)
    labels = torch.full((len(samples), longest), -100)
    for place, (tokens, start) in enumerate(samples):
        ids[place, : len(tokens)] = torch.tensor(tokens)
        labels[place, start : len(tokens)] = ids[place, start : len(tokens)]
    weights = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.OneCycleLR(weights, max_lr=4e-3, total_steps=STEPS)
    order = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        chosen = torch.randperm(len(samples), generator=order)[:12]
        loss = model(input_ids=ids[chosen], labels=labels[chosen]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        weights.step()
        weights.zero_grad()
        rate.step()
    print(f"the Llama's last loss: {loss.item():.4f}")
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def verified_again(sample: TrainingSample) -> bool:
    """Verify an answer by lm-eval itself, without the builders' code."""
    from lm_eval.tasks.ifeval.utils import InputExample
    from lm_eval.tasks.ifeval.utils import test_instruction_following_strict as strict

    assert sample.instruction
    given = [dict(sample.instruction.arguments)]
    example = InputExample(0, [sample.instruction.type], sample.turns[0].question, given)
    return bool(strict(example, sample.turns[0].answer).follow_all_instructions)


def made(folder: Path, url: str, models: tuple[Path, Path], *overrides: str) -> DataRecipe:
    llama, llava = models
    common = {
        "base_url": url,
        "key_variable": "",
        "structured": "none",  # the server takes response_format and ignores it
        "concurrency": 2,
        "timeout": 300,
        "retries": 1,
    }
    block = {
        "default": {**common, "model": str(llama)},
        "caption": {**common, "model": str(llava)},
    }
    for place, name in enumerate(("default", "caption")):
        block[name]["parameters"] = {"temperature": 0, "max_tokens": (260, 12)[place]}
    return recipe(
        folder,
        url,
        *overrides,
        endpoints=block,
        prompts=str(short_prompts(folder)),
        images={"folder": str(COCO / "images"), "n": 4},
        captions={"file": str(COCO / "captions_val2014_subset.json"), "n": 24},
        retries=1,
    )


def test_every_record_ends_accepted_or_rejected(tmp_path: Path, toys: tuple[Path, Path]) -> None:
    real_data()
    llama = tmp_path / "llama"
    needs_server()
    with serving(tmp_path / "serve.log") as url:
        for stage in ("images", "captions", "instructions"):
            build(made(tmp_path, url, (llama, toys[1]), f"stage={stage}"))
        settings = made(tmp_path, url, (llama, toys[1]))
        dealt = read_samples(settings.work / "3_instructions.jsonl")
        known = [sample for sample in dealt if sample.id.startswith("c")]
        # Three quarters, of both arms.
        known = [sample for place, sample in enumerate(known) if place % 8 < 6]
        teach(lessons(known, settings.endpoints["default"], settings.prompts), llama)
        built = build(settings)
    assert built.sets
    accepted, rejected = built.sets.accepted, built.sets.rejected
    assert sorted(sample.id for sample in (*accepted, *rejected)) == sorted(
        sample.id for sample in dealt
    )
    assert all(
        sample.rejection and sample.rejection.reason and sample.rejection.detail
        for sample in rejected
    )
    formatted = [sample for sample in accepted if sample.instruction]
    assert all(verified_again(sample) for sample in formatted)
    assert len(formatted) >= 5 and len(accepted) - len(formatted) >= 5
    reasons = Counter(sample.rejection[:2] for sample in rejected if sample.rejection)
    print(
        f"{len(dealt)} records: {len(accepted)} accepted, of which {len(formatted)} with an "
        f"instruction, all verified again; {len(rejected)} set aside: {dict(reasons)}"
    )


def test_completions_of_a_served_model_are_judged_and_paired(
    toys: tuple[Path, Path], tmp_path: Path
) -> None:
    """The server samples, with and without images; a scripted judge rates."""
    needs_server()
    photographs()
    # The server samples only where the checkpoint says so, whatever temperature it is sent.
    model = clone(toys[1], tmp_path / "llava")
    settings = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps(settings | {"do_sample": True}))
    sampled = {"temperature": 1.5, "max_tokens": 8}
    with serving(tmp_path / "server.log") as url, Server(Assistant()) as judge:
        made = preference_recipe(
            tmp_path,
            judge.url,
            questions(8, True),
            f"endpoints.completion.base_url={url}",
            f"endpoints.completion.model={model}",
            f"endpoints.completion.parameters={json.dumps(sampled)}",
            "endpoints.completion.concurrency=1",
            "completions.cut_off=keep",
        )
        build(made)
    samples = read_samples(made.work / "2_completions.jsonl")
    assert sum(bool(sample.image) for sample in samples) == 4
    asked = [sample for sample in samples if sample.candidates]
    assert all(len(sample.candidates) == 4 for sample in asked) and len(asked) == 8
    assert any(len({one.text for one in sample.candidates}) > 1 for sample in asked)
    assert rated(made)
