"""Which stored weights are a checkpoint's language model, whatever they are called in it.

A causal language model has `model.layers…` and `lm_head`, a LLaVA `language_model.model.layers…`
or, of other versions of transformers, `model.language_model.layers…`, a Qwen2.5-VL `model.layers…`
beside `visual…`. What stands before the input embeddings' name is what stands before all of them.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoTokenizer

from verbalizer_bench.models.checkpoints.stored_weights import StoredWeights, Weight, pieces
from verbalizer_bench.models.checkpoints.strict_loading import (
    OTHER_MODALITIES,
    UNUSED_KEYS,
    raise_for_weights,
    reading,
)

EMBEDDINGS = "input embeddings"
HEAD = "output head"
_EMBEDDINGS = re.compile(
    r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings)\.weight$"
)
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$|^(language_model\.)?output\.weight$")
# Settings that change what the same weights do.
_SETTINGS = ("num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act")


class LanguageModel(NamedTuple):
    """The language model of a checkpoint.

    Attributes:
        stored: All of the checkpoint's weights.
        names: The names of the language model's weights in it, by names that are the same in all
            checkpoints of an architecture, `EMBEDDINGS` and `HEAD` among them. A tied head that
            is not stored is not among them.
        tied: Whether the configuration says that the head is the embeddings.
        config: Its part of the configuration.
        tokens: The tokenizer's tokens by their ids.
    """

    stored: StoredWeights
    names: Mapping[str, str]
    tied: bool
    config: Any
    tokens: Mapping[int, str]

    def weight(self, name: str) -> Weight:
        """Return a weight by its common name."""
        return self.stored.tensors[self.stored_name(name)]

    def stored_name(self, name: str) -> str:
        """Return its name in the files; a head that is not stored is the embeddings."""
        return self.names.get(name) or self.names[EMBEDDINGS]

    def has_own_head(self) -> bool:
        """Return whether the head is stored and is not the embeddings once more."""
        if HEAD not in self.names:
            return False
        head, embeddings = self.weight(HEAD), self.weight(EMBEDDINGS)
        return head.shape != embeddings.shape or any(
            not torch.equal(head.values(*piece), embeddings.values(*piece))
            for piece in pieces(math.prod(head.shape))
        )


def language_model(stored: StoredWeights) -> LanguageModel:
    """Find the language model in a checkpoint.

    Raises:
        ValueError: There is none, or there are several; configuration or tokenizer cannot be read.
    """
    with reading(stored.what):
        config = AutoConfig.from_pretrained(stored.folder)
        tokenizer = AutoTokenizer.from_pretrained(stored.folder)
    tied = bool(getattr(config, "tie_word_embeddings", False))
    tokens = {number: token for token, number in tokenizer.get_vocab().items()}
    return LanguageModel(stored, _names(stored), tied, config.get_text_config(), tokens)


def _names(stored: StoredWeights) -> dict[str, str]:
    embeddings = [name for name in stored.tensors if _EMBEDDINGS.search(name)]
    heads = [name for name in stored.tensors if _HEAD.search(name)]
    if len(embeddings) != 1 or len(heads) > 1:
        found = ", ".join(embeddings + heads) or "no input embeddings"
        raise ValueError(
            f"{stored.what}: holds not one language model but {found}; give a checkpoint of "
            "AutoModelForCausalLM, or one that sees images besides"
        )
    prefix = re.sub(r"[^.]+\.weight$", "", embeddings[0])
    names = {name.removeprefix(prefix): name for name in stored.tensors if name.startswith(prefix)}
    common = {
        EMBEDDINGS if name == embeddings[0] else short: name
        for short, name in names.items()
        if name not in heads and not OTHER_MODALITIES.search(short) and not UNUSED_KEYS.search(name)
    }
    if heads:
        common[HEAD] = heads[0]
        bias = re.sub(r"weight$", "bias", heads[0])
        if bias in stored.tensors:
            common[f"{HEAD}'s bias"] = bias
    return common


def check_same_architecture(base: LanguageModel, tuned: LanguageModel) -> None:
    """Raise ValueError unless both language models have the same weights in the same shapes.

    Of the vocabulary's matrices the widths count; `common_rows` says which rows are common.
    """
    ours, theirs = set(base.names) - {HEAD}, set(tuned.names) - {HEAD}
    what, of = tuned.stored.what, f"the language model of {base.stored.what}"
    common = [*sorted(ours & theirs), *({HEAD} & set(tuned.names))]
    differing = {_shapes(name, base, tuned) for name in common if _differ(name, base, tuned)}
    raise_for_weights(
        what,
        {
            f"weights of {of} are not in it, such as": ours - theirs,
            f"weights of its language model are not in {base.stored.what}, such as": theirs - ours,
            f"weights have another shape than in {base.stored.what}, such as": differing,
        },
        "give the checkpoint that it was tuned from as --base",
    )
    for key in _SETTINGS:
        values = [getattr(one.config, key, None) for one in (base, tuned)]
        if None not in values and values[0] != values[1]:
            raise ValueError(
                f"{what}: {key} is {values[1]}, in {base.stored.what} {values[0]}: the same "
                "weights mean something else; give the checkpoint that it was tuned from as --base"
            )


def _differ(name: str, base: LanguageModel, tuned: LanguageModel) -> bool:
    first = 1 if name in (EMBEDDINGS, HEAD) else 0
    return base.weight(name).shape[first:] != tuned.weight(name).shape[first:]


def _shapes(name: str, base: LanguageModel, tuned: LanguageModel) -> str:
    shapes = f"{tuned.weight(name).shape} in it, {base.weight(name).shape} there"
    return f"{tuned.names[name]}: {shapes}"


def common_rows(base: LanguageModel, tuned: LanguageModel) -> torch.Tensor:
    """Return which rows of the tuned vocabulary mean in both what they mean in the base.

    Rows beyond the base's are the tuned checkpoint's own (an image token), and so is a row that it
    gave to another token (a reserved one that became the image's).

    Returns:
        A boolean for each row of the tuned input embeddings.

    Raises:
        ValueError: So many tokens have other names that it is another vocabulary.
    """
    rows = tuned.weight(EMBEDDINGS).shape[0]
    shared = min(rows, base.weight(EMBEDDINGS).shape[0])
    renamed = [i for i in range(shared) if base.tokens.get(i) != tuned.tokens.get(i)]
    if len(renamed) > max(8, shared // 100):
        one = renamed[0]
        raise ValueError(
            f"{tuned.stored.what}: another vocabulary than that of {base.stored.what}: "
            f"{len(renamed)} of {shared} rows are other tokens, such as {one} "
            f"({tuned.tokens.get(one)!r}, there {base.tokens.get(one)!r}); give the checkpoint "
            "that it was tuned from as --base"
        )
    common = torch.arange(rows) < shared
    common[renamed] = False
    return common
