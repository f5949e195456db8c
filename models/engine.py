"""Generation that computes what prompts share once: the same outputs as `generate`, sooner.

89,160 prompts share BOS, chat preamble, image and instruction, and `generate` runs all of it once a
beam. Here the keys and values of a shared prefix are computed once and kept once (`attention.py`),
prompts that finish leave the batch, and the vision tower runs once an image. Greedy and beam search
mirror transformers' (`search.py`). In float32 the outputs are those of `generate` one prompt at a
time; tests hold it to that.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache

from verbalizer_bench.models.attention import SharedPrefix, attention_implementation
from verbalizer_bench.models.batches import in_batches
from verbalizer_bench.models.prefix import plan
from verbalizer_bench.models.search import BeamSearch, GreedySearch
from verbalizer_bench.models.settings import GenerationSettings

log = logging.getLogger(__name__)

# More rows at a time bring nothing on a CPU; on a GPU running out of memory halves a batch.
_ROWS = 320
_SUFFIX_TOKENS = 8192
_KNOWN_ARGUMENTS = {"num_beams", "do_sample", "length_penalty", "early_stopping"}


class EncodedPrompt(NamedTuple):
    """A prompt as token ids.

    Attributes:
        ids: The ids; image tokens are expanded, and those of the n-th known image are -1 - n, so
            that prompts with different images share nothing behind the first.
        features: Gives the image tokens' embeddings, (image tokens, width); None without an image.
    """

    ids: list[int]
    features: Callable[[], torch.Tensor] | None = None


ENGINES = ("auto", "shared_prefix", "generate")


def why_not(model: Any, settings: GenerationSettings) -> str | None:
    """Say why a request cannot be generated here exactly; None if it can."""
    config = model.config.get_text_config()
    if getattr(model.config, "is_encoder_decoder", False):
        return "encoder-decoder"
    if not hasattr(base_model(model), "get_decoder"):
        return f"{type(base_model(model)).__name__}, which has no get_decoder"
    if not getattr(language_model(model), "_supports_attention_backend", False):
        return f"{config.model_type} is not on transformers' attention interface"
    if _has_window(config):
        return "sliding-window attention"
    if "mrope_section" in (getattr(config, "rope_parameters", None) or {}):
        return "M-RoPE"
    if settings.kwargs.get("do_sample"):
        return "sampling"
    if settings.stops:
        return "stop strings"
    if unknown := set(settings.kwargs) - _KNOWN_ARGUMENTS:
        return f"generation arguments {', '.join(sorted(unknown))}"
    return _processors(model.generation_config)


def base_model(model: Any) -> Any:
    """Return a model without a LoRA wrapper around it; its layers keep their adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def language_model(model: Any) -> Any:
    """Return the decoder of a causal or image-text-to-text model, without its head."""
    return base_model(model).get_decoder()


