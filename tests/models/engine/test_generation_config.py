"""What a checkpoint's generation settings do: the harmless ones nothing, all others `generate`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, GenerationConfig

from tests.helpers.asking import STORY, load, requests
from tests.helpers.checkpoints import clone
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.engine.generation_config import influential_settings

PROMPTS = [STORY[:end] for end in (20, 60, 100)]
# Every harmless setting, with a value that would change much if it did anything.
HARMLESS: dict[str, Any] = {
    "temperature": 0.01,
    "top_k": 1,
    "top_p": 0.01,
    "min_p": 0.9,
    "top_h": 0.1,
    "typical_p": 0.01,
    "epsilon_cutoff": 0.5,
    "eta_cutoff": 0.5,
    "do_sample": True,
    "max_length": 5,
    "max_new_tokens": 1,
    "pad_token_id": 9,
    "bos_token_id": 9,
    "use_cache": False,
    "cache_implementation": "static",
    "disable_compile": True,
    "output_attentions": True,
    "output_hidden_states": True,
    "output_scores": True,
    "output_logits": True,
    "return_dict_in_generate": True,
    "num_return_sequences": 2,
}
NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "early_stopping": False,
    "no_repeat_ngram_size": 0,
    "min_new_tokens": 0,
    "num_beam_groups": 1,
    "renormalize_logits": False,
}
OTHERS: dict[str, Any] = {
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "min_new_tokens": 3,
    "min_length": 200,
    "suppress_tokens": [5],
    "forced_eos_token_id": 2,
    "sequence_bias": [[[5], 1.0]],
    "length_penalty": 2.0,
    "early_stopping": True,
    "renormalize_logits": True,
    "max_time": 100.0,
    "token_healing": True,
    "cache_implementation": "quantized",
    "watermarking_config": {"bias": 3.0},
    "a_setting_of_a_later_version": 1,
}


@pytest.fixture(scope="module")
def lm(toys: tuple[Path, Path]) -> VerbalizerLLM:
    return load(VerbalizerLLM, toys[0])


@pytest.fixture
def config(lm: VerbalizerLLM) -> Iterator[GenerationConfig]:
    """Give the model a generation config that is the test's own."""
    original = lm.model.generation_config
    lm.model.generation_config = GenerationConfig.from_dict(original.to_dict())
    yield lm.model.generation_config
    lm.model.generation_config = original


def answers(lm: VerbalizerLLM, engine: str, **changes: Any) -> list[str]:
    lm.engine = engine
    return lm.generate_until(requests(PROMPTS, **changes), disable_tqdm=True)


@pytest.mark.parametrize("name", [*HARMLESS, *NEUTRAL])
def test_harmless_settings_change_nothing_in_either_engine(
    lm: VerbalizerLLM, config: GenerationConfig, name: str
) -> None:
    expected = answers(lm, "shared_prefix")
    setattr(config, name, (HARMLESS | NEUTRAL)[name])
    if name == "num_return_sequences":
        # Without beams transformers does not load a folder that says so.
        config.num_beams = 4
    # `shared_prefix` refuses what it is not exact for.
    assert answers(lm, "shared_prefix") == expected
    assert answers(lm, "generate") == expected


@pytest.mark.parametrize("name", OTHERS)
def test_all_others_go_to_generate_with_their_name(
    lm: VerbalizerLLM, config: GenerationConfig, name: str
) -> None:
    setattr(config, name, OTHERS[name])
    reason = f"not exact here: the checkpoint's generation setting {name}="
    with pytest.raises(ValueError, match=reason):
        answers(lm, "shared_prefix")
    assert influential_settings(config.to_diff_dict(), {"num_beams"}) == {name: OTHERS[name]}


def test_every_setting_that_transformers_has_is_harmless_or_said() -> None:
    """A list of the harmful ones would be passed over by whatever a later version adds."""
    said = {
        name for name in GenerationConfig().to_dict() if influential_settings({name: "odd"}, ())
    }
    unsaid = set(GenerationConfig().to_dict()) - said
    assert {"guidance_scale", "use_mtp", "prompt_lookup_num_tokens", "num_beams"} <= said
    assert unsaid <= set(HARMLESS) | {
        *("transformers_version", "_from_model_config", "eos_token_id", "decoder_start_token_id"),
        *("cache_config", "max_cache_len", "prefill_chunk_size", "low_memory", "compile_config"),
    }


