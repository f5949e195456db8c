"""Train tiny language models of the families, and the same steps by a bare loop."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from tests.helpers.chat_families import ChatFamily
from tests.helpers.families import TEXT_SIZES
from verbalizer_bench.models.chat import template as chat
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.training.inputs import encoded_data, make_collator
from verbalizer_bench.trainers.training.trainer import make_trainer, training_arguments

Turns = Sequence[tuple[str, str]]
TURNS: tuple[Turns, ...] = (
    (("user", "Is it good?"), ("assistant", "yes")),
    (("user", 'You need to output "positive" or "negative".'), ("assistant", "negative it is")),
    (("user", "Movie review: a good one\nAnswer:"), ("assistant", "positive")),
    (("user", "no"), ("assistant", "Be brief, is it 12?")),
)
STEPS = 2


def save_untrained(family: ChatFamily, folder: Path) -> Any:
    """Write a family's configuration and tokenizer; return the tokenizer."""
    tokenizer = family.tokenizer()
    sizes = {**TEXT_SIZES, **family.sizes, "vocab_size": len(tokenizer)}
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    config = AutoConfig.for_model(
        family.model_type, **{**sizes, **ids, "pad_token_id": tokenizer.pad_token_id}
    )
    config.architectures = [type(AutoModelForCausalLM.from_config(config)).__name__]
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def recipe_of(folder: Path, *words: str) -> Recipe:
    """Return a recipe of full training in float32, whose steps show all of `TURNS`."""
    data = folder / "data.jsonl"
    rows = [{"messages": [{"role": r, "content": c} for r, c in turns]} for turns in TURNS]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    settings = [
        *(f"model.config={folder / 'base'}", f"data={data}", "format=tokenizer", "max_length=512"),
        *(f"global_batch_size={len(TURNS)}", f"per_device_batch_size={len(TURNS)}"),
        *(f"num_train_epochs={STEPS}", "warmup_ratio=0", "lr_scheduler_type=constant"),
        *("max_grad_norm=1e9", "learning_rate=1e-3", "trained_parameters=null"),
        *(f"output={folder / 'out'}", f"cache={folder / 'cache'}", "seed=3"),
    ]
    return read_recipe("tiny/sft", [*settings, *words])


def trained_losses(recipe: Recipe) -> list[tuple[float, float]]:
    """Train; return loss and norm of the gradient of each step."""
    checkpoint = load(recipe)
    data = encoded_data(recipe, checkpoint, recipe.data)
    collator = make_collator(recipe, checkpoint)
    trainer = make_trainer(recipe, checkpoint, data, training_arguments(recipe), collator)
    trainer.train()
    steps = [logged for logged in trainer.state.log_history if "grad_norm" in logged]
    return [(logged["loss"], float(logged["grad_norm"])) for logged in steps]


def bare_losses(recipe: Recipe, tokenizer: Any) -> list[tuple[float, float]]:
    """Return the same of a loop that renders, masks and trains by itself, one record at a time."""
    config = AutoConfig.from_pretrained(recipe.model.config)
    torch.manual_seed(recipe.seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=0)
    samples = list(_samples(tokenizer))
    count = sum(len(answer) for _, answer in samples)
    found = []
    for _ in range(STEPS):
        total = sum(_summed(model, *sample) for sample in samples) / count
        total.backward()
        norms = [weight.grad.norm() for weight in model.parameters() if weight.grad is not None]
        found.append((float(total.detach()), float(torch.stack(norms).norm())))
        optimizer.step()
        optimizer.zero_grad()
    return found


def _summed(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return cross_entropy(logits, torch.tensor(answer), reduction="sum")


def _samples(tokenizer: Any) -> Iterator[tuple[list[int], list[int]]]:
    """Yield prompt and answer of each of `TURNS`: what the prompt's ids have not, to its ending."""
    for turns in TURNS:
        messages = [{"role": role, "content": text} for role, text in turns]
        with chat._fixed_date():
            prompt, whole = (
                tokenizer.apply_chat_template(
                    part, tokenize=True, return_dict=False, add_generation_prompt=part != messages
                )
                for part in (messages[:-1], messages)
            )
        assert whole[: len(prompt)] == prompt
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        last = max(n for n, token in enumerate(whole) if token in special)
        yield prompt, whole[len(prompt) : last + 1]