class SharedPrefixEngine:
    """Generate with shared prefixes, for one loaded model."""

    def __init__(self, model: Any, pad_token_id: int, eos_token_ids: Sequence[int]) -> None:
        """Take a transformers model with a language-model head."""
        self.model = model
        self.decoder = language_model(model)
        self.embed = self.decoder.get_input_embeddings()
        self.head = base_model(model).get_output_embeddings()
        self.device = self.embed.weight.device
        self.pad = pad_token_id
        self.eos = torch.tensor(list(eos_token_ids), device=self.device)
        self._root: tuple[tuple[int, ...], DynamicCache] | None = None

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[EncodedPrompt], settings: GenerationSettings, most: int | None
    ) -> Iterator[tuple[int, list[int]]]:
        """Generate a response to every prompt, in an order of its own.

        Args:
            prompts: None of them empty.
            settings: What `why_not` has nothing against.
            most: Prompts in a batch at most; None leaves it to the engine.

        Yields:
            A prompt's index and its new tokens, EOS included.
        """
        for group in plan([prompt.ids for prompt in prompts]):
            prefix = self._prefix(group.prefix, group.root, prompts[group.members[0]])
            longest = len(prompts[group.members[-1]].ids) - len(group.prefix)
            size = max(1, min(_ROWS // settings.beams, _SUFFIX_TOKENS // longest, most or _ROWS))
            run = self._runner(prompts, len(group.prefix), prefix, settings)
            yield from in_batches(group.members, size, run)

    @torch.inference_mode()
    def next_log_probs(self, prompt: EncodedPrompt) -> torch.Tensor:
        """Return the log probabilities of the first new token, (V,), by way of a shared prefix."""
        length = len(prompt.ids) // 2
        prefix = self._prefix(tuple(prompt.ids[:length]), 0, prompt)
        suffix = torch.tensor([prompt.ids[length:]], device=self.device)
        places = length + torch.arange(suffix.shape[1], device=self.device)
        state = SharedPrefix(prefix, torch.ones_like(suffix, dtype=torch.bool))
        with attention_implementation(self.decoder):
            embeddings = self._embed(suffix, [_features(prompt, length)])
            hidden = self._forward(embeddings, places[None], state)
        return self._log_probs(hidden[:, -1])[0]

    def _runner(
        self,
        prompts: Sequence[EncodedPrompt],
        length: int,
        prefix: list[tuple[torch.Tensor, torch.Tensor]],
        settings: GenerationSettings,
    ) -> Callable[[Sequence[int]], list[list[int]]]:
        def run(batch: Sequence[int]) -> list[list[int]]:
            suffixes = [prompts[index].ids[length:] for index in batch]
            features = [_features(prompts[index], length) for index in batch]
            with attention_implementation(self.decoder):
                return self._search(prefix, length, suffixes, features, settings)

        return run

    def _prefix(
        self, ids: tuple[int, ...], root: int, prompt: EncodedPrompt
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return keys and values of a prefix, a pair a layer, each (Hk, P, D); the root is kept."""
        config = self.decoder.config
        if not ids:
            size = getattr(config, "head_dim", None) or (
                config.hidden_size // config.num_attention_heads
            )
            empty = self.embed.weight.new_empty(config.num_key_value_heads, 0, size)
            return [(empty, empty)] * config.num_hidden_layers
        start, cache = 0, DynamicCache(config=config)
        if root:
            if self._root is None or self._root[0] != ids[:root]:
                self._root = None
                self._run_prefix(ids[:root], _features(prompt, 0), cache)
                self._root = (ids[:root], cache)
            start, cache = root, _copy(self._root[1], config)
        if len(ids) > start:
            self._run_prefix(ids[start:], _features(prompt, start), cache)
        return [(layer.keys[0], layer.values[0]) for layer in cache.layers]

    def _run_prefix(
        self, ids: Sequence[int], features: torch.Tensor | None, cache: DynamicCache
    ) -> None:
        embeddings = self._embed(torch.tensor([list(ids)], device=self.device), [features])
        self.decoder(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)

    def _embed(self, ids: torch.Tensor, features: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """Return embeddings, (rows, length, width); ids below zero take the row's features."""
        embeddings = self.embed(ids.clamp(min=0))
        for row, own in enumerate(features):
            slots = ids[row] < 0
            if own is not None and slots.any():
                embeddings[row, slots] = own[: int(slots.sum())].to(embeddings.dtype)
        return embeddings

    def _search(
        self,
        prefix: list[tuple[torch.Tensor, torch.Tensor]],
        length: int,
        suffixes: Sequence[list[int]],
        features: Sequence[torch.Tensor | None],
        settings: GenerationSettings,
    ) -> list[list[int]]:
        """Generate one batch: prompts in one pass, then a token a pass for all beams."""
        lengths = torch.tensor([len(suffix) for suffix in suffixes], device=self.device)
        places = torch.arange(int(lengths.max()), device=self.device)
        ids = torch.full((len(suffixes), len(places)), self.pad, device=self.device)
        for row, suffix in enumerate(suffixes):
            ids[row, : len(suffix)] = torch.tensor(suffix)
        state = SharedPrefix(prefix, places < lengths[:, None])
        hidden = self._forward(self._embed(ids, features), length + places[None], state)
        rows = torch.arange(len(suffixes), device=self.device)
        # At first all beams are the same: one row a prompt, seen K times.
        log_probs = self._log_probs(hidden[rows, lengths - 1])[:, None]
        search = self._start(len(suffixes), settings)
        state.decoding = True
        results: list[list[int]] = [[] for _ in suffixes]
        while True:
            origin, done = search.advance(log_probs.expand(-1, settings.beams, -1))
            if done.any():
                finished = done.nonzero()[:, 0]
                for row, tokens in zip(
                    rows[finished].tolist(), search.results(finished), strict=True
                ):
                    results[row] = tokens
            stay = (~done).nonzero()[:, 0]
            if not len(stay):
                return results
            state.reorder((stay[:, None] * settings.beams + origin[stay]).flatten())
            if len(stay) < len(done):
                rows, lengths = rows[stay], lengths[stay]
                search.keep(stay)
                state.keep(stay)
            newest = search.running[:, :, search.step - 1].reshape(-1, 1)
            places = (length + lengths + search.step - 1).repeat_interleave(settings.beams)[:, None]
            hidden = self._forward(self.embed(newest), places, state)
            log_probs = self._log_probs(hidden[:, 0]).view(len(rows), settings.beams, -1)

    def _start(self, prompts: int, settings: GenerationSettings) -> GreedySearch | BeamSearch:
        if settings.beams == 1:
            return GreedySearch(prompts, settings.max_new_tokens, self.eos, self.pad)
        return BeamSearch(
            prompts,
            settings.beams,
            settings.max_new_tokens,
            self.eos,
            self.pad,
            float(settings.kwargs.get("length_penalty", 1.0)),
            settings.kwargs.get("early_stopping", False),
        )

    def _forward(
        self, embeddings: torch.Tensor, positions: torch.Tensor, state: SharedPrefix
    ) -> torch.Tensor:
        hidden: torch.Tensor = self.decoder(
            inputs_embeds=embeddings,
            position_ids=positions.expand(len(embeddings), -1),
            use_cache=False,
            shared_prefix=state,
        ).last_hidden_state
        return hidden

    def _log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return float32 log probabilities, (rows, V)."""
        return torch.log_softmax(self.head(hidden).float(), dim=-1)


def _copy(cache: DynamicCache, config: Any) -> DynamicCache:
    """Return a cache that can be extended while the original stays."""
    copy = DynamicCache(config=config)
    for index, layer in enumerate(cache.layers):
        copy.update(layer.keys, layer.values, index)
    return copy


def _features(prompt: EncodedPrompt, start: int) -> torch.Tensor | None:
    """Return the features of a prompt's image tokens from a place on; None if there are none."""
    if prompt.features is None or min(prompt.ids[start:]) >= 0:
        return None
    return prompt.features()[sum(token < 0 for token in prompt.ids[:start]) :]


def _has_window(config: Any) -> bool:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return kinds != {"full_attention"} or bool(window and not getattr(config, "layer_types", None))


def _processors(config: Any) -> str | None:
    """Name the checkpoint's generation setting that changes scores, which beams here do not do."""
    neutral: dict[str, tuple[Any, ...]] = {
        "repetition_penalty": (None, 1.0),
        "no_repeat_ngram_size": (None, 0),
        "min_length": (None, 0),
        "min_new_tokens": (None, 0),
        "bad_words_ids": (None,),
        "suppress_tokens": (None,),
        "begin_suppress_tokens": (None,),
        "forced_bos_token_id": (None,),
        "forced_eos_token_id": (None,),
        "sequence_bias": (None,),
        "guidance_scale": (None, 1, 1.0),
        "exponential_decay_length_penalty": (None,),
        "encoder_repetition_penalty": (None, 1.0),
        "renormalize_logits": (None, False),
        "remove_invalid_values": (None, False),
        "length_penalty": (None, 1.0),
        "early_stopping": (None, False),
        "cache_implementation": (None, "dynamic"),
    }
    for name, values in neutral.items():
        if getattr(config, name, None) not in values:
            return f"the checkpoint's generation setting {name}={getattr(config, name)}"
    return None
