"""The entry point that lmms-eval reads when it starts, so nothing heavy is imported here."""

from typing import Any


def manifest() -> Any:
    """Return lmms-eval's description of our adapter."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id="verbalizer-lvlm",
        chat_class_path="verbalizer_bench.lmms.adapter.LmmsVerbalizerLVLM",
    )
