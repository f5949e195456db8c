"""The shared-prefix engine gives what `generate` gives for each prompt alone (float32)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from transformers import LlamaConfig, LlamaForCausalLM

from tests.helpers.asking import PAPER, STORY, load, requests
from tests.helpers.asking_lvlm import PROMPTS, alone
from tests.helpers.asking_lvlm import load as load_lvlm
from tests.helpers.references import is_tie, reference
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.engine.decoder import EncodedPrompt, PrefixDecoder
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.engine.prefix_groups import common_prefix_length, group_by_prefix
from verbalizer_bench.models.engine.shared_prefix import SharedPrefixEngine
from verbalizer_bench.models.engine.support import unsupported_reason
from verbalizer_bench.models.images import make_image


def test_groups_hold_what_shares_a_long_prefix() -> None:
    root, first, second = list(range(100, 150)), list(range(200, 260)), list(range(300, 370))
    sequences = [[*root, *middle, own, own + 1] for middle in (first, second) for own in range(5)]
    groups = group_by_prefix(sequences)
    assert sorted(len(group.prefix) for group in groups) == [110, 120]
    assert sorted(i for group in groups for i in group.members) == list(range(10))


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=60), min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_every_grouping_is_sound(sequences: list[list[int]]) -> None:
    groups = group_by_prefix(sequences)
    assert sorted(i for group in groups for i in group.members) == list(range(len(sequences)))
    for group in groups:
        for member in group.members:
            assert common_prefix_length(sequences[member], group.prefix) == len(group.prefix)
            assert len(sequences[member]) > len(group.prefix)


def check(model: Any, sequences: Sequence[list[int]], new: int, **kwargs: Any) -> int:
    """Compare every response with `generate`'s; return how many were ties."""
    eos, pad, ties = 2, 0, 0
    asked = GenerationSettings(new, (), {"do_sample": False, **kwargs})
    assert unsupported_reason(model, asked) is None
    shared = SharedPrefixEngine(model, pad, [eos])
    found = dict(shared.generate([EncodedPrompt(ids) for ids in sequences], asked, None))
    assert sorted(found) == list(range(len(sequences)))
    penalty = kwargs.get("length_penalty", 1.0)
    for index, ids in enumerate(sequences):
        expected = reference(model, ids, eos, pad, new, **kwargs)
        ties += is_tie(model, ids, found[index], expected, penalty)
    return ties


@st.composite
def cases(draw: st.DrawFn) -> tuple[LlamaForCausalLM, list[list[int]], dict[str, Any]]:
    """Draw a small model, prompts with and without shared prefixes, and generation arguments."""
    key_heads = draw(st.sampled_from([1, 2]))
    vocabulary = draw(st.sampled_from([12, 40, 300]))
    torch.manual_seed(draw(st.integers(0, 10**6)))
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=draw(st.integers(1, 3)),
            num_attention_heads=key_heads * draw(st.sampled_from([1, 2])),
            num_key_value_heads=key_heads,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            tie_word_embeddings=False,
        )
    ).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data *= draw(st.sampled_from([4.0, 10.0]))
    # EOS likely, so that beams finish at different steps.
    model.lm_head.weight.data[2] *= draw(st.sampled_from([1.0, 3.0]))
    token = st.integers(3, vocabulary - 1)
    prefixes = draw(st.lists(st.lists(token, max_size=60), min_size=1, max_size=3))
    suffixes = draw(st.lists(st.lists(token, min_size=1, max_size=12), min_size=1, max_size=6))
    sequences = [[1, *draw(st.sampled_from(prefixes)), *suffix] for suffix in suffixes]
    kwargs = {
        "num_beams": draw(st.integers(1, 5 if vocabulary == 12 else 10)),
        "length_penalty": draw(st.sampled_from([1.0, 0.0, 2.0, -1.0])),
        "early_stopping": draw(st.sampled_from([False, True, "never"])),
    }
    if kwargs["num_beams"] == 1:
        kwargs = {"num_beams": 1}
    return model, sequences, kwargs


# Ties are counted over the whole run: at most one prompt in two hundred.
_COUNT = {"prompts": 0, "ties": 0}


@given(cases())
@settings(max_examples=150, deadline=None)
def test_random_small_models(
    case: tuple[LlamaForCausalLM, list[list[int]], dict[str, Any]],
) -> None:
    model, sequences, kwargs = case
    _COUNT["ties"] += check(model, sequences, 8, **kwargs)
    _COUNT["prompts"] += len(sequences)


