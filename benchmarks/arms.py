"""The ways to generate that are compared: each takes prompts and gives their responses."""

import copy
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from PIL import Image

from tests.helpers.toy import IMAGE
from verbalizer_bench.models.engine.prefix_groups import group_by_prefix
from verbalizer_bench.models.images import make_image

OURS, STOCK, CACHED, LMMS = "ours", "stock", "cached", "llava_hf"
Generation = Mapping[str, object]


class GenerationArm(NamedTuple):
    """A loaded model and a way to have it answer prompts."""

    model: torch.nn.Module
    generate: Callable[[Sequence[str], Generation], list[str]]


class EngineCase(NamedTuple):
    """What is compared: image tokens (0: a text model), beams (1: greedy), vocabulary, type."""

    image_tokens: int
    beams: int
    vocabulary: int
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """Return a readable name."""
        kind = f"LVLM {self.image_tokens}" if self.image_tokens else "LLM"
        search = f"{self.beams} beams" if self.beams > 1 else "greedy"
        precision = f", {self.dtype}" * (self.dtype != "float32")
        return f"{kind}, {search}, {self.vocabulary:,} words{precision}"


def lmms_installed() -> bool:
    """Say whether lmms-eval's `llava_hf` can be measured."""
    return all(importlib.util.find_spec(name) for name in ("lmms_eval", "decord", "loguru"))


def make_arm(name: str, folder: Path, case: EngineCase, size: int) -> GenerationArm:
    """Load a checkpoint for one way to generate.

    Args:
        name: `ours`, `stock` (lm-eval's `hf` or `hf-multimodal`), `cached` (plain `generate` with
            a cached prefix), `llava_hf` (lmms-eval's) or `reference` (plain `generate`, one prompt
            at a time, in float32).
        folder: The checkpoint.
        case: Says whether prompts have an image, and in what precision models are loaded.
        size: Prompts in a batch; `ours` chooses it itself.
    """
    from lm_eval.models.hf_vlms import HFMultimodalLM
    from lm_eval.models.huggingface import HFLM

    from verbalizer_bench.models.adapters.llm import VerbalizerLLM
    from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM

    image = bool(case.image_tokens)
    if name == OURS:
        ours = (VerbalizerLVLM if image else VerbalizerLLM)(
            str(folder), device="cpu", engine="shared_prefix", dtype=case.dtype
        )
        return GenerationArm(
            ours.model,
            lambda prompts, generation: ours.generate_until(
                [_instance(prompt, generation) for prompt in prompts], disable_tqdm=True
            ),
        )
    if name == STOCK:
        stock = (HFMultimodalLM if image else HFLM)(
            str(folder), device="cpu", batch_size=size, dtype=case.dtype
        )
        blank = _blank(folder) if image else None
        return GenerationArm(
            stock.model,
            lambda prompts, generation: stock.generate_until(
                [_instance(prompt, generation, blank) for prompt in prompts], disable_tqdm=True
            ),
        )
    if name == LMMS:
        return _llava_hf(folder)
    plain = PlainGenerate(folder, image)
    if name == CACHED:
        return GenerationArm(
            plain.model, lambda prompts, generation: plain.cached(prompts, generation, size)
        )
    return GenerationArm(plain.model, plain.alone)


def _instance(prompt: str, generation: Generation, image: Image.Image | None = None) -> Any:
    """Return a request; stock needs the image and its place, our adapter adds both."""
    from lm_eval.api.instance import Instance

    arguments: tuple[Any, ...] = (prompt, dict(generation))
    if image is not None:
        arguments = (f"{IMAGE}\n{prompt}", dict(generation), {"visual": [image]})
    return Instance("generate_until", {}, arguments, 0)


def _llava_hf(folder: Path) -> GenerationArm:
    """Load lmms-eval's `llava_hf`, which takes one prompt at a time."""
    from lmms_eval.models.simple.llava_hf import LlavaHf

    # The template asks the prompt as it is, as the other arms do.
    lmms = LlavaHf(
        str(folder), device="cpu", device_map="cpu", chat_template="{{ messages[0]['content'] }}"
    )
    blank = _blank(folder)

    def generate(prompts: Sequence[str], generation: Generation) -> list[str]:
        lmms.task_dict = {"bench": {"test": prompts}}
        asked = {"num_beams": generation["num_beams"], "max_new_tokens": generation["max_gen_toks"]}
        requests = [
            SimpleNamespace(
                args=(f"{IMAGE}\n{prompt}", dict(asked), lambda _: [blank], n, "bench", "test")
            )
            for n, prompt in enumerate(prompts)
        ]
        responses: list[str] = lmms.generate_until(requests)
        return responses

    return GenerationArm(lmms.model, generate)


