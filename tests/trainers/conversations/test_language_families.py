"""Families of language models: what is trained of their chats, asked alike, as a bare loop does."""

import re
from pathlib import Path
from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from tests.helpers.asking import requests
from tests.helpers.chat_families import CHAT_FAMILIES, ChatFamily
from tests.helpers.language_training import bare_losses, recipe_of, save_untrained, trained_losses
from tests.helpers.training_table import SYSTEM, encoded, row, runs
from verbalizer_bench.io.conversations import BadRecordError
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.chat import template as chat
from verbalizer_bench.trainers.conversations.answers import end_generation
from verbalizer_bench.trainers.conversations.encoder import Encoded

TABLE = Path(__file__).parents[3] / "docs" / "families.md"
EACH = pytest.mark.parametrize("family", CHAT_FAMILIES, ids=lambda family: family.name)


def texts(tokenizer: Any, found: Encoded) -> list[str]:
    """Return the trained texts, without white space: SentencePiece's kind decodes not all of it."""
    return ["".join(tokenizer.decode(run).split()) for run in runs(found)]


@EACH
def test_the_answers_are_trained_and_nothing_else(family: ChatFamily) -> None:
    tokenizer = family.tokenizer()
    found = encoded(
        tokenizer, ("user", "q"), ("assistant", "a b"), ("user", "r"), ("assistant", "c")
    )
    text = re.sub("[⟦⟧]", "", family.text)
    assert found.input_ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    marked = re.findall("⟦(.*?)⟧", family.text, re.DOTALL)
    assert texts(tokenizer, found) == ["".join(run.split()) for run in marked]
    # No BOS is put before the one that the template writes.
    if tokenizer.bos_token is not None:
        assert found.input_ids.count(tokenizer.bos_token_id) == text.count(tokenizer.bos_token)
    config = GenerationConfig()
    end_generation(config, "tokenizer", tokenizer)
    assert {run[-1] for run in runs(found)} <= set(config.eos_token_id)


@EACH
def test_system_turns_stand_in_the_text_or_are_refused(family: ChatFamily) -> None:
    turns = [("system", SYSTEM), ("user", "q"), ("assistant", "a b")]
    tokenizer = family.tokenizer()
    if not family.takes_system:
        with pytest.raises(BadRecordError, match=r"template: .*system"):
            encoded(tokenizer, *turns)
        return
    found = encoded(tokenizer, *turns)
    assert SYSTEM in tokenizer.decode(found.input_ids)
    (answer,) = runs(found)
    assert SYSTEM not in tokenizer.decode(answer)


@EACH
def test_the_row_of_a_family(family: ChatFamily) -> None:
    assert row(family) in TABLE.read_text(encoding="utf-8").splitlines(), "run make families"


@EACH
def test_a_model_is_asked_as_it_was_trained(family: ChatFamily, tmp_path: Path) -> None:
    tokenizer = save_untrained(family, tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    ours = VerbalizerLLM(pretrained=str(tmp_path), dtype="float32", device="cpu")
    stock = HFLM(pretrained=str(tmp_path), dtype="float32", device="cpu")
    question = ("user", 'You need to output "positive" or "negative".\n\nAnswer:')
    few = [question, ("assistant", "yes"), ("user", "Is it good?")]
    for turns in ([question], few, [("system", SYSTEM), question]):
        if turns[0][0] == "system" and not family.takes_system:
            continue
        found = encoded(tokenizer, *turns, ("assistant", "positive"))
        mask = found.assistant_mask
        start = max(n for n, on in enumerate(mask) if on and not mask[n - 1])
        expected = found.input_ids[:start]
        history = [{"role": role, "content": text} for role, text in turns]
        (request,) = requests([ours.apply_chat_template(history)])
        assert ours._prompt(request, 15) == expected
        with chat._fixed_date():
            assert stock.tok_encode(stock.apply_chat_template(history)) == expected


@EACH
def test_steps_are_those_of_a_bare_loop(family: ChatFamily, tmp_path: Path) -> None:
    tokenizer = save_untrained(family, tmp_path / "base")
    recipe = recipe_of(tmp_path)
    found, expected = trained_losses(recipe), bare_losses(recipe, tokenizer)
    assert [one for pair in found for one in pair] == pytest.approx(
        [one for pair in expected for one in pair], rel=1e-4
    )
    assert found[1][0] < found[0][0]