def test_ties_are_rare() -> None:
    """Reads what the test above counted."""
    assert _COUNT["prompts"] > 150
    assert _COUNT["ties"] <= max(1, 0.005 * _COUNT["prompts"]), _COUNT


def test_llava_with_576_image_tokens(toys: tuple[Path, Path], tmp_path: Path) -> None:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    small = load_lvlm(toys[1])
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=96,
        patch_size=4,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=small.config.text_config,
        image_token_index=3,
        image_seq_length=576,
    )
    model = LlavaForConditionalGeneration(config)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data *= 6
    model.save_pretrained(tmp_path)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": 96}, crop_size={"height": 96, "width": 96}
        ),
        tokenizer=small.tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(tmp_path)
    lm = load_lvlm(tmp_path, engine="shared_prefix")
    white = make_image("white", (96, 96))
    for beams in (1, 10):
        expected = [alone(lm, f"<image>\n{prompt}", white, beams) for prompt in PROMPTS]
        assert len(set(expected)) > 1
        found = lm.generate_until(requests(PROMPTS, num_beams=beams), disable_tqdm=True)
        assert found == expected, beams
    assert lm.get_model_info()["verbalizer_bench"]["image"]["tokens"] == 576


def test_prompts_with_images_of_their_own_do_not_share_them(toys: tuple[Path, Path]) -> None:
    lm = load_lvlm(toys[1], engine="shared_prefix")
    images = [make_image(mode, (32, 32)) for mode in ("white", "noise", "black", "noise")]
    asked = [
        Instance(
            request_type="generate_until",
            doc={},
            arguments=("look: <image> what?", dict(PAPER), {"visual": [image]}),
            idx=0,
        )
        for image in images
    ]
    runs = []
    lm.model.model.vision_tower.register_forward_hook(lambda *_: runs.append(1))
    found = lm.generate_until(asked, disable_tqdm=True)
    # Once more for the plain pass that the first prompt is checked against.
    assert len(runs) == 1 + 3, "the vision tower runs once an image"
    assert found == [alone(lm, "look: <image> what?", image) for image in images]
    assert found[0] != found[1] == found[3]


def test_lora(toys: tuple[Path, Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(toys[0])
    config = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path)
    prompts = requests([STORY, STORY[:40], "x"])
    answers = [
        load(VerbalizerLLM, toys[0], peft=str(tmp_path), engine=engine).generate_until(
            prompts, disable_tqdm=True
        )
        for engine in ("generate", "shared_prefix")
    ]
    assert answers[0] == answers[1]


def test_out_of_memory_halves_the_batch(
    toys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = load(VerbalizerLLM, toys[0], engine="shared_prefix")
    prompts = requests([STORY[:end] for end in range(20, 60, 5)])
    expected = lm.generate_until(prompts, disable_tqdm=True)
    original, sizes = SharedPrefixEngine._search, []

    def search(self: Any, batch: Any, *rest: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(self, batch, *rest)

    monkeypatch.setattr(SharedPrefixEngine, "_search", search)
    assert lm.generate_until(prompts, disable_tqdm=True) == expected
    assert sizes == [8, 4, 2, 2, 2, 2]


def test_the_engine_that_was_asked_for_is_named(
    toys: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    lm = load(VerbalizerLLM, toys[0], engine="generate")
    with caplog.at_level("INFO"):
        lm.generate_until(requests(["a", "b"], num_beams=2, max_gen_toks=3), disable_tqdm=True)
    (line,) = [line.message for line in caplog.records if line.message.startswith("engine: ")]
    assert line == "engine: generate, as asked"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"do_sample": True, "temperature": 1.0}, "sampling"),
        ({"top_k": 5}, "generation arguments top_k"),
    ],
)
def test_requests_that_it_does_not_know_fall_back_and_say_so(
    toys: tuple[Path, Path],
    changes: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lm = load(VerbalizerLLM, toys[0])
    asked = requests(["hello"], num_beams=2, max_gen_toks=3, **changes)
    with caplog.at_level("DEBUG"):
        lm.generate_until(asked, disable_tqdm=True)
    (line,) = [line for line in caplog.records if "not shared_prefix" in line.message]
    assert line.message == f"engine: generate, not shared_prefix: {reason}"
    # That no search is used for a sample is no news.
    assert line.levelname == ("DEBUG" if reason == "sampling" else "WARNING")
    assert lm.get_model_info()["verbalizer_bench"]["engine"] == {"generate": 1}
    with pytest.raises(ValueError, match=f"engine=shared_prefix: not exact here: {reason}"):
        load(VerbalizerLLM, toys[0], engine="shared_prefix").generate_until(
            asked, disable_tqdm=True
        )


def test_models_that_it_does_not_know() -> None:
    from transformers import MambaConfig, MambaForCausalLM, MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16}
    paper = GenerationSettings(15, (), {"num_beams": 10, "do_sample": False})
    window = MistralForCausalLM(MistralConfig(**sizes, **heads, sliding_window=8))
    assert unsupported_reason(window, paper) is None
    assert unsupported_reason(MambaForCausalLM(MambaConfig(**sizes)), paper) == (
        "layers that keep a state instead of keys and values"
    )
    window.generation_config.repetition_penalty = 1.1
    assert unsupported_reason(window, paper) == (
        "the checkpoint's generation setting repetition_penalty=1.1"
    )


