"""Write a Llama as a GGUF, as llama.cpp's converter lays it out."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

Tensors = dict[str, np.ndarray]
_CONTROL, _NORMAL = 3, 1
_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(
    source: Path,
    file: Path,
    change: Callable[[Tensors], Tensors] = lambda tensors: tensors,
    fields: Mapping[str, str] | None = None,
) -> Path:
    """Write a Llama's folder with a byte-level tokenizer as one file, in float32.

    Args:
        source: The folder.
        file: What is written.
        change: Of the tensors, by their names in the file.
        fields: Texts that replace those of its metadata, or stand beside them.
    """
    model = AutoModelForCausalLM.from_pretrained(source)
    config = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, source)
    for key, value in ({"tokenizer.ggml.pre": "gpt-2"} | dict(fields or {})).items():
        writer.add_string(key, value)
    for name, weight in change(_tensors(model)).items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tokenizer(writer: Any, source: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(source)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.all_special_ids)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([_CONTROL if n in special else _NORMAL for _, n in vocabulary])
    merges = json.loads((source / "tokenizer.json").read_text())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(True)
    writer.add_chat_template(tokenizer.chat_template)


def _tensors(model: Any) -> Tensors:
    tensors = {}
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        stem = name.removeprefix("model.").removesuffix(".weight")
        if stem.startswith("layers."):
            _, number, inner = stem.split(".", 2)
            tensors[f"blk.{number}.{_LAYER[inner]}.weight"] = _paired(values, inner, model.config)
        elif stem != "lm_head" or not model.config.tie_word_embeddings:
            known = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
            tensors[f"{known[stem]}.weight"] = values
    return tensors


def _paired(values: np.ndarray, name: str, config: Any) -> np.ndarray:
    """Order a head's rows as llama.cpp rotates them: neighbours, not halves."""
    heads = {
        "self_attn.q_proj": config.num_attention_heads,
        "self_attn.k_proj": config.num_key_value_heads,
    }.get(name)
    if heads is None:
        return values
    halves = values.reshape(heads, 2, len(values) // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