def test_beams_of_the_checkpoint_are_not_passed_over(
    lm: VerbalizerLLM, config: GenerationConfig
) -> None:
    """A request that says nothing of beams gets the checkpoint's, in `generate` as in ours."""
    beams = answers(lm, "generate", num_beams=4)
    assert beams != answers(lm, "generate", num_beams=1)
    config.num_beams = 4
    unsaid = requests(PROMPTS)
    for request in unsaid:
        request.arguments[1].pop("num_beams")
    for engine in ("auto", "generate"):
        lm.engine = engine
        assert lm.generate_until(unsaid, disable_tqdm=True) == beams
    assert answers(lm, "shared_prefix", num_beams=1) == answers(lm, "generate", num_beams=1)


@pytest.mark.parametrize(
    "asked",
    [
        {"num_return_sequences": 3},
        {"return_dict_in_generate": True},
        {"remove_invalid_values": True},
    ],
)
def test_requests_for_anything_but_one_response_are_refused(
    lm: VerbalizerLLM, asked: dict[str, Any]
) -> None:
    (name,) = asked
    with pytest.raises(ValueError, match=f"gen_kwargs {name}=.*: a prompt gets one response"):
        answers(lm, "auto", **asked)


def test_stop_strings_of_the_checkpoint_end_responses_as_generate_ends_them(
    lm: VerbalizerLLM, config: GenerationConfig
) -> None:
    free = answers(lm, "generate", num_beams=1)
    stop = free[0][3:5]
    config.stop_strings = [stop]
    found = answers(lm, "auto", num_beams=1)
    assert found[0] == free[0][: len(found[0])] and stop in found[0] and found[0] != free[0]
    ids = lm.tokenizer(PROMPTS[0], return_tensors="pt")["input_ids"]
    output = lm.model.generate(
        ids, do_sample=False, max_new_tokens=15, pad_token_id=0, tokenizer=lm.tokenizer
    )
    assert found[0] == lm.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)


def test_stop_strings_that_cannot_be_looked_for_are_named() -> None:
    """transformers has no answer for a tokenizer that does not give back what it was given."""
    base = Path(__file__).parents[3] / "experiments/miniature/recipes/base"
    lm = load(VerbalizerLLM, base)
    lm.model.generation_config.stop_strings = ["."]
    with pytest.raises(ValueError, match=r"cannot look for the stop_strings=\['\.'\] of its gener"):
        answers(lm, "auto")


