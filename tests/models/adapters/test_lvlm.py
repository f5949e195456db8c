import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager
from PIL import Image

from tests.helpers.asking import PAPER, STORY, requests
from tests.helpers.asking_lvlm import PROMPTS, alone, load, scoring
from tests.helpers.text_tasks import write_text_tasks
from verbalizer_bench.io.images import image_sha256
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.models.images import make_image


@pytest.fixture(scope="module")
def lm(toys: tuple[Path, Path]) -> VerbalizerLVLM:
    return load(toys[1])


def generate(lm: VerbalizerLVLM, prompts: list[str], **changes: Any) -> list[str]:
    return lm.generate_until(requests(prompts, **changes), disable_tqdm=True)


@pytest.mark.parametrize("engine", ["generate", "shared_prefix"])
def test_outputs_equal_generate_one_by_one(toys: tuple[Path, Path], engine: str) -> None:
    lm, white = load(toys[1], engine=engine), make_image("white", (32, 32))
    for beams in (1, 10):
        expected = [alone(lm, f"<image>\n{prompt}", white, beams) for prompt in PROMPTS]
        assert len(set(expected)) > 1
        for size in (1, 2, 5):
            lm.batch_size_per_gpu = size
            assert generate(lm, PROMPTS, num_beams=beams) == expected, (beams, size)
    assert lm.get_model_info()["verbalizer_bench"]["engine"] == {engine: 30}


@pytest.mark.parametrize("mode", ["white", "black", "gray", "noise", "none"])
def test_image_modes(toys: tuple[Path, Path], mode: str) -> None:
    lm = load(toys[1], image=mode)
    image = make_image(mode, (32, 32))
    front = "" if image is None else "<image>\n"
    assert generate(lm, PROMPTS) == [alone(lm, front + prompt, image) for prompt in PROMPTS]
    record = lm.get_model_info()["verbalizer_bench"]
    assert record["image"]["mode"] == mode
    assert record["first_input_ids"].count(3) == (0 if image is None else 16)
    assert record["bos_counts"] == [1, 1]
    if image is not None:
        assert record["image"]["sha256"] == image_sha256(image)
        assert (record["image"]["size"], record["image"]["tokens"]) == ([32, 32], 16)


def test_the_image_matters(toys: tuple[Path, Path]) -> None:
    """Without this the modes could all be the same run."""
    outputs = {tuple(generate(load(toys[1], image=m), PROMPTS)) for m in ("white", "noise", "none")}
    assert len(outputs) == 3


