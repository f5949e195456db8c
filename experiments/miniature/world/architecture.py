"""The miniature's architectures: a word-level tokenizer, a Llama, a CLIP, and how images enter.

python -m verbalizer_bench.experiments.miniature.world --architecture experiments/miniature/recipes
"""

from pathlib import Path
from random import Random

from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPProcessor,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from verbalizer_bench.experiments.miniature.world.curriculum import PHASES, base_record
from verbalizer_bench.experiments.miniature.world.scenes import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIDE,
)
from verbalizer_bench.experiments.miniature.world.wording import wordings
from verbalizer_bench.experiments.miniature.world.words import WORDS

PAD, BOS, EOS, UNK, IMAGE = "<pad>", "<s>", "</s>", "<unk>", "<image>"
_SPECIAL = (PAD, BOS, EOS, UNK, "[INST]", "[/INST]", IMAGE)
_PATCH, _SAMPLES = 8, 9000


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer of the world's words: split at spaces, lines and punctuation.

    An underscore does not split, so that every label word of the suite is one token. Decoding puts
    spaces between words and none before a full stop.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(" +"), "removed"),
            pre_tokenizers.Split(Regex(r"[^\w ]"), "isolated"),
        ]
    )
    words = {word for text in _texts() for word, _ in split.pre_tokenize_str(text)}
    vocabulary = {word: number for number, word in enumerate([*_SPECIAL, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=True),
            decoders.Fuse(),
            decoders.Replace(Regex(r"(?<=[<({]) | (?=[>)}:])|(?<=\n) | (?=\n)"), ""),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word in _SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        extra_special_tokens={"image_token": IMAGE},
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def _texts() -> list[str]:
    """Return texts that hold every word of the world."""
    random = Random(0)
    texts = [" ".join(WORDS)]
    for number in range(_SAMPLES):
        turns = base_record(random, PHASES[number % 3])["conversations"]
        texts += [turn["value"] for turn in turns]
    for wording in wordings():
        texts += [wording.spec.prompt.replace("{{", "").replace("}}", "")]
        texts += [f"{v.first} {v.second}" for v in wording.verbalizers]
    # Whole answers are written in capitals too.
    shown = " ".join((*COLOURS, *SHAPES, *PLACES, *BACKGROUNDS))
    return [*texts, shown.upper(), "Describe the image. What does the image show?"]


def write_architectures(folder: Path) -> list[Path]:
    """Write what `model.config` of the recipes names: `llama` and `clip`, without weights."""
    tokenizer = make_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(word) for name, word in _IDS.items()}
    llama, clip = folder / "llama", folder / "clip"
    LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        initializer_range=0.05,
        tie_word_embeddings=True,
        **ids,
    ).save_pretrained(llama)
    tokenizer.save_pretrained(llama)
    _clip_config(len(tokenizer), ids["pad_token_id"], tokenizer).save_pretrained(clip)
    size = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(clip)
    return [llama, clip]


_IDS = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}


def _clip_config(words: int, pad: int, tokenizer: PreTrainedTokenizerFast) -> CLIPConfig:
    """Return a CLIP with 16 patches; captions end with a newline, where its text half pools."""
    layers = {"hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 4}
    return CLIPConfig(
        architectures=["CLIPModel"],
        text_config=layers
        | {
            "vocab_size": words,
            "num_hidden_layers": 2,
            "max_position_embeddings": 48,
            "pad_token_id": pad,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.convert_tokens_to_ids("\n"),
        },
        vision_config=layers | {"num_hidden_layers": 3, "image_size": SIDE, "patch_size": _PATCH},
        projection_dim=64,
    )
