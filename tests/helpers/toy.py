"""Tiny checkpoints of random weights: a Llama, and a LLaVA over it, for tests and benchmarks."""

from collections.abc import Sequence
from typing import NamedTuple

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

BOS, EOS, PAD, IMAGE = "<s>", "</s>", "<pad>", "<image>"
IMAGE_PIXELS, PATCH_PIXELS = 32, 8
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}USER: "
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}"
    "{% endif %}{% endfor %}{% endif %} {% elif m['role'] == 'assistant' %}ASSISTANT: "
    "{{ m['content'] if m['content'] is string else m['content'][0]['text'] }}</s>"
    "{% else %}{{ m['content'] if m['content'] is string else m['content'][0]['text'] }} "
    "{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


class Record(NamedTuple):
    """One training example: a prompt and the label word that answers it."""

    prompt: str
    answer: str


def records() -> list[Record]:
    """Return a record for every train row of the samples and every verbalizer: 9 x 6 x 12."""
    from verbalizer_bench.tasks.data import fewshot_documents
    from verbalizer_bench.tasks.suite import suite_datasets

    found = []
    for spec, verbalizers in suite_datasets().values():
        for doc in fewshot_documents(spec, "sample").docs:
            for verbalizer in verbalizers:
                prompt = spec.render(doc, verbalizer)
                found.append(Record(prompt, spec.target(doc, verbalizer)))
    return found


def make_tokenizer(texts: Sequence[str], vocabulary: int = 1024) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer that adds BOS and knows the image token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS, IMAGE],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE},
        model_max_length=1024,
        chat_template=TEMPLATE,
    )


def make_llm(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Make a Llama of random weights: width 64, two layers, grouped-query attention."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=160,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_llava(
    llm: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Put a tiny vision tower (random, frozen) and a connector before a Llama: 16 image tokens."""
    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_PIXELS,
        patch_size=PATCH_PIXELS,
    )
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=llm.config,
            image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
            image_seq_length=(IMAGE_PIXELS // PATCH_PIXELS) ** 2,
            tie_word_embeddings=True,
        )
    )
    model.model.language_model.load_state_dict(llm.model.state_dict())
    model.tie_weights()
    model.model.vision_tower.requires_grad_(False)
    model.generation_config = llm.generation_config
    size = {"height": IMAGE_PIXELS, "width": IMAGE_PIXELS}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": IMAGE_PIXELS}, crop_size=size, do_center_crop=True
        ),
        tokenizer=tokenizer,
        patch_size=PATCH_PIXELS,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return model, processor