def test_image_file(toys: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    make_image("noise", (48, 40)).save(path)  # type: ignore[union-attr]
    lm = load(toys[1], image=str(path))
    with Image.open(path) as image:
        expected = alone(lm, f"<image>\n{PROMPTS[0]}", image.convert("RGB"))
    assert generate(lm, PROMPTS[:1]) == [expected]
    with pytest.raises(ValueError, match="image=nothing: neither white"):
        load(toys[1], image="nothing")


def test_automatic_batch_size(lm: VerbalizerLVLM, toys: tuple[Path, Path]) -> None:
    lm.batch_size_per_gpu = 1
    assert generate(load(toys[1], batch_size="auto"), PROMPTS) == generate(lm, PROMPTS)


def test_out_of_memory(toys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    lm = load(toys[1], engine="generate", batch_size=1)
    expected, original = generate(lm, PROMPTS), lm.model.generate

    def small(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(lm.model, "generate", small)
    lm.batch_size_per_gpu = 5
    assert generate(lm, PROMPTS) == expected


def chat(lm: VerbalizerLVLM, text: str) -> str:
    return lm.apply_chat_template([{"role": "user", "content": text}])


def test_chat_template_has_the_image_in_front_of_the_user_turn(toys: tuple[Path, Path]) -> None:
    lm, white = load(toys[1]), make_image("white", (32, 32))
    prompts = [chat(lm, prompt) for prompt in PROMPTS]
    assert prompts[0] == f"USER: <image>\n{PROMPTS[0]} ASSISTANT:"
    assert generate(lm, prompts) == [
        alone(lm, f"USER: <image>\n{prompt} ASSISTANT:", white) for prompt in PROMPTS
    ]
    assert len(lm.get_model_info()["verbalizer_bench"]["chat_template_sha256"]) == 64


def test_one_image_slot_in_a_conversation(lm: VerbalizerLVLM) -> None:
    turns = [("system", "be good"), ("user", "one"), ("assistant", "1"), ("user", "two")]
    prompt = lm.apply_chat_template([{"role": r, "content": c} for r, c in turns])
    assert prompt.count("<image>") == 1
    assert prompt.index("be good") < prompt.index("<image>") < prompt.index("one")


def test_without_an_image_the_template_has_no_slot(toys: tuple[Path, Path]) -> None:
    assert "<image>" not in chat(load(toys[1], image="none"), "hello")


def test_a_literal_image_token_is_text(toys: tuple[Path, Path]) -> None:
    lm, white = load(toys[1]), make_image("white", (32, 32))
    text = "write <image> twice: <image>"
    assert generate(lm, [chat(lm, "an </s> end")])
    assert lm.inputs.record()["special_tokens"] == {"</s>": 1}
    lm = load(toys[1])
    expected = alone(lm, "<image>\nwrite < image> twice: < image>", white)
    assert generate(lm, [text]) == [expected]
    templated = alone(lm, "USER: <image>\nwrite < image> twice: < image> ASSISTANT:", white)
    assert generate(lm, [chat(lm, text)]) == [templated]
    record = lm.get_model_info()["verbalizer_bench"]
    assert (record["escaped_prompts"], record["special_tokens"]) == (2, {})
    assert record["first_input_ids"].count(3) == 16


def test_a_templates_bos_is_not_doubled(toys: tuple[Path, Path]) -> None:
    lm = load(toys[1], image="none")
    generate(lm, ["<s>hello"])
    assert lm.inputs.bos_counts == (1, 1)
    lm = load(toys[1])
    lm.processor.chat_template = "{{ bos_token }}" + lm.processor.chat_template
    generate(lm, [chat(lm, "hello")])
    assert lm.inputs.bos_counts == (1, 1) and lm.inputs.first_input_ids.count(1) == 1
    with pytest.raises(ValueError, match="begins with two BOS tokens"):
        generate(load(toys[1], image="none"), ["<s><s>hello"])


def test_no_image_token_is_ever_cut(toys: tuple[Path, Path]) -> None:
    lm = load(toys[1], max_length=60)
    with pytest.raises(ValueError, match=r"\(16 of them for images\) and 15 new ones do not fit"):
        generate(lm, [STORY])
    with pytest.raises(ValueError, match="nothing is truncated"):
        lm.loglikelihood(scoring([(STORY, " x")]), disable_tqdm=True)


def test_a_template_with_two_slots_is_refused(toys: tuple[Path, Path]) -> None:
    lm = load(toys[1])
    lm.processor.chat_template = "<image>" + lm.processor.chat_template
    with pytest.raises(ValueError, match="2 image slots for 1 images"):
        generate(lm, [chat(lm, "hello")])


def own_images(text: str, *images: Image.Image) -> list[Instance]:
    arguments = (text, dict(PAPER), {"visual": list(images)})
    return [Instance(request_type="generate_until", doc={}, arguments=arguments, idx=0)]


def test_tasks_with_images_of_their_own_keep_them(toys: tuple[Path, Path]) -> None:
    lm, noise = load(toys[1]), make_image("noise", (32, 32))
    assert noise is not None
    expected = alone(lm, "look: <image> what?", noise)
    found = lm.generate_until(own_images("look: <image> what?", noise), disable_tqdm=True)
    assert found == [expected] != [alone(lm, "look: <image> what?", make_image("white", (32, 32)))]
    prompt = chat(lm, "look: <image>what?")
    found = lm.generate_until(own_images(prompt, noise), disable_tqdm=True)
    assert found == [alone(lm, "USER: look: <image>\nwhat? ASSISTANT:", noise)]
    with pytest.raises(ValueError, match="1 image slots for 2 images"):
        lm.generate_until(own_images("<image>", noise, noise), disable_tqdm=True)


def test_images_of_tasks_with_sixteen_bits_are_scaled(lm: VerbalizerLVLM) -> None:
    """A processor by itself cuts all levels off at 255: a white image."""
    levels = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64
    _, (image,) = lm._task_image_prompt("<image>", [Image.fromarray(levels)])
    np.testing.assert_array_equal(np.asarray(image), levels // 256)


def test_chat_prompts_survive_pickling(lm: VerbalizerLVLM) -> None:
    prompt = chat(lm, "a <image> b")
    again = pickle.loads(pickle.dumps(prompt))
    assert again == prompt and again.messages == prompt.messages  # type: ignore[attr-defined]


def logprob(lm: VerbalizerLVLM, context: str, whole: str, image: Image.Image) -> float:
    """Add up the continuation's log probabilities, a forward pass a pair, token by token."""
    start = lm.processor(text=context, images=[image], return_tensors="pt")["input_ids"].shape[1]
    inputs = lm.processor(text=whole, images=[image], return_tensors="pt")
    with torch.no_grad():
        scores = lm.model(**inputs).logits[0].log_softmax(-1)
    ids = inputs["input_ids"][0]
    return sum(float(scores[i - 1, ids[i]]) for i in range(start, len(ids)))


def test_loglikelihood_sees_the_image(toys: tuple[Path, Path]) -> None:
    pairs = [(context, word) for context in PROMPTS for word in (" park", " a big dog")]
    for mode in ("white", "noise"):
        lm, image = load(toys[1], image=mode, batch_size=3), make_image(mode, (32, 32))
        assert image is not None
        expected = [
            logprob(lm, f"<image>\n{c}".rstrip(), f"<image>\n{c}{w}", image) for c, w in pairs
        ]
        found = lm.loglikelihood(scoring(pairs), disable_tqdm=True)
        assert [score for score, _ in found] == pytest.approx(expected, rel=1e-4)


def test_loglikelihood_says_what_is_greedy(lm: VerbalizerLVLM) -> None:
    lm.batch_size_per_gpu = 2
    (greedy,) = generate(lm, ["hello there"], num_beams=1, max_gen_toks=1)
    found = lm.loglikelihood(
        scoring([("hello there", greedy), ("hello there", "zzz")]), disable_tqdm=True
    )
    assert [is_greedy for _, is_greedy in found] == [True, False]


def test_loglikelihood_without_an_image_is_the_language_models(
    toys: tuple[Path, Path],
) -> None:
    from verbalizer_bench.models.adapters.llm import VerbalizerLLM

    pairs = scoring([(prompt, " park") for prompt in PROMPTS])
    llm = VerbalizerLLM(pretrained=str(toys[0]), dtype="float32", device="cpu")
    found = load(toys[1], image="none").loglikelihood(pairs, disable_tqdm=True)
    expected = llm.loglikelihood(pairs, disable_tqdm=True)
    assert [s for s, _ in found] == pytest.approx([s for s, _ in expected], rel=1e-5)


def test_scoring_escapes_literals_and_records_its_inputs(toys: tuple[Path, Path]) -> None:
    for mode, tokens in (("none", 0), ("white", 16)):
        lm = load(toys[1], image=mode)
        prompt = chat(lm, "say <image>")
        found = lm.loglikelihood(scoring([(prompt, " <image>"), (prompt, " x")]), disable_tqdm=True)
        assert found[0] != found[1]
        record = lm.get_model_info()["verbalizer_bench"]
        assert record["first_input_ids"].count(3) == tokens
        assert (record["bos_counts"], record["escaped_prompts"]) == ([1, 1], 2)


def test_an_empty_context_is_scored_behind_the_image(toys: tuple[Path, Path]) -> None:
    white = make_image("white", (32, 32))
    assert white is not None
    lm = load(toys[1])
    (found,) = lm.loglikelihood(scoring([("", "park")]), disable_tqdm=True)
    assert found[0] == pytest.approx(logprob(lm, "<image>\n", "<image>\npark", white), rel=1e-4)


def test_max_images_leaves_placeholders_out(toys: tuple[Path, Path]) -> None:
    noise = make_image("noise", (32, 32))
    assert noise is not None
    lm = load(toys[1], max_images=1)
    lm.generate_until(own_images("one <image> two <image>", noise, noise), disable_tqdm=True)
    assert lm.inputs.first_input_ids.count(3) == 16


def test_rolling_needs_no_image(toys: tuple[Path, Path], lm: VerbalizerLVLM) -> None:
    rolling = [Instance(request_type="loglikelihood_rolling", doc={}, arguments=(STORY,), idx=0)]
    with pytest.raises(ValueError, match="give image=none"):
        lm.loglikelihood_rolling(rolling)
    assert load(toys[1], image="none").loglikelihood_rolling(rolling, disable_tqdm=True)[0] < 0


def test_add_bos_token_is_refused(toys: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="add_bos_token=True"):
        load(toys[1], add_bos_token=True)


@pytest.mark.parametrize("templated", [False, True])
def test_text_tasks_of_both_kinds_run(
    toys: tuple[Path, Path], tmp_path: Path, templated: bool
) -> None:
    asked = [("2 + 2?", "four", "five"), ("3 + 2?", "five", "four")]
    names = write_text_tasks(tmp_path, asked)
    lm = load(toys[1])
    found = simple_evaluate(
        model=lm,
        tasks=names.split(","),
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        apply_chat_template=templated,
        fewshot_as_multiturn=templated,
        bootstrap_iters=0,
    )
    white = make_image("white", (32, 32))
    assert white is not None
    question = "2 + 2?"
    prompt = f"USER: <image>\n{question} ASSISTANT:" if templated else f"<image>\n{question}"
    (said,) = found["samples"]["say"][0]["resps"][0]
    assert said == alone(lm, prompt, white, beams=1, new=4).split(".")[0]
    delimiter = "" if templated else " "
    scores = [score for ((score, _),) in found["samples"]["choose"][0]["resps"]]
    assert scores == pytest.approx(
        [logprob(lm, prompt, f"{prompt}{delimiter}{word}", white) for word in ("four", "five")],
        rel=1e-4,
    )
    assert found["config"]["verbalizer_bench"]["first_input_ids"].count(3) == 16


def test_lora_folder(toys: tuple[Path, Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(0)
    base = AutoModelForImageTextToText.from_pretrained(toys[1])
    config = LoraConfig(target_modules=r".*language_model.*q_proj", init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path)
    tuned = load(toys[1], peft=str(tmp_path))
    white = make_image("white", (32, 32))
    expected = [alone(tuned, f"<image>\n{prompt}", white) for prompt in PROMPTS]
    assert generate(tuned, PROMPTS) == expected != generate(load(toys[1]), PROMPTS)
