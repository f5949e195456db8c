"""A checkpoint in a GGUF is asked as its folder is, or refused in one line."""

import hashlib
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.asking import STORY, load, requests
from tests.helpers.gguf_files import Tensors, write_gguf
from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.models.checkpoints.weight_hash import weights_sha256

FILE = "toy.gguf"
PROMPTS = [STORY, STORY[:40], "x"]


@pytest.fixture(scope="module")
def folder(toys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("gguf")
    write_gguf(toys[0], place / FILE)
    return place


@pytest.fixture(scope="module")
def lm(folder: Path) -> VerbalizerLLM:
    return load(VerbalizerLLM, folder, gguf_file=FILE)


def answers(lm: VerbalizerLLM) -> list[str]:
    return lm.generate_until(requests(PROMPTS), disable_tqdm=True)


def test_it_is_the_checkpoint_that_it_was_made_from(
    toys: tuple[Path, Path], lm: VerbalizerLLM
) -> None:
    plain = load(VerbalizerLLM, toys[0])
    for name, weight in plain.model.state_dict().items():
        assert torch.equal(lm.model.state_dict()[name], weight), name
    texts = [*PROMPTS, "  12  345\n\nwhat's </s> it, naïve? ☃"]
    assert [lm.tok_encode(text) for text in texts] == [plain.tok_encode(text) for text in texts]
    assert lm.tok_encode("x")[0] == lm.tokenizer.bos_token_id == 1
    assert lm.eos_token_ids == plain.eos_token_ids == [2]
    turn = [{"role": "user", "content": "hello"}]
    assert lm.apply_chat_template(turn) == plain.apply_chat_template(turn)
    assert answers(lm) == answers(plain)


def test_the_record_says_which_file(folder: Path, lm: VerbalizerLLM) -> None:
    answers(lm)
    record = lm.get_model_info()["verbalizer_bench"]
    digest = hashlib.sha256((folder / FILE).read_bytes()).hexdigest()
    assert (record["gguf_file"], record["fingerprint"]["weights"]) == (FILE, digest)
    assert set(record["engine"]) == {"shared_prefix"}


def test_an_adapter_on_it(toys: tuple[Path, Path], folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(toys[0])
    config = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path)
    adapted = load(VerbalizerLLM, folder, gguf_file=FILE, peft=str(tmp_path))
    assert answers(adapted) == answers(load(VerbalizerLLM, toys[0], peft=str(tmp_path)))
    found = adapted.get_model_info()["verbalizer_bench"]["fingerprint"]["weights"]
    assert re.fullmatch(r"[0-9a-f]{64}", found)
    assert found != weights_sha256(str(folder), gguf_file=FILE)


def test_a_delta_on_it(toys: tuple[Path, Path], folder: Path) -> None:
    lm = load(VerbalizerLLM, folder, gguf_file=FILE, delta=str(toys[0]))
    name = "model.layers.1.mlp.up_proj.weight"
    plain = load(VerbalizerLLM, toys[0]).model.state_dict()[name]
    assert torch.equal(lm.model.state_dict()[name], 2 * plain)


def test_the_package_is_asked_for_by_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    message = f"^model_args pretrained={folder},gguf_file={FILE}: reading it needs the package "
    with pytest.raises(ValueError, match=message + r"gguf; pip install gguf"):
        load(VerbalizerLLM, folder, gguf_file=FILE)


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: w for name, w in tensors.items() if part not in name}


def beside(name: str, size: int) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: np.ones(size, np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("blk.1."), r": 9 weights of LlamaForCausalLM are not in it, such as model.layers"),
        (without("ffn_norm"), r": 2 weights of LlamaForCausalLM are not in it"),
        (beside("blk.0.attn_q.bias", 64), r",gguf_file=.*: holds 64 numbers in its tensors that"),
        (beside("rope_freqs.weight", 8), r",gguf_file=.*: 1 tensors that transformers passes over"),
    ],
)
def test_what_would_be_another_model_is_refused(
    toys: tuple[Path, Path],
    tmp_path: Path,
    change: Callable[[Tensors], Tensors],
    message: str,
) -> None:
    write_gguf(toys[0], tmp_path / FILE, change)
    with pytest.raises(ValueError, match=f"^model_args pretrained={tmp_path}{message}"):
        load(VerbalizerLLM, tmp_path, gguf_file=FILE)


def test_two_matrices_where_the_head_is_stored(toys: tuple[Path, Path], tmp_path: Path) -> None:
    def untied(tensors: Tensors) -> Tensors:
        return tensors | {"output.weight": np.roll(tensors["token_embd.weight"], 1, 0)}

    write_gguf(toys[0], tmp_path / FILE, untied)
    model = load(VerbalizerLLM, tmp_path, gguf_file=FILE).model
    assert torch.equal(model.lm_head.weight, model.model.embed_tokens.weight.roll(1, 0))


def test_what_cannot_be_read_is_one_line(folder: Path, tmp_path: Path) -> None:
    def refused(place: Path, message: str, adapter: type = VerbalizerLLM, **given: Any) -> None:
        with pytest.raises(ValueError, match=f"^model_args pretrained={place}{message}"):
            load(adapter, place, **given)

    refused(
        folder,
        f",gguf_file=none.gguf: no such file; the GGUFs in .*: {FILE}$",
        gguf_file="none.gguf",
    )
    whole = (folder / FILE).read_bytes()
    for half in (whole[:10], whole[:4000], whole[:-4000], b""):
        (tmp_path / "half.gguf").write_bytes(half)
        refused(tmp_path, ".*half.gguf: cannot be read: ", gguf_file="half.gguf")
    (tmp_path / "page.gguf").write_text("<html>")
    refused(tmp_path, ",gguf_file=page.gguf: cannot be read: ", gguf_file="page.gguf")
    refused(folder, f": holds GGUFs; give gguf_file={FILE}$")
    refused(tmp_path, ": holds GGUFs; give gguf_file=half.gguf or another of its 2$")
    refused(folder / FILE, f": is a GGUF; give pretrained={folder},gguf_file={FILE}")
    refused(
        folder, ": verbalizer-lvlm takes .*, and this one is llama", VerbalizerLVLM, gguf_file=FILE
    )


def test_what_may_differ_is_said(
    toys: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_gguf(toys[0], tmp_path / FILE, fields={"tokenizer.ggml.pre": "newest"})
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 3]}')
    with caplog.at_level(logging.WARNING):
        lm = load(VerbalizerLLM, tmp_path, gguf_file=FILE)
    assert "does not know its pre-tokenizer newest and splits texts as GPT-2 does" in caplog.text
    assert "generation_config.json beside it is not read: EOS is the GGUF's" in caplog.text
    assert lm.eos_token_ids == [2]


def test_nothing_is_said_of_a_file_that_is_read_whole(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(VerbalizerLLM, folder, gguf_file=FILE)
    assert "gguf_file" not in caplog.text