def test_without_any_eos_a_run_is_refused(toys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = clone(toys[0], tmp_path / "endless", eos_token_id=None)
    (folder / "generation_config.json").unlink()
    lm = load(VerbalizerLLM, folder)
    assert lm.eos_token_ids == [lm.tokenizer.eos_token_id]
    lm.tokenizer.eos_token = None
    with pytest.raises(ValueError, match=f"pretrained={folder}: neither its generation_config.js"):
        answers(lm, "auto")


@pytest.mark.parametrize(
    ("changes", "asked", "message"),
    [
        ({"eos_token_id": "2"}, {}, "eos_token_id='2' of its .* is no token of its 1024; correct"),
        ({"eos_token_id": [-1]}, {}, r"eos_token_id=\[-1\] of its .* is no token of its 1024"),
        ({"eos_token_id": 5000}, {}, "eos_token_id=5000 of its .* is no token of its 1024"),
        (
            {"no_repeat_ngram_size": "2"},
            {},
            "generate fails with no_repeat_ngram_size=2 .*: ",
        ),
        (
            {"num_beam_groups": 2},
            {"num_beams": 4},
            "generate fails with num_beam_groups=2 .*: ",
        ),
        ({}, {"repetition_penalty": -1.0}, "generate fails with repetition_penalty=-1.0 .*: "),
    ],
)
def test_settings_that_generate_cannot_follow_are_one_line(
    lm: VerbalizerLLM,
    config: GenerationConfig,
    changes: dict[str, Any],
    asked: dict[str, Any],
    message: str,
) -> None:
    for name, value in changes.items():
        setattr(config, name, value)
    with pytest.raises(ValueError, match=f"^pretrained=.*llama: {message}"):
        answers(lm, "auto", **asked)


def test_settings_that_take_one_prompt_get_one(lm: VerbalizerLLM, config: GenerationConfig) -> None:
    expected = answers(lm, "generate", num_beams=1)
    lm.batch_size_per_gpu = 3
    for name, value in (("prompt_lookup_num_tokens", 3), ("assistant_early_exit", 1)):
        setattr(config, name, value)
        assert answers(lm, "auto", num_beams=1) == expected
        setattr(config, name, None)
    assert answers(lm, "auto", num_beams=1, prompt_lookup_num_tokens=3) == expected
    lm.batch_size_per_gpu = 1


def test_an_empty_list_of_eos_is_none(lm: VerbalizerLLM, config: GenerationConfig) -> None:
    config.eos_token_id = []
    assert lm.eos_token_ids == [lm.tokenizer.eos_token_id]


@pytest.mark.parametrize("beams", [1, 4, 10])
def test_each_of_several_eos_ends_a_response(
    lm: VerbalizerLLM, config: GenerationConfig, beams: int
) -> None:
    free = answers(lm, "generate", num_beams=beams)
    ids = [number for text in free for number in lm.tokenizer.encode(text)[2:4]]
    config.eos_token_id = [2, *ids, 2]
    found = answers(lm, "shared_prefix", num_beams=beams)
    assert found == answers(lm, "generate", num_beams=beams) != free
    for prompt, text in zip(PROMPTS, found, strict=True):
        encoded = lm.tokenizer(prompt, return_tensors="pt")["input_ids"]
        output = lm.model.generate(
            encoded, num_beams=beams, do_sample=False, max_new_tokens=15, pad_token_id=0
        )
        new = output[0, encoded.shape[1] :]
        assert text == lm.tokenizer.decode(new, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("settings", "engine"),
    [
        ({"do_sample": True, "temperature": 0.5, "top_k": 3, "top_p": 0.8}, "shared_prefix"),
        ({"do_sample": True, "repetition_penalty": 1.4}, "generate"),
        ({"suppress_tokens": []}, "generate"),
        ({"eos_token_id": [2, 40, 41], "num_beams": 7, "max_length": 3}, "shared_prefix"),
    ],
)
def test_a_checkpoints_file_is_followed_as_generate_follows_it(
    toys: tuple[Path, Path], tmp_path: Path, settings: dict[str, Any], engine: str
) -> None:
    folder = clone(toys[0], tmp_path / "set")
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    own = load(VerbalizerLLM, folder)
    found = own.generate_until(requests(PROMPTS, num_beams=4), disable_tqdm=True)
    assert own.get_model_info()["verbalizer_bench"]["engine"] == {engine: len(PROMPTS)}
    model = AutoModelForCausalLM.from_pretrained(folder)
    for prompt, text in zip(PROMPTS, found, strict=True):
        ids = own.tokenizer(prompt, return_tensors="pt")["input_ids"]
        asked = {"num_beams": 4, "do_sample": False, "max_new_tokens": 15, "pad_token_id": 0}
        output = model.generate(ids, **asked)
        assert text == own.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize(
    "asked",
    [
        {"num_beams": 2.0},
        {"num_beams": 0},
        {"num_beams": 2, "length_penalty": "1"},
        {"num_beams": 2, "early_stopping": "Never"},
    ],
)
@pytest.mark.parametrize("engine", ["auto", "generate"])
def test_arguments_of_a_wrong_kind_are_refused_by_either_engine(
    lm: VerbalizerLLM, engine: str, asked: dict[str, Any]
) -> None:
    name = list(asked)[-1]
    with pytest.raises(ValueError, match=f"gen_kwargs {name}={asked[name]!r}: give"):
        answers(lm, engine, **asked)
