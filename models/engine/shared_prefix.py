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
from transformers import GenerationMixin

from verbalizer_bench.models.engine.attention import (
    KeyValue,
    SharedPrefix,
    attention_implementation,
)
from verbalizer_bench.models.engine.batching import Budget, in_batches, shared_batch_size
from verbalizer_bench.models.engine.finite_logits import check_finite
from verbalizer_bench.models.engine.generation_config import changing
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.engine.prefix_groups import common_length, plan
from verbalizer_bench.models.engine.search import BeamSearch, GreedySearch

log = logging.getLogger(__name__)

# More brings next to nothing on a CPU (measured: benchmarks/README.md) and takes memory; what is
# good on a GPU was not measured.
_CPU_BUDGET = Budget(passing=160, waiting=1280, logits=2**21)
_GPU_BUDGET = Budget(passing=2048, waiting=2**17, logits=2**25)
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
    own_generate = getattr(base_model(model).generate, "__func__", None)
    if own_generate is not GenerationMixin.generate:
        return f"{type(base_model(model)).__name__} has a generate of its own"
    own = changing(model.generation_config.to_diff_dict(), settings.kwargs)
    if own:
        name, value = next(iter(own.items()))
        return f"the checkpoint's generation setting {name}={str(value)[:200]}"
    return None


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
        self.budget = _CPU_BUDGET if self.device.type == "cpu" else _GPU_BUDGET
        self.vocabulary = int(model.config.get_text_config().vocab_size)
        # Tokens of all prompts so far, and how many of them went through the model.
        self.tokens = self.computed = 0
        self._kept_ids: list[int] = []
        self._kept_pairs: dict[int, KeyValue] = {}

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
            prefix = self._prefix(group.prefix, prompts[group.members[0]])
            length = len(group.prefix)
            self._count(prompts, group.members, length)
            size = self._sizes(prompts, length, settings.max_new_tokens, settings.beams, most)
            run = self._runner(prompts, length, prefix, settings)
            yield from in_batches(group.members, size, run)

    @torch.inference_mode()
    def next_log_probs(self, prompt: EncodedPrompt) -> torch.Tensor:
        """Return the log probabilities of the first new token, (V,), by way of a shared prefix."""
        length = len(prompt.ids) // 2
        prefix = self._prefix(prompt.ids[:length], prompt)
        state = SharedPrefix(prefix, self._lengths([prompt], length), beams=1)
        with attention_implementation(self.decoder):
            last = self._read([prompt], length, state)
        return torch.log_softmax(self.head(last).float(), dim=-1)[0]

    def _count(self, prompts: Sequence[EncodedPrompt], members: Sequence[int], length: int) -> None:
        self.tokens += sum(len(prompts[index].ids) for index in members)
        self.computed += sum(len(prompts[index].ids) - length for index in members)

    @property
    def hit_rate(self) -> float:
        """Return the share of the prompts' tokens that were not computed again for a prompt."""
        return 1 - self.computed / max(1, self.tokens)

    def _sizes(
        self,
        prompts: Sequence[EncodedPrompt],
        length: int,
        new_tokens: int,
        beams: int,
        most: int | None,
    ) -> Callable[[Sequence[int]], int]:
        limit = min(most or len(prompts), self.budget.passing)

        def size(coming: Sequence[int]) -> int:
            lengths = [len(prompts[index].ids) - length for index in coming[:limit]]
            return shared_batch_size(self.model, lengths, length, self.budget, new_tokens, beams)

        return size

    @torch.inference_mode()
    def score(
        self,
        contexts: Sequence[EncodedPrompt],
        continuations: Sequence[Sequence[list[int]]],
        most: int | None,
    ) -> Iterator[tuple[int, list[tuple[float, bool]]]]:
        """Score the continuations of every context, whose keys and values are computed once.

        Args:
            contexts: None of them empty.
            continuations: Those of each context, none empty; they are fed a token a pass.
            most: Contexts in a batch at most; None leaves it to the engine.

        Yields:
            A context's index and, for each continuation, its log probability and whether it is the
            greedy one.
        """
        # Contexts of a batch have equally many continuations.
        counts: dict[int, list[int]] = {}
        for index, own in enumerate(continuations):
            counts.setdefault(len(own), []).append(index)
        for count, indices in counts.items():
            for group in plan([contexts[index].ids for index in indices]):
                members = [indices[member] for member in group.members]
                prefix = self._prefix(group.prefix, contexts[members[0]])
                length = len(group.prefix)
                self._count(contexts, members, length)

                def run(
                    batch: Sequence[int], length: int = length, prefix: Any = prefix
                ) -> list[list[tuple[float, bool]]]:
                    with attention_implementation(self.decoder):
                        return self._score(
                            [contexts[index] for index in batch],
                            [continuations[index] for index in batch],
                            length,
                            prefix,
                        )

                steps = max(len(own) for index in members for own in continuations[index])
                size = self._sizes(contexts, length, steps, count, most)
                yield from in_batches(members, size, run)

    def _score(
        self,
        batch: Sequence[EncodedPrompt],
        continuations: Sequence[Sequence[list[int]]],
        length: int,
        prefix: dict[int, KeyValue],
    ) -> list[list[tuple[float, bool]]]:
        """Score one batch: beams that are told which token comes next."""
        shape = (len(batch), len(continuations[0]))
        steps = max(len(own) for row in continuations for own in row)
        wanted = torch.full((*shape, steps), -1, device=self.device)
        for place, row in enumerate(continuations):
            for beam, own in enumerate(row):
                wanted[place, beam, : len(own)] = torch.tensor(own)
        lengths = self._lengths(batch, length)
        state = SharedPrefix(prefix, lengths, beams=shape[1])
        hidden = self._read(batch, length, state)[:, None].expand(-1, shape[1], -1).flatten(0, 1)
        totals = torch.zeros(shape, device=self.device)
        greedy = torch.ones(shape, dtype=torch.bool, device=self.device)
        same = torch.arange(shape[1], device=self.device).expand(shape)
        for step in range(steps):
            tokens = wanted[:, :, step]
            found, best = self._of(hidden, tokens.flatten().clamp(min=0))
            totals += found.view(shape) * (tokens >= 0)
            greedy &= (best.view(shape) == tokens) | (tokens < 0)
            if step + 1 < steps:
                state.advance(same)
                places = (length + lengths + step).repeat_interleave(shape[1])[:, None]
                newest = self.embed(tokens.clamp(min=0).reshape(-1, 1))
                hidden = self._forward(newest, places, state)[:, 0]
        return [
            list(zip(*both, strict=True))
            for both in zip(totals.tolist(), greedy.tolist(), strict=True)
        ]

    def _of(self, hidden: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log probabilities of these tokens and the most likely ones, each (rows,)."""
        parts = -(-len(hidden) * self.vocabulary // self.budget.logits)
        found, best = [], []
        for part, own in zip(hidden.chunk(parts), tokens.chunk(parts), strict=True):
            log_probs = torch.log_softmax(self.head(part).float(), dim=-1)
            found.append(log_probs.gather(1, own[:, None])[:, 0])
            highest, place = log_probs.max(-1)
            check_finite(highest, self.model)
            best.append(place)
        return torch.cat(found), torch.cat(best)

    def _runner(
        self,
        prompts: Sequence[EncodedPrompt],
        length: int,
        prefix: dict[int, KeyValue],
        settings: GenerationSettings,
    ) -> Callable[[Sequence[int]], list[list[int]]]:
        def run(batch: Sequence[int]) -> list[list[int]]:
            with attention_implementation(self.decoder):
                return self._search([prompts[index] for index in batch], length, prefix, settings)

        return run

    def _prefix(self, ids: Sequence[int], prompt: EncodedPrompt) -> dict[int, KeyValue]:
        """Return a layer's keys and values of a prefix of `prompt`, each (Hk, P, D).

        They are kept, and overwritten by the next call but for what both prefixes share in front.
        """
        known = common_length(self._kept_ids, ids)
        # Not known until it is computed: a pass may run out of memory.
        self._kept_ids = list(ids[:known])
        for start in range(known, len(ids), self.budget.passing):
            part = EncodedPrompt(list(ids[: start + self.budget.passing]), prompt.features)
            state = SharedPrefix(self._kept(start), self._lengths([part], start), beams=1)
            with attention_implementation(self.decoder):
                self._read([part], start, state)
            for layer, (key, value) in state.slots.items():
                count = len(part.ids) - start
                kept = self._kept_pairs.get(layer, (key[:, 0, :0], value[:, 0, :0]))
                self._kept_pairs[layer] = (
                    _placed(kept[0], start, key[:, 0, :count], len(ids)),
                    _placed(kept[1], start, value[:, 0, :count], len(ids)),
                )
            self._kept_ids = part.ids
            self.computed += len(part.ids) - start
        return self._kept(len(ids))

    def _kept(self, length: int) -> dict[int, KeyValue]:
        return {n: (k[:, :length], v[:, :length]) for n, (k, v) in self._kept_pairs.items()}

    def _lengths(self, batch: Sequence[EncodedPrompt], start: int) -> torch.Tensor:
        """Return how many tokens of its own each prompt has behind `start`, (B,)."""
        return torch.tensor([len(prompt.ids) - start for prompt in batch], device=self.device)

    def _read(
        self, batch: Sequence[EncodedPrompt], start: int, state: SharedPrefix
    ) -> torch.Tensor:
        """Run prompts from their place `start` on, a few a pass; return the last hidden states.

        Returns:
            (B, width).
        """
        last = []
        for first, stop in _passes(
            [len(prompt.ids) - start for prompt in batch], self.budget.passing
        ):
            part = batch[first:stop]
            lengths = self._lengths(part, start)
            places = torch.arange(int(lengths.max()), device=self.device)
            ids = torch.full((len(part), len(places)), self.pad, device=self.device)
            for row, prompt in enumerate(part):
                ids[row, : len(prompt.ids) - start] = torch.tensor(prompt.ids[start:])
            embeddings = self._embed(ids, [_features(prompt, start) for prompt in part])
            state.prompts(first, stop, len(places))
            hidden = self._forward(embeddings, start + places[None], state)
            last.append(hidden[torch.arange(len(part), device=self.device), lengths - 1])
        return torch.cat(last)

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
        batch: Sequence[EncodedPrompt],
        length: int,
        prefix: dict[int, KeyValue],
        settings: GenerationSettings,
    ) -> list[list[int]]:
        """Generate one batch: the prompts' own tokens, then a token a pass for all beams."""
        lengths = self._lengths(batch, length)
        state = SharedPrefix(prefix, lengths, settings.beams)
        search = self._start(len(batch), settings)
        # At first all beams are the same: one row a prompt, seen K times.
        best = self._choose(self._read(batch, length, state)[:, None], search)
        rows = torch.arange(len(batch), device=self.device)
        results: list[list[int]] = [[] for _ in batch]
        while True:
            origin, done = search.advance(*best)
            if done.any():
                finished = done.nonzero()[:, 0]
                for row, found in zip(
                    rows[finished].tolist(), search.results(finished), strict=True
                ):
                    results[row] = found
                stay = (~done).nonzero()[:, 0]
                if not len(stay):
                    return results
                rows, lengths, origin = rows[stay], lengths[stay], origin[stay]
                search.keep(stay)
                state.keep(stay)
            state.advance(origin)
            newest = search.running[:, :, search.step - 1].reshape(-1, 1)
            places = (length + lengths + search.step - 1).repeat_interleave(settings.beams)[:, None]
            hidden = self._forward(self.embed(newest), places, state)
            best = self._choose(hidden.view(len(rows), settings.beams, -1), search)

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

    def _choose(
        self, hidden: torch.Tensor, search: GreedySearch | BeamSearch
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what the search chooses after the hidden states of each prompt, (B, R, width).

        The logits of all rows are never in memory at once: with a large vocabulary they would be
        the largest tensor of all.
        """
        parts = -(-hidden.shape[0] * hidden.shape[1] * self.vocabulary // self.budget.logits)
        found, first = [], 0
        for part in hidden.chunk(parts):
            found.append(search.choose(self.head(part).float(), first))
            first += len(part)
        scores, origin, tokens = (torch.cat(best) for best in zip(*found, strict=True))
        check_finite(scores[:, 0], self.model)
        return scores, origin, tokens


def _passes(lengths: Sequence[int], tokens: int) -> Iterator[tuple[int, int]]:
    """Cut prompts of these lengths into passes of at most so many tokens, padding included."""
    start = longest = 0
    for index, length in enumerate(lengths):
        longest = max(longest, length)
        if index > start and (index + 1 - start) * longest > tokens:
            yield start, index
            start, longest = index, length
    yield start, len(lengths)


def _placed(kept: torch.Tensor, start: int, new: torch.Tensor, capacity: int) -> torch.Tensor:
    """Return `kept`, (Hk, P, D), with `new` from `start` on, in room for `capacity` tokens."""
    if kept.shape[1] < capacity:
        wider = kept.new_empty(kept.shape[0], capacity, kept.shape[2])
        wider[:, :start] = kept[:, :start]
        kept = wider
    kept[:, start : start + new.shape[1]] = new
    return kept


def _features(prompt: EncodedPrompt, start: int) -> torch.Tensor | None:
    """Return the features of a prompt's image tokens from a place on; None if there are none."""
    if prompt.features is None or min(prompt.ids[start:]) >= 0:
        return None
    return prompt.features()[sum(token < 0 for token in prompt.ids[:start]) :]


def _has_window(config: Any) -> bool:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return kinds != {"full_attention"} or bool(window and not getattr(config, "layer_types", None))
