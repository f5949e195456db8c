"""What is benchmarked: the suite's prompts, and checkpoints of seeded random weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from tests.helpers.toy import IMAGE, make_tokenizer

CONTEXT = 2048
# The tokenizer sees every n-th prompt: the instructions repeat, the documents do not.
_TOKENIZER_SHARE = 4


class CheckpointShape(NamedTuple):
    """Sizes of a Llama and of the CLIP tower before it; every head is 32 wide or 16."""

    width: int
    inner: int
    layers: int
    heads: int
    vision_width: int
    vision_layers: int
    patch: int
    seed: int = 0


# 4.7 million weights a language model besides the vocabulary, 0.6 million a vision tower.
FULL = CheckpointShape(256, 688, 6, 8, vision_width=128, vision_layers=3, patch=14)
QUICK = CheckpointShape(64, 160, 2, 2, vision_width=32, vision_layers=1, patch=14)


class Suite(NamedTuple):
    """The suite's prompts.

    Attributes:
        prompts: A task's prompts, in the order of its documents.
        sources: A data set's source of rows, as results name it.
        generation: The suite's generation arguments: 10 beams, 15 new tokens, no stop but EOS.
    """

    prompts: dict[str, list[str]]
    sources: dict[str, str]
    generation: dict[str, object]


def load_tasks(data: str) -> dict[str, Any]:
    """Return lm-eval's task objects of the suite, by name; `data`: `hub`, `sample` or a folder."""
    from lm_eval.tasks import TaskManager

    from verbalizer_bench.tasks.spec import TASKS_FOLDER

    manager = TaskManager(
        include_path=[str(TASKS_FOLDER)], include_defaults=False, metadata={"data": data}
    )
    tasks: dict[str, Any] = manager.load(["verbalizer"])["tasks"]
    return tasks


def read_suite(data: str) -> Suite:
    """Render the 108 tasks' prompts from `data`: `hub`, `sample` or a folder."""
    tasks = load_tasks(data)
    prompts = {name: [t.doc_to_text(doc) for doc in t.eval_docs] for name, t in tasks.items()}
    sources = {t.config.metadata["dataset"]: t.config.metadata["source"] for t in tasks.values()}
    generation = dict(next(iter(tasks.values())).config.generation_kwargs)
    return Suite(prompts, sources, generation)


def one_task_a_data_set(suite: Suite, documents: int) -> list[str]:
    """Return the first documents of one task of each data set; label words differ."""
    chosen: dict[str, str] = {}
    for number, data_set in enumerate(sorted(suite.sources)):
        tasks = sorted(name for name in suite.prompts if name.startswith(f"verbalizer_{data_set}_"))
        chosen[data_set] = tasks[number % len(tasks)]
    return [prompt for name in chosen.values() for prompt in suite.prompts[name][:documents]]


def tokenizer_of(suite: Suite, vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer on the prompts; words that it does not need fill up the vocabulary."""
    texts = [text for prompts in suite.prompts.values() for text in prompts][::_TOKENIZER_SHARE]
    tokenizer = make_tokenizer(texts, vocabulary)
    tokenizer.add_tokens([f"<unused_{n}>" for n in range(vocabulary - len(tokenizer))])
    tokenizer.model_max_length = CONTEXT
    return tokenizer


def save_checkpoint(
    folder: Path, shape: CheckpointShape, tokenizer: PreTrainedTokenizerFast, image_tokens: int
) -> Path:
    """Write a Llama, or a LLaVA over the same Llama if there are image tokens; float32."""
    torch.manual_seed(shape.seed)
    llm = LlamaForCausalLM(_llama(shape, tokenizer))
    scale_weights(llm, 128**0.5 * shape.width**-0.5 * 6)
    if not image_tokens:
        llm.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder
    model, processor = _llava(llm, shape, tokenizer, image_tokens)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def scale_weights(model: torch.nn.Module, factor: float) -> None:
    """Enlarge weights: as they are initialised they repeat the last token, whatever the prompt."""
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data *= factor


def _llama(shape: CheckpointShape, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _llava(
    llm: LlamaForCausalLM,
    shape: CheckpointShape,
    tokenizer: PreTrainedTokenizerFast,
    image_tokens: int,
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    side = round(image_tokens**0.5) * shape.patch
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_width,
        intermediate_size=4 * shape.vision_width,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_width // 16,
        image_size=side,
        patch_size=shape.patch,
    )
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=llm.config,
            image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
            image_seq_length=image_tokens,
            # With one tower layer there is none before the last.
            vision_feature_layer=-2 if shape.vision_layers > 1 else -1,
            tie_word_embeddings=False,
        )
    )
    model.model.language_model.load_state_dict(llm.model.state_dict())
    model.lm_head.load_state_dict(llm.lm_head.state_dict())
    scale_weights(model.model.multi_modal_projector, 6)
    model.generation_config = llm.generation_config
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        tokenizer=tokenizer,
        patch_size=shape.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return model, processor


def by_length(prompts: Sequence[str], tokenizer: PreTrainedTokenizerFast, count: int) -> list[int]:
    """Return the places of `count` prompts that stand evenly in the order of lengths."""
    order = sorted(range(len(prompts)), key=lambda i: len(tokenizer(prompts[i])["input_ids"]))
    if count >= len(prompts):
        return order
    return [order[(2 * n + 1) * len(prompts) // (2 * count)] for n in range(count)]


def lengths(prompts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> Mapping[str, float]:
    """Return the least, mean and greatest number of text tokens."""
    counts = [len(tokenizer(prompt)["input_ids"]) for prompt in prompts]
    return {"min": min(counts), "mean": sum(counts) / len(counts), "max": max(counts)}
