import logging
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers.processors import TemplateProcessing

from tests.helpers.asking import PAPER, STORY, requests
from tests.helpers.checkpoints import clone
from tests.helpers.tokenizer_families import FAMILIES, few_words
from verbalizer_bench.models.adapters.input_log import InputLog, unknown_id
from verbalizer_bench.models.adapters.llm import VerbalizerLLM


@pytest.fixture(scope="module")
def lm(toys: tuple[Path, Path]) -> VerbalizerLLM:
    return VerbalizerLLM(pretrained=str(toys[0]), dtype="float32", device="cpu", batch_size=4)


def pairs() -> list[Instance]:
    texts = [(STORY[:end], f" {word}") for end in (5, 40, 90) for word in ("park", "a big dog")]
    return [
        Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0)
        for pair in [*texts, ("", "park")]
    ]


def test_loglikelihood_is_hflms(lm: VerbalizerLLM, toys: tuple[Path, Path]) -> None:
    stock = HFLM(pretrained=str(toys[0]), dtype="float32", device="cpu", batch_size=4)
    found = lm.loglikelihood(pairs(), disable_tqdm=True)
    expected = stock.loglikelihood(pairs(), disable_tqdm=True)
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected])
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_loglikelihood_survives_out_of_memory(
    lm: VerbalizerLLM, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lm, "engine", "generate")
    expected = lm.loglikelihood(pairs(), disable_tqdm=True)
    original = lm._model_call

    def call(inputs: torch.Tensor, **kwargs: object) -> torch.Tensor:
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(inputs, **kwargs)

    monkeypatch.setattr(lm, "_model_call", call)
    monkeypatch.setattr(lm, "batch_size_per_gpu", 8)
    scores = lm.loglikelihood(pairs(), disable_tqdm=True)
    assert [score[0] for score in scores] == pytest.approx([score[0] for score in expected])
    assert "going on with batches of 1" in caplog.text


def test_prompts_that_do_not_fit_keep_bos_and_are_counted(
    toys: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    lm = VerbalizerLLM(
        pretrained=str(toys[0]), dtype="float32", device="cpu", batch_size=2, max_length=40
    )
    with caplog.at_level(logging.WARNING):
        lm.generate_until(requests([STORY, "short"]), disable_tqdm=True)
    ids = lm.inputs.first_input_ids
    assert len(ids) == 25 and ids[0] == lm.tokenizer.bos_token_id
    assert ids[1:] == lm.tokenizer.encode(STORY)[-24:]
    assert lm.get_model_info()["verbalizer_bench"]["truncated_prompts"] == 1
    assert "does not fit 25" in caplog.text
    with pytest.raises(ValueError, match="max_gen_toks=40 leaves no room"):
        lm.generate_until(requests(["x"], max_gen_toks=40), disable_tqdm=True)


def test_two_bos_are_refused(toys: tuple[Path, Path]) -> None:
    lm = VerbalizerLLM(pretrained=str(toys[0]), dtype="float32", device="cpu")
    prompt = "<s>hello"
    lm.generate_until(requests([prompt]), disable_tqdm=True)
    assert lm.inputs.bos_counts == (1, 1), "a template's BOS takes the place of the tokenizer's"
    with pytest.raises(ValueError, match="begins with two BOS tokens"):
        lm.generate_until(requests(["<s><s>hello"]), disable_tqdm=True)


def test_scoring_records_its_inputs_and_refuses_two_bos(toys: tuple[Path, Path]) -> None:
    lm = VerbalizerLLM(pretrained=str(toys[0]), dtype="float32", device="cpu")
    lm.loglikelihood(pairs()[:1], disable_tqdm=True)
    record = lm.get_model_info()["verbalizer_bench"]
    assert record["bos_counts"] == [1, 1] and record["first_input_ids"][0] == 1
    twice = Instance(
        request_type="loglikelihood", doc={}, arguments=("<s><s>hello", " park"), idx=0
    )
    with pytest.raises(ValueError, match="begins with two BOS tokens"):
        lm.loglikelihood([twice], disable_tqdm=True)


def test_bos_counts_are_the_least_and_the_most() -> None:
    log = InputLog(bos_token_id=1)
    for ids in ([1, 5, 6], [5, 6], [1, 5]):
        log.add(ids)
    assert log.record()["bos_counts"] == [0, 1]
    assert log.first_input_ids == [1, 5, 6]


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param([1, 8, 9, 2, 1, 7, 9, 2, 1, 6], id="BOS is ChatML's turn marker"),
        pytest.param([1, 4, 9, 5, 9, 2, 1, 4, 9, 5], id="few-shot in Llama-2's template"),
    ],
)
def test_bos_is_counted_at_the_start_only(ids: list[int]) -> None:
    log = InputLog(bos_token_id=1)
    log.add(ids)
    assert log.record()["bos_counts"] == [1, 1]
    with pytest.raises(ValueError, match="begins with two BOS tokens"):
        log.add([1, *ids])


def test_a_bos_that_nobody_writes_is_not_missing() -> None:
    """GPT-NeoX, OLMo and Granite have a BOS by name alone."""
    log = InputLog(bos_token_id=1, expected=False)
    log.add([5, 6])
    assert log.record()["bos_counts"] is None is InputLog.merged([log, log]).bos_counts
    log.add([1, 5])
    assert (
        log.record()["bos_counts"] == [0, 1] == list(InputLog.merged([log, log]).bos_counts or ())
    )
    with pytest.raises(ValueError, match="begins with two BOS tokens"):
        log.add([1, 1])


