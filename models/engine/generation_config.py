"""Which settings of a generation config cannot change the answer that greedy or beam search finds.

A list of the harmless ones: whatever else a checkpoint sets is taken to change answers, so that a
setting that nobody thought of, or that a later transformers has, is never passed over. It needs
neither torch nor transformers.
"""

from collections.abc import Collection, Mapping
from typing import Any

_HARMLESS = frozenset(
    (
        # Where the file came from.
        *("transformers_version", "_from_model_config", "_commit_hash"),
        # Every request has its own.
        *("max_length", "max_new_tokens", "do_sample"),
        # EOS is handed over and recorded; padding is masked; BOS is in the prompt.
        *("eos_token_id", "pad_token_id", "bos_token_id", "decoder_start_token_id"),
        # Of sampling, which is another search and asked for by the request.
        *("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p"),
        *("epsilon_cutoff", "eta_cutoff"),
        # How keys and values are kept, but for a quantised cache; how the work is done.
        *("use_cache", "cache_config", "max_cache_len", "prefill_chunk_size", "low_memory"),
        *("compile_config", "disable_compile"),
        # What is handed back beside the answer; the two of `ONE_RESPONSE` are overruled.
        *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
        *("return_dict_in_generate", "num_return_sequences"),
    )
)
# Values with which other settings do nothing; None is one of each.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0.0,),
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "length_penalty": (1.0,),
    "early_stopping": (False,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "guidance_scale": (1.0,),
    "renormalize_logits": (False,),
    "remove_invalid_values": (False,),
    "token_healing": (False,),
    "use_mtp": (False,),
    "cache_implementation": (
        *("dynamic", "dynamic_full", "static", "offloaded", "offloaded_static"),
        *("hybrid", "hybrid_chunked", "offloaded_hybrid", "sliding_window"),
    ),
}
# One response a prompt, as tokens, whatever the checkpoint sets. And logits that are not numbers
# stay what they are: they are an error, not to be replaced.
ONE_RESPONSE: Mapping[str, Any] = {
    "num_return_sequences": 1,
    "return_dict_in_generate": False,
    "remove_invalid_values": False,
}


def influential_settings(settings: Mapping[str, Any], asked: Collection[str]) -> dict[str, Any]:
    """Return those of a checkpoint's generation settings that may change answers.

    Args:
        settings: The settings that differ from `GenerationConfig`'s defaults.
        asked: What the request sets itself; it overrules the checkpoint.
    """
    return {
        name: value
        for name, value in settings.items()
        if name not in _HARMLESS
        and name not in asked
        and value is not None
        and value not in _NEUTRAL.get(name, ())
    }


def check_request(asked: Mapping[str, Any]) -> None:
    """Raise ValueError for an argument with which a request would not get its one response."""
    for name, value in ONE_RESPONSE.items():
        if name in asked and asked[name] != value:
            raise ValueError(
                f"gen_kwargs {name}={asked[name]}: a prompt gets one response, of logits as they "
                "are; leave it out"
            )
    beams, penalty = asked.get("num_beams", 1), asked.get("length_penalty", 1.0)
    early = asked.get("early_stopping", False)
    # `generate` fails with most of these, late and in words of its own.
    if not isinstance(beams, int) or beams < 1:
        raise ValueError(f"gen_kwargs num_beams={beams!r}: give a whole number from 1 on")
    if not isinstance(penalty, (int, float)):
        raise ValueError(f"gen_kwargs length_penalty={penalty!r}: give a number")
    if early not in (True, False, None, "never"):
        raise ValueError(f"gen_kwargs early_stopping={early!r}: give True, False or never")
