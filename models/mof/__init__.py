"""A LLaVA that sees by two vision towers; importing this makes transformers know `mof_llava`.

Its checkpoints carry the two files of code beside it, for those who have not this package: they
load with `trust_remote_code=True`.
"""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText

from verbalizer_bench.models.mof.configuration_mof_llava import MofLlavaConfig
from verbalizer_bench.models.mof.modeling_mof_llava import (
    MofLlavaForConditionalGeneration,
    MofLlavaModel,
)

__all__ = ["MofLlavaConfig", "MofLlavaForConditionalGeneration", "MofLlavaModel"]

AutoConfig.register(MofLlavaConfig.model_type, MofLlavaConfig)
AutoModel.register(MofLlavaConfig, MofLlavaModel)
AutoModelForImageTextToText.register(MofLlavaConfig, MofLlavaForConditionalGeneration)
MofLlavaConfig.register_for_auto_class()
MofLlavaForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