def test_prompts_without_a_bos_that_the_template_writes_are_told(toys: tuple[Path, Path]) -> None:
    counts = []
    content = "{{ messages[0]['content'] }}"
    for template in (f"{{{{ bos_token }}}}{content}", content):
        lm = VerbalizerLLM(pretrained=str(toys[0]), dtype="float32", device="cpu")
        lm.tokenizer.backend_tokenizer.post_processor = TemplateProcessing("$A")
        lm.tokenizer.chat_template = template
        lm.inputs = InputLog(lm.tokenizer.bos_token_id, lm._has_bos())
        lm._prompt(requests(["hello"])[0], 9)
        counts.append(lm.inputs.bos_counts)
    assert counts == [(0, 0), None]


def test_special_tokens_in_a_prompts_text_are_told(toys: tuple[Path, Path]) -> None:
    """The template's own are not counted."""
    lm = VerbalizerLLM(pretrained=str(toys[0]), dtype="float32", device="cpu")
    lm.tokenizer.chat_template = "{{ bos_token }}{{ messages[0]['content'] }}</s>"
    texts = ["as <s>struck</s> out </s>", "plain", "an </s> end"]
    prompts = [lm.apply_chat_template([{"role": "user", "content": text}]) for text in texts]
    for request in requests([*prompts, "raw </s>"]):
        lm._prompt(request, 9)
    assert lm.inputs.record()["special_tokens"] == {"<s>": 1, "</s>": 3}
    assert InputLog.merged([lm.inputs, lm.inputs]).specials["</s>"] == 6


def test_record(lm: VerbalizerLLM) -> None:
    lm.generate_until(requests(["hello"]), disable_tqdm=True)
    info = lm.get_model_info()
    record = info["verbalizer_bench"]
    assert info["model_num_parameters"] == lm.model.num_parameters()
    assert record["adapter"] == "verbalizer-llm"
    assert set(record["engine"]) == {"shared_prefix"}
    assert (record["dtype"], record["device"], record["image"]) == ("torch.float32", "cpu", None)
    assert record["bos_counts"] == [1, 1] and record["first_input_ids"][0] == 1
    assert record["chat_template_sha256"] is None
    assert set(record["versions"]) >= {"lm_eval", "transformers", "torch", "verbalizer-bench"}


def test_chat_template_is_recorded(toys: tuple[Path, Path]) -> None:
    lm = VerbalizerLLM(pretrained=str(toys[0]), dtype="float32", device="cpu")
    text = lm.apply_chat_template([{"role": "user", "content": "hello"}])
    assert text == "USER: hello ASSISTANT:"
    assert len(lm.get_model_info()["verbalizer_bench"]["chat_template_sha256"]) == 64


def test_lora_folder(toys: tuple[Path, Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(toys[0])
    config = LoraConfig(target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    torch.manual_seed(0)
    tuned = get_peft_model(base, config)
    tuned.save_pretrained(tmp_path)
    lm = VerbalizerLLM(
        pretrained=str(toys[0]), peft=str(tmp_path), dtype="float32", device="cpu", batch_size=2
    )
    merged = tuned.merge_and_unload().eval()
    ids = torch.tensor([lm.tokenizer.encode(STORY)])
    output = merged.generate(ids, num_beams=10, do_sample=False, max_new_tokens=15, pad_token_id=0)
    expected = lm.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    plain = VerbalizerLLM(pretrained=str(toys[0]), dtype="float32", device="cpu")
    prompts = requests([STORY, "x"])
    assert lm.generate_until(prompts, disable_tqdm=True)[0] == expected
    assert plain.generate_until(prompts, disable_tqdm=True)[0] != expected


def test_encoder_decoders_are_refused(tmp_path: Path, toys: tuple[Path, Path]) -> None:
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    T5ForConditionalGeneration(T5Config(vocab_size=32, **sizes)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(toys[0]).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="verbalizer-llm takes checkpoints of AutoModelForCausalLM"
    ):
        VerbalizerLLM(pretrained=str(tmp_path), device="cpu")


def test_paper_settings_are_what_the_tests_ask() -> None:
    from verbalizer_bench.tasks.spec import protocol

    assert protocol()["generation_kwargs"] == PAPER


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_devices_that_are_not_there_are_refused(device: str, toys: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match=f"device={device}: "):
        VerbalizerLLM(str(toys[0]), device=device)


def test_prompts_that_a_tokenizer_does_not_know_are_counted(
    toys: tuple[Path, Path], tmp_path: Path
) -> None:
    """A tokenizer without bytes writes one token for all that its vocabulary lacks."""
    folder = clone(toys[0], tmp_path / "words")
    few_words("hello").save_pretrained(folder)
    lm = VerbalizerLLM(pretrained=str(folder), dtype="float32", device="cpu")
    for request in requests(["hello hello", "hello foo", "hello"]):
        lm._prompt(request, 9)
    assert lm.inputs.record()["unknown_prompts"] == 1
    assert InputLog.merged([lm.inputs, lm.inputs]).record()["unknown_prompts"] == 2


def test_bytes_are_never_unknown() -> None:
    """A token that stands for the unknown by name, beside bytes, is in no prompt."""
    for family, make in FAMILIES.items():
        tokenizer = make()
        log = InputLog(tokenizer.bos_token_id, unk_token_id=unknown_id(tokenizer))
        log.add(tokenizer("Größe 大きい \U0001f600")["input_ids"])
        assert log.unknown == 0, family
        tokenizer.unk_token = tokenizer.eos_token  # as GPT-2's
        assert unknown_id(tokenizer) is None, family