def test_a_model_whose_attention_it_would_get_wrong_is_found_out(
    toys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with a soft cap, a sink or a bias that the attention function is handed and ignores."""
    original = PrefixDecoder._forward
    monkeypatch.setattr(PrefixDecoder, "_forward", lambda *a: original(*a) * 1.05)
    lm = load(VerbalizerLLM, toys[0])
    with caplog.at_level(logging.WARNING):
        lm.generate_until(requests(["hello"]), disable_tqdm=True)
    assert "it differs from a plain forward pass by" in caplog.text
    assert lm.get_model_info()["verbalizer_bench"]["engine"] == {"generate": 1}


def test_float16_is_held_to_less_than_bfloat16(stories: Path) -> None:
    """A mistake of a size that bfloat16's rounding nearly has, and float16's has not."""
    found = {}
    for dtype in ("float16", "bfloat16"):
        lm = VerbalizerLLM(str(stories), dtype=dtype, device="cpu")
        ids = lm.tok_encode(STORY)
        engine = SharedPrefixEngine(lm.model, 0, [2])
        plain = engine.next_log_probs(EncodedPrompt(ids))
        for factor in (1.0, 1.05):
            wrong = torch.log_softmax(plain * factor, dim=-1)
            engine.next_log_probs = lambda prompt, wrong=wrong: wrong  # type: ignore[method-assign]
            found[dtype, factor] = lm._difference_from_plain_pass(ids, EncodedPrompt(ids), engine)
    assert [reason is None for reason in found.values()] == [True, False, True, True]


def test_a_model_whose_layers_refuse_its_pass_goes_to_generate(
    toys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forward(*args: Any) -> None:
        raise TypeError("no position_ids here")

    lm = load(VerbalizerLLM, toys[0])
    prompts = [STORY[:20], STORY[:60]]
    lm.engine = "generate"
    expected = lm.generate_until(requests(prompts), disable_tqdm=True)
    monkeypatch.setattr(PrefixDecoder, "_forward", forward)
    lm.engine = "auto"
    assert lm.generate_until(requests(prompts), disable_tqdm=True) == expected
    assert "not shared_prefix: a pass of it ends in TypeError: no position_ids" in caplog.text
    lm.engine = "shared_prefix"
    with pytest.raises(ValueError, match="not exact here: a pass of it ends in TypeError"):
        lm.generate_until(requests(prompts), disable_tqdm=True)


def test_a_prompt_that_it_cannot_take_goes_to_generate(
    toys: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Its prefix ends with the last image, and the next token comes from one behind it."""
    image = make_image("white", (32, 32))
    texts = ["look: <image> what?", "what is it? <image>"]
    asked = [
        Instance("generate_until", {}, (text, dict(PAPER), {"visual": [image]}), idx=0)
        for text in texts
    ]
    lm = load_lvlm(toys[1])
    assert lm.generate_until(asked, disable_tqdm=True) == [alone(lm, t, image) for t in texts]
    assert lm.get_model_info()["verbalizer_bench"]["engine"] == {"shared_prefix": 1, "generate": 1}
    assert "not shared_prefix, for 1 of 2 prompts, such as number 1" in caplog.text
    lm.engine = "shared_prefix"
    with pytest.raises(ValueError, match="cannot take 1 of 2 prompts, such as number 1; give"):
        lm.generate_until(asked, disable_tqdm=True)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_has_shared_prefixes_too(toys: tuple[Path, Path], dtype: str) -> None:
    lm = VerbalizerLLM(str(toys[0]), dtype=dtype, device="cpu")
    lm.generate_until(requests(["hello"]), disable_tqdm=True)
    record = lm.get_model_info()["verbalizer_bench"]
    assert (record["engine"], record["dtype"]) == ({"shared_prefix": 1}, f"torch.{dtype}")


def test_unknown_engine(toys: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="engine=fast: one of auto, shared_prefix, generate"):
        load(VerbalizerLLM, toys[0], engine="fast")
