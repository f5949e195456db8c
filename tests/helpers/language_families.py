"""The families of language models that users bring, as tiny configurations."""

from typing import Any

from tests.helpers.families import ABSENT, Family

_EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
# The first layer dense, the second of experts in one group.
_DEEPSEEK_EXPERTS = {**_EXPERTS, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1}
_LATENT_ATTENTION = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
_MAMBA = {
    "mamba_d_state": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}
_LINEAR_ATTENTION = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
_GRANITE = {
    "logits_scaling": 3.0,
    "embedding_multiplier": 2.0,
    "residual_multiplier": 0.7,
    "attention_multiplier": 0.2,
}
# Prompts have 14 to 27 tokens, with responses up to 35.
_SHORT, _LONG = {"sliding_window": 6}, {"sliding_window": 64}
_EACH_SECOND = {**_SHORT, "layer_types": ["sliding_attention", "full_attention"]}
_GEMMA = {"query_pre_attn_scalar": 8}
_WINDOW, _WIDE = "window 6", "window 64"
_EACH = "window 6 in each second layer"


def _long_rope(context: int) -> dict[str, Any]:
    """Return settings of a LongRoPE whose frequencies change beyond so many tokens."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "original_max_position_embeddings": context,
        "short_factor": [1.0] * 4,
        "long_factor": [3.0] * 4,
    }
    return {
        "sliding_window": None,
        "original_max_position_embeddings": context,
        "rope_parameters": rope,
        "head_dim": ABSENT,
    }


LANGUAGE_FAMILIES = (
    Family("llama", "Llama 2, Llama 3.1, Vicuna, TinyLlama, SmolLM2, Yi, Falcon 3"),
    Family("mistral", "Mistral 7B v0.3", {"sliding_window": None}),
    Family("mistral", "Mistral 7B v0.1, Zephyr", _LONG, _WIDE),
    Family("mistral", "Mistral 7B v0.1, Zephyr", _SHORT, _WINDOW),
    Family("ministral", "Ministral 8B", _SHORT, _WINDOW),
    Family("ministral3", "Ministral 3"),
    Family("mixtral", "Mixtral 8x7B", _EXPERTS),
    Family("qwen2", "Qwen2, Qwen2.5, QwQ"),
    Family(
        "qwen2",
        "Qwen2 with use_sliding_window",
        {**_SHORT, "use_sliding_window": True, "max_window_layers": 1},
        _EACH,
    ),
    Family("qwen2_moe", "Qwen1.5-MoE, Qwen2-57B-A14B", _EXPERTS),
    Family("qwen3", "Qwen3"),
    Family("qwen3_moe", "Qwen3-30B-A3B", _EXPERTS),
    Family("qwen3_next", "Qwen3-Next-80B-A3B", {**_EXPERTS, **_LINEAR_ATTENTION}),
    Family("qwen3_5_text", "Qwen3.5", _LINEAR_ATTENTION),
    Family("gemma", "Gemma 2B, 7B"),
    Family(
        "gemma2",
        "Gemma 2",
        {
            **_EACH_SECOND,
            **_GEMMA,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 5.0,
        },
        f"soft caps, {_EACH}",
    ),
    Family("gemma3_text", "Gemma 3 1B", {**_EACH_SECOND, **_GEMMA}, _EACH),
    Family("gemma3_text", "Gemma 3 1B", {**_EACH_SECOND, **_GEMMA, **_LONG}, _WIDE),
    Family(
        "gemma3n_text",
        "Gemma 3n",
        {
            **_EACH_SECOND,
            "num_hidden_layers": 4,
            "layer_types": ["full_attention", "sliding_attention"] * 2,
            "num_kv_shared_layers": 1,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 120,
            "laurel_rank": 4,
            "altup_num_inputs": 2,
            "activation_sparsity_pattern": None,
        },
        "window 6, a layer with the keys of another",
    ),
    Family("gemma4_text", "Gemma 4", {**_EACH_SECOND, "vocab_size_per_layer_input": 120}, _EACH),
    Family("vaultgemma", "VaultGemma", {**_EACH_SECOND, **_GEMMA}, _EACH),
    Family("phi", "Phi-1.5, Phi-2"),
    Family("phi3", "Phi-3 mini, Phi-4", {"sliding_window": None}),
    Family("phi3", "Phi-3 mini 4k", _SHORT, _WINDOW),
    Family(
        "phi3",
        "Phi-3 mini 128k, Phi-3.5, Phi-4 mini",
        _long_rope(64),
        "LongRoPE, prompts within the original context (theirs: 4,096 tokens)",
    ),
    Family(
        "phi3",
        "Phi-3 mini 128k, Phi-3.5, Phi-4 mini",
        _long_rope(16),
        "LongRoPE, beyond it: the longest prompt decides for all; fewer few-shot examples help",
    ),
    Family("phimoe", "Phi-3.5-MoE", {**_EXPERTS, **_SHORT}, _WINDOW),
    Family("gpt_oss", "gpt-oss-20b, gpt-oss-120b", {**_EXPERTS, **_EACH_SECOND}, f"sinks, {_EACH}"),
    Family("olmo", "OLMo 7B"),
    Family("olmo2", "OLMo 2"),
    Family("olmo3", "OLMo 3", _EACH_SECOND, _EACH),
    Family("olmoe", "OLMoE-1B-7B", _EXPERTS),
    Family("flex_olmo", "FlexOlmo", _EXPERTS),
    Family("cohere", "Command R, Aya 23", {"logit_scale": 0.3}),
    Family("cohere2", "Command R7B, Command A", {**_EACH_SECOND, "logit_scale": 0.3}, _EACH),
    Family("granite", "Granite 3", _GRANITE),
    Family("granitemoe", "Granite 3 MoE", {**_EXPERTS, **_GRANITE}),
    Family("granitemoeshared", "Granite MoE with a shared expert", {**_EXPERTS, **_GRANITE}),
    Family(
        "granitemoehybrid",
        "Granite 4.0 H",
        {
            **_EXPERTS,
            **_MAMBA,
            "layer_types": ["mamba", "attention"],
            "shared_intermediate_size": 16,
        },
        "Mamba layers",
    ),
    Family(
        "granitemoehybrid",
        "Granite 4.0 micro",
        {
            **_EXPERTS,
            **_MAMBA,
            "layer_types": ["attention", "attention"],
            "shared_intermediate_size": 16,
        },
        "attention alone",
    ),
    Family("smollm3", "SmolLM3", {"no_rope_layers": [1, 0]}, "NoPE in the second layer"),
    Family("starcoder2", "StarCoder2", _SHORT, _WINDOW),
    Family("stablelm", "StableLM 2"),
    Family("falcon", "Falcon 7B, 40B", {"new_decoder_architecture": True, "head_dim": ABSENT}),
    Family("gpt2", "GPT-2, DistilGPT-2"),
    Family("gpt_neo", "GPT-Neo", {"attention_types": [[["global", "local"], 1]]}),
    Family("gpt_neox", "Pythia, GPT-NeoX"),
    Family("gptj", "GPT-J", {"rotary_dim": 4}),
    Family("gpt_bigcode", "StarCoder, SantaCoder"),
    Family("opt", "OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    Family("bloom", "BLOOM, BLOOMZ"),
    Family("mpt", "MPT"),
    Family("glm", "GLM-4 9B"),
    Family("glm4", "GLM-4-0414"),
    Family("glm4_moe", "GLM-4.5, GLM-4.6", _DEEPSEEK_EXPERTS),
    Family(
        "exaone4",
        "EXAONE 4",
        {**_EACH_SECOND, "sliding_window_pattern": 2},
        f"{_EACH}, NoPE in the others",
    ),
    Family("ernie4_5", "ERNIE 4.5 0.3B"),
    Family("ernie4_5_moe", "ERNIE 4.5 21B-A3B", {"moe_num_experts": 4, "moe_k": 2}),
    Family("hunyuan_v1_dense", "Hunyuan 0.5B to 7B"),
    Family("hunyuan_v1_moe", "Hunyuan-A13B", {**_EXPERTS, "moe_topk": 2}),
    Family(
        "deepseek_v2",
        "DeepSeek-V2-Lite",
        {**_LATENT_ATTENTION, **_DEEPSEEK_EXPERTS, "n_shared_experts": 1},
        "latent attention",
    ),
    Family(
        "deepseek_v3",
        "DeepSeek-V3, DeepSeek-R1, Kimi K2",
        {**_LATENT_ATTENTION, **_DEEPSEEK_EXPERTS},
        "latent attention",
    ),
    Family(
        "deepseek_v32",
        "DeepSeek-V3.2",
        {
            **_LATENT_ATTENTION,
            **_DEEPSEEK_EXPERTS,
            "index_topk": 4,
            "index_head_dim": 8,
            "index_n_heads": 2,
        },
    ),
    Family(
        "minimax",
        "MiniMax-Text-01",
        {**_EXPERTS, "layer_types": ["full_attention", "linear_attention"]},
    ),
    Family("minimax_m2", "MiniMax-M2", _EXPERTS),
    Family(
        "llama4_text",
        "Llama 4 Scout, Maverick (text)",
        {
            **_EXPERTS,
            "intermediate_size_mlp": 48,
            "attention_chunk_size": 8,
            "no_rope_layers": [1, 0],
        },
        "chunks of 8, NoPE in the second layer",
    ),
    Family("nemotron", "Nemotron-4, Minitron"),
    Family("persimmon", "Persimmon 8B"),
    Family("helium", "Helium 1"),
    Family("seed_oss", "Seed-OSS 36B"),
    Family("dots1", "dots.llm1", {**_DEEPSEEK_EXPERTS, "n_shared_experts": 1}),
    Family("apertus", "Apertus"),
    Family("arcee", "AFM 4.5B"),
    Family("afmoe", "Trinity", {**_EXPERTS, **_EACH_SECOND}, _EACH),
    Family("bitnet", "BitNet b1.58"),
    Family("nanochat", "nanochat"),
    Family("minicpm3", "MiniCPM3", _LATENT_ATTENTION, "latent attention"),
    Family("internlm3", "InternLM3"),
    Family("hyperclovax", "HyperCLOVA X"),
    Family("cwm", "CWM", _EACH_SECOND, _EACH),
    Family("jetmoe", "JetMoE", _EXPERTS),
    Family("diffllama", "DiffLlama"),
    Family("mamba", "Mamba", {"state_size": 8}),
    Family("mamba2", "Mamba 2", {"state_size": 8, "num_heads": 8, "n_groups": 1}),
    Family("falcon_mamba", "Falcon Mamba", {"state_size": 8}),
    Family(
        "jamba",
        "Jamba",
        {
            **_EXPERTS,
            **_MAMBA,
            "use_mamba_kernels": False,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
        },
    ),
    Family("bamba", "Bamba", {**_MAMBA, "attn_layer_indices": [1]}),
    Family("falcon_h1", "Falcon-H1", {**_MAMBA, "mamba_d_ssm": 64}),
    Family("nemotron_h", "Nemotron-H, Nemotron Nano 2", _MAMBA),
    Family("lfm2", "LFM2", {"layer_types": ["conv", "full_attention"]}),
    Family(
        "recurrent_gemma",
        "RecurrentGemma",
        {"block_types": ["recurrent", "attention"], "lru_width": 32, "attention_window_size": 6},
    ),
    Family("rwkv", "RWKV-4", {"attention_hidden_size": 32}),
    Family("zamba2", "Zamba2", {**_MAMBA, "layers_block_type": ["mamba", "hybrid"]}),
    Family("t5", "T5, FLAN-T5", {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4}),
    Family(
        "bart",
        "BART",
        {
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
        },
    ),
)
