"""Make the demo's two tiny checkpoints: a Llama, and a LLaVA over it. Their scores are toys.

    verbalizer-bench demo

Both are trained from random weights on records made of the samples' train rows, only so that they
answer with label words. Nothing here is a recipe for a real checkpoint.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm
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

from verbalizer_bench.models.images import make_image
from verbalizer_bench.tasks.data import fewshot_documents
from verbalizer_bench.tasks.generate import read_dataset, suite_files

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
    found = []
    for path in suite_files().values():
        spec, verbalizers = read_dataset(path)
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


def train_toys(folder: Path, steps: int, seed: int = 0) -> tuple[Path, Path]:
    """Train the Llama for so many steps of 32 records, the LLaVA for a third of them; save both.

    Returns:
        The folders of the Llama and of the LLaVA.
    """
    data = records()
    tokenizer = make_tokenizer([f"{record.prompt} {record.answer}" for record in data])
    llm = make_llm(tokenizer, seed)
    _train(llm, _text_batches(data, tokenizer, seed), steps, "Training the toy Llama")
    llm_folder, llava_folder = folder / "toy-llama", folder / "toy-llava"
    llm.save_pretrained(llm_folder)
    tokenizer.save_pretrained(llm_folder)
    llava, processor = make_llava(llm, tokenizer, seed)
    batches = _image_batches(data, processor, seed)
    _train(llava, batches, max(1, steps // 3), "Training the toy LLaVA")
    llava.save_pretrained(llava_folder)
    processor.save_pretrained(llava_folder)
    return llm_folder, llava_folder


def _train(
    model: torch.nn.Module, batches: Iterator[dict[str, torch.Tensor]], steps: int, title: str
) -> None:
    """Minimise the loss on the answers."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=3e-3, weight_decay=0.0)
    model.train()
    with tqdm(range(steps), desc=title, unit="step") as bar:
        for _ in bar:
            loss = model(**next(batches)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            optimiser.zero_grad()
            bar.set_postfix(loss=f"{loss.item():.3f}")
    model.eval()


def _text_batches(
    data: Sequence[Record], tokenizer: PreTrainedTokenizerFast, seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of prompts with their answers; labels are set on the answer and EOS only."""
    for chosen in _draws(data, seed):
        yield _with_labels(
            tokenizer([f"{r.prompt} {r.answer}{EOS}" for r in chosen], **_PADDING),
            chosen,
            tokenizer,
        )


def _image_batches(
    data: Sequence[Record], processor: LlavaProcessor, seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the same batches with a white image in front of every prompt."""
    white = make_image("white", (IMAGE_PIXELS, IMAGE_PIXELS))
    for chosen in _draws(data, seed):
        texts = [f"{IMAGE}\n{r.prompt} {r.answer}{EOS}" for r in chosen]
        batch = processor(text=texts, images=[white] * len(chosen), **_PADDING)
        yield _with_labels(batch, chosen, processor.tokenizer)


_PADDING: dict[str, Any] = {"padding": True, "padding_side": "right", "return_tensors": "pt"}


def _draws(data: Sequence[Record], seed: int) -> Iterator[list[Record]]:
    generator = random.Random(seed)
    while True:
        yield generator.sample(list(data), 32)


def _with_labels(
    batch: Any, chosen: Sequence[Record], tokenizer: PreTrainedTokenizerFast
) -> dict[str, torch.Tensor]:
    labels = torch.full_like(batch["input_ids"], -100)
    for row, record in enumerate(chosen):
        end = int(batch["attention_mask"][row].sum())
        answer = len(tokenizer(f" {record.answer}{EOS}", add_special_tokens=False)["input_ids"])
        labels[row, end - answer : end] = batch["input_ids"][row, end - answer : end]
    return {**batch, "labels": labels}
