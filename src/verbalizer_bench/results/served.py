"""What a run of a served model differs in, and what a report says of it."""

from collections.abc import Mapping
from typing import Any

from verbalizer_bench.models.engine.generation_config import influential_settings
from verbalizer_bench.results.schema import RunRecord, Served

# A difference that begins with this is of what made the responses, as a model class is.
SERVED = "served by "
BEAMS = "vLLM's beam search"
# Parameters of the decoding itself, which `beams` and the task's settings stand for.
_DECODING = (
    *("temperature", "max_tokens", "max_completion_tokens", "stop", "use_beam_search", "n"),
    *("logprobs", "top_logprobs"),
)
# Of accounts and caches; a seed draws nothing in greedy search.
_HARMLESS = (
    *("seed", "user", "service_tier", "store", "metadata", "prompt_cache_key", "priority"),
    *("safety_identifier", "cache_salt", "request_id", "session_id"),
)


def served_settings(asked: Mapping[str, Any], served: Served) -> dict[str, Any]:
    """Return the tasks' generation settings as a served model was asked with them."""
    return {**asked, "num_beams": served.beams}


def served_differences(served: Served) -> list[str]:
    """Return in what a run of a served model differs from one of our own adapters."""
    texts = [f"{SERVED}another program, with its own template, precision and defaults"]
    for parameters in served.parameters:
        others = {
            name: value
            for name, value in parameters.items()
            if name not in _DECODING and name not in _HARMLESS
        }
        texts += [f"sent {k}={v}"[:200] for k, v in influential_settings(others, ()).items()]
    return list(dict.fromkeys(texts))


def served_text(served: Served) -> str:
    """Return who answered, and what was sent, for a report."""
    said = [
        f"the server calls it {name} ({count} times)" for name, count in served.reported.items()
    ]
    said += [f"system_fingerprint {name}" for name in served.system_fingerprints]
    sent = "; ".join(
        ", ".join(f"{name}={value}" for name, value in parameters.items())
        for parameters in served.parameters
    )
    prompts = "conversations" if served.conversation else "one user message each"
    said += [f"sent: {sent[:300]}", f"prompts as {prompts}, in the server's own chat template"]
    return f"served model {served.model} at {served.address}: {'; '.join(said)}"


def served_warnings(record: RunRecord) -> list[str]:
    """Return what a reader must know before using the numbers of a served model."""
    served = record.served
    if served is None:
        return []
    texts = []
    if record.image is not None and record.image.mode != "none":
        texts.append(
            f"an image ({record.image.mode}) was sent; whether the server showed it is not "
            "known: some drop it for a text model"
        )
    if len(served.reported) > 1:
        names = ", ".join(f"{name} ({count})" for name, count in served.reported.items())
        texts.append(f"the server named several models: {names}; they may be other weights")
    if len(served.system_fingerprints) > 1:
        texts.append(
            f"the server changed while it was asked: {len(served.system_fingerprints)} "
            "system_fingerprints"
        )
    return texts
