"""Processors that need torchvision for their video part, with the adapter and the engine.

They are tested in the environment of `make test-lmms`, whose torch has a torchvision.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.helpers.asking import requests
from tests.helpers.families import build
from tests.helpers.toy import make_tokenizer, records
from tests.helpers.vision_families import VISION_FAMILIES
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM

pytest.importorskip("torchvision", reason="`make test-lmms` runs these")
pytestmark = pytest.mark.lmms

PROMPTS = ["hello there my friend", "x", "a longer prompt than the other two of this test"]
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><image><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %} A:{% endif %}"
)


def qwen_processor() -> Any:
    tokenizer = make_tokenizer([record.prompt for record in records()])
    names = ("<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    tokenizer.add_tokens([transformers.AddedToken(name, special=True) for name in names])
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    return transformers.Qwen2VLProcessor(
        transformers.Qwen2VLImageProcessor(**sizes, min_pixels=256, max_pixels=1024),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(**sizes),
        chat_template=TEMPLATE,
    )


@pytest.mark.parametrize("model_type", ["qwen2_vl", "qwen2_5_vl"])
def test_qwen_vl(model_type: str, tmp_path: Path) -> None:
    processor = qwen_processor()
    family = next(each for each in VISION_FAMILIES if each.model_type == model_type)
    text = {**family.sizes["text_config"], "vocab_size": len(processor.tokenizer)}
    id_of = processor.tokenizer.convert_tokens_to_ids
    ids = {
        "image_token_id": processor.image_token_id,
        "video_token_id": id_of("<|video_pad|>"),
        "vision_start_token_id": id_of("<|vision_start|>"),
        "vision_end_token_id": id_of("<|vision_end|>"),
    }
    kept = {name: size for name, size in family.sizes.items() if not name.endswith("_index")}
    build(replace(family, sizes={**kept, **ids, "text_config": text})).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    found = {}
    for engine in ("generate", "shared_prefix"):
        lm = VerbalizerLVLM(
            str(tmp_path), dtype="float32", device="cpu", batch_size=1, engine=engine
        )
        asked = requests(PROMPTS, num_beams=5, max_gen_toks=6)
        found[engine] = lm.generate_until(asked, disable_tqdm=True)
        assert lm.get_model_info()["verbalizer_bench"]["image"]["tokens"] == 16
    assert found["generate"] == found["shared_prefix"]
    assert len(set(found["generate"])) > 1