def _blank(folder: Path) -> Image.Image:
    from transformers import AutoConfig

    side = AutoConfig.from_pretrained(folder).vision_config.image_size
    image = make_image("white", (side, side))
    assert image is not None
    return image


class PlainGenerate:
    """transformers' `generate`, with no stop but EOS."""

    def __init__(self, folder: Path, image: bool) -> None:
        """Load a checkpoint in float32."""
        from transformers import (
            AutoModelForCausalLM,
            AutoModelForImageTextToText,
            AutoProcessor,
            AutoTokenizer,
        )

        kind = AutoModelForImageTextToText if image else AutoModelForCausalLM
        self.model = kind.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(folder) if image else None
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.image = _blank(folder) if image else None

    def alone(self, prompts: Sequence[str], generation: Generation) -> list[str]:
        """Generate one prompt at a time: the reference."""
        return [self._decode(self._generate(self._inputs(p), generation))[0] for p in prompts]

    def cached(self, prompts: Sequence[str], generation: Generation, size: int) -> list[str]:
        """Generate in batches; what a group of prompts shares in front is computed once a group."""
        inputs = [self._inputs(prompt) for prompt in prompts]
        ids = [each["input_ids"][0].tolist() for each in inputs]
        responses = [""] * len(prompts)
        for group in group_by_prefix(ids):
            prefix = self._prefix(inputs[group.members[0]], len(group.prefix))
            members = group.members[::-1]
            for start in range(0, len(members), size):
                batch = members[start : start + size]
                suffixes = [ids[i][len(group.prefix) :] for i in batch]
                output = self._continue(prefix, len(group.prefix), suffixes, generation)
                for index, text in zip(batch, output, strict=True):
                    responses[index] = text
        return responses

    def _inputs(self, prompt: str) -> dict[str, torch.Tensor]:
        if self.processor is None:
            return dict(self.tokenizer(prompt, return_tensors="pt"))
        return dict(
            self.processor(text=f"{IMAGE}\n{prompt}", images=self.image, return_tensors="pt")
        )

    @torch.inference_mode()
    def _prefix(self, inputs: Mapping[str, torch.Tensor], length: int) -> Any:
        front = {
            name: value if name == "pixel_values" else value[:, :length]
            for name, value in inputs.items()
        }
        return self.model(**front, use_cache=True).past_key_values if length else None

    def _continue(
        self,
        prefix: Any,
        length: int,
        suffixes: Sequence[Sequence[int]],
        generation: Generation,
    ) -> list[str]:
        longest = max(map(len, suffixes))
        ids = torch.full((len(suffixes), longest), self.tokenizer.pad_token_id)
        mask = torch.zeros(len(suffixes), length + longest, dtype=torch.long)
        mask[:, :length] = 1
        for row, suffix in enumerate(suffixes):
            ids[row, longest - len(suffix) :] = torch.tensor(suffix)
            mask[row, length + longest - len(suffix) :] = 1
        # `generate` extends a given cache, and repeats ids for beams but not the cache.
        cache = copy.deepcopy(prefix)
        if cache is not None:
            cache.batch_repeat_interleave(len(suffixes) * int(str(generation["num_beams"])))
        inputs = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache}
        return self._decode(self._generate(inputs, generation))

    @torch.inference_mode()
    def _generate(self, inputs: Mapping[str, Any], generation: Generation) -> torch.Tensor:
        output = self.model.generate(
            **inputs,
            do_sample=False,
            num_beams=generation["num_beams"],
            max_new_tokens=generation["max_gen_toks"],
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        new: torch.Tensor = output[:, inputs["input_ids"].shape[1] :]
        return new

    def _decode(self, tokens: torch.Tensor) -> list[str]:
        texts: list[str] = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return texts
