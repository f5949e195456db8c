"""Generation that computes what prompts share once: the same outputs as `generate`, sooner.

89,160 prompts share BOS, chat preamble, image and instruction, and `generate` runs all of it once a
beam. Here the keys and values of a shared prefix are computed once and kept once (`decoder.py`,
`attention.py`), prompts that finish leave the batch, and the vision tower runs once an image.
Greedy and beam search mirror transformers' (`search.py`). In float32 the outputs are those of
`generate` one prompt at a time, which low precision approximates as well as `generate` does; tests
hold it to both.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.nn.utils.rnn import pad_sequence

from verbalizer_bench.models.engine.attention import Prefix
from verbalizer_bench.models.engine.batching import (
    even_batch_size,
    in_batches,
    shared_prefix_batch_size,
)
from verbalizer_bench.models.engine.calibration import Calibration, calibrate, pass_timer
from verbalizer_bench.models.engine.decoder import EncodedPrompt, PrefixDecoder
from verbalizer_bench.models.engine.finite_logits import check_finite
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.engine.logits import LogitsHead
from verbalizer_bench.models.engine.prefix_groups import PrefixGroup, group_by_prefix
from verbalizer_bench.models.engine.search import BeamSearch, GreedySearch, Hypothesis
from verbalizer_bench.models.engine.stop_strings import Stopped

Result = TypeVar("Result")


class SharedPrefixEngine:
    """Generate and score with shared prefixes, for one loaded model."""

    def __init__(self, model: Any, pad_token_id: int, eos_token_ids: Sequence[int]) -> None:
        """Take a transformers model with a language-model head."""
        self.model = model
        self.decoder = PrefixDecoder(model, pad_token_id)
        self.logits = LogitsHead(model)
        # The search stands where the logits are: layers may be on several devices.
        self.device = self.logits.device
        self.pad_token_id = pad_token_id
        self.eos = torch.tensor(list(eos_token_ids), device=self.device)
        self.prompt_tokens = self._suffix_tokens = 0

    @torch.inference_mode()
    def calibrate(self, known: Calibration | None = None) -> Calibration | None:
        """Choose how much is taken at a time: on an accelerator by measuring it, in some seconds.

        Args:
            known: What was measured for this model before.

        Returns:
            What was measured; None on a CPU, which keeps its constants.
        """
        if self.decoder.device.type == "cpu":
            return None
        calibration = known or calibrate(self.model, pass_timer(self.decoder))
        self.decoder.budget = calibration.budget
        return calibration

    @property
    def hit_rate(self) -> float:
        """Return the share of the prompts' tokens that were not computed again for a prompt.

        Below 0 where prompts share nothing: what was computed to check the engine counts too.
        """
        computed = self._suffix_tokens + self.decoder.computed_tokens
        return 1 - computed / max(1, self.prompt_tokens)

    @property
    def sharing(self) -> str:
        """Say for a progress bar what prefixes have saved; where each has its image, nothing."""
        return f"prefix hits {self.hit_rate:.0%}" if self.hit_rate >= 0.005 else "no shared prefix"

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        settings: GenerationSettings,
        max_batch_size: int | None,
        stopped: Stopped | None = None,
    ) -> Iterator[tuple[int, list[int]]]:
        """Generate a response to every prompt, in an order of its own.

        Args:
            prompts: None of them empty.
            settings: Supported ones (`unsupported_reason`).
            max_batch_size: Prompts in a batch at most; None leaves it to the engine.
            stopped: Looks for the settings' stop strings; needed where they have any.

        Yields:
            A prompt's index and its new tokens, EOS included.
        """
        if settings.stops and stopped is None:
            raise ValueError(f"stops={settings.stops}: nothing is given that looks for them")

        def run(batch: Sequence[int], prefix: Prefix) -> list[list[int]]:
            asked = [prompts[index] for index in batch]
            return self._search(asked, prefix, settings, stopped, _responses)

        for group in _groups(prompts, range(len(prompts))):
            new_tokens = settings.max_new_tokens
            yield from self._run_group(
                group, prompts, new_tokens, settings.beams, max_batch_size, run
            )

    @torch.inference_mode()
    def hypotheses(
        self, prompt: EncodedPrompt, settings: GenerationSettings, stopped: Stopped | None = None
    ) -> list[Hypothesis]:
        """Return all that the search for one prompt's response ends with, best first.

        Arguments as for `generate`. Greedy search ends with its response alone.
        """
        (group,) = _groups([prompt], [0])
        prefix = self.decoder.prefix(group.prefix, prompt)
        if settings.beams > 1:
            return self._search([prompt], prefix, settings, stopped, _hypotheses)[0]
        (tokens,) = self._search([prompt], prefix, settings, stopped, _responses)
        ((_, ((log_prob, _),)),) = self.score([prompt], [[tokens]], None)
        penalty = float(settings.kwargs.get("length_penalty", 1.0))
        return [Hypothesis(tokens, log_prob, log_prob / len(tokens) ** penalty)]

    @torch.inference_mode()
    def next_log_probs(self, prompt: EncodedPrompt) -> torch.Tensor:
        """Return the log probabilities of the first new token, (V,), by way of a shared prefix."""
        shared = max(len(prompt.ids) // 2, prompt.head_length)
        prefix = self.decoder.prefix(prompt.ids[:shared], prompt)
        cache = self.decoder.cache([prompt], prefix, beams=1)
        hidden = self.decoder.prefill([prompt], cache)
        return torch.log_softmax(self.logits(hidden), dim=-1)[0]

    @torch.inference_mode()
    def score(
        self,
        contexts: Sequence[EncodedPrompt],
        continuations: Sequence[Sequence[list[int]]],
        max_batch_size: int | None,
    ) -> Iterator[tuple[int, list[tuple[float, bool]]]]:
        """Score the continuations of every context, whose keys and values are computed once.

        Args:
            contexts: None of them empty.
            continuations: Those of each context, none empty; they are fed a token a pass.
            max_batch_size: Contexts in a batch at most; None leaves it to the engine.

        Yields:
            A context's index and, for each continuation, its log probability and whether it is the
            greedy one.
        """
        # The continuations of a context are its beams: a batch has equally many of each context.
        by_count: dict[int, list[int]] = {}
        for index, of_context in enumerate(continuations):
            by_count.setdefault(len(of_context), []).append(index)

        def run(batch: Sequence[int], prefix: Prefix) -> list[list[tuple[float, bool]]]:
            return self._score(
                [contexts[index] for index in batch], [continuations[i] for i in batch], prefix
            )

        for count, indices in by_count.items():
            for group in _groups(contexts, indices):
                steps = max(len(tokens) for n in group.members for tokens in continuations[n])
                yield from self._run_group(group, contexts, steps, count, max_batch_size, run)

    def _run_group(
        self,
        group: PrefixGroup,
        prompts: Sequence[EncodedPrompt],
        new_tokens: int,
        beams: int,
        max_batch_size: int | None,
        run: Callable[[Sequence[int], Prefix], list[Result]],
    ) -> Iterator[tuple[int, Result]]:
        """Compute a group's prefix, then run its members in batches; yield index and result."""
        prefix = self.decoder.prefix(group.prefix, prompts[group.members[0]])
        lengths = {n: len(prompts[n].ids) - prefix.length for n in group.members}
        self.prompt_tokens += sum(lengths.values()) + len(lengths) * prefix.length
        self._suffix_tokens += sum(lengths.values())
        budget = self.decoder.budget
        limit = min(max_batch_size or len(lengths), budget.tokens_per_pass)

        def fitting(suffixes: Sequence[int]) -> int:
            return shared_prefix_batch_size(
                self.model, suffixes[:limit], prefix.length, budget, new_tokens, beams
            )

        def batch_size(coming: Sequence[int]) -> int:
            return even_batch_size([lengths[index] for index in coming], fitting)

        yield from in_batches(group.members, batch_size, lambda batch: run(batch, prefix))

    def _search(
        self,
        batch: Sequence[EncodedPrompt],
        prefix: Prefix,
        settings: GenerationSettings,
        stopped: Stopped | None,
        ended_with: Callable[[Any, torch.Tensor], list[list[Result]]],
    ) -> list[list[Result]]:
        """Generate one batch: prefill of the suffixes, then a token a pass for all beams.

        `ended_with` reads from the search what is wanted of the prompts that are done.
        """
        cache = self.decoder.cache(batch, prefix, settings.beams)
        strategy = GreedySearch if settings.beams == 1 else BeamSearch
        search = strategy(len(batch), settings, self.eos, self.pad_token_id, stopped)
        # `generate` copies a prompt for each beam before its prefill. The beams are equal until the
        # first token, so that here it is one row a prompt.
        hidden = self.decoder.prefill(batch, cache)[:, None]
        running = torch.arange(len(batch), device=self.device)
        responses: list[list[Result]] = [[] for _ in batch]
        while True:
            parents, done = search.advance(*self._top_candidates(hidden, search))
            if done.any():
                finished, rest = done.nonzero()[:, 0], (~done).nonzero()[:, 0]
                for index, found in zip(
                    running[finished].tolist(), ended_with(search, finished), strict=True
                ):
                    responses[index] = found
                if not len(rest):
                    return responses
                running, parents = running[rest], parents[rest]
                search.keep(rest)
                cache.keep(rest)
            cache.begin_decode(parents)
            hidden = self.decoder.decode(search.newest_tokens, cache)

    def _top_candidates(
        self, hidden: torch.Tensor, search: GreedySearch | BeamSearch
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the search's candidates after the hidden states of each prompt, (B, R, width)."""
        parts, first = [], 0
        for part in hidden.chunk(self._logit_chunks(hidden.shape[0] * hidden.shape[1])):
            parts.append(search.top_candidates(self.logits(part), first))
            first += len(part)
        scores, parents, tokens = (torch.cat(each) for each in zip(*parts, strict=True))
        check_finite(scores[:, 0], self.model)
        return scores, parents, tokens

    def _score(
        self,
        batch: Sequence[EncodedPrompt],
        continuations: Sequence[Sequence[list[int]]],
        prefix: Prefix,
    ) -> list[list[tuple[float, bool]]]:
        """Score one batch: beams that are told which token comes next."""
        shape = (len(batch), len(continuations[0]))
        device = self.device
        rows = [torch.tensor(tokens) for of_context in continuations for tokens in of_context]
        # -1 behind the end of a continuation.
        targets = pad_sequence(rows, True, -1).view(*shape, -1).to(device)
        cache = self.decoder.cache(batch, prefix, beams=shape[1])
        hidden = self.decoder.prefill(batch, cache)[:, None].expand(-1, shape[1], -1)
        totals = torch.zeros(shape, device=device)
        greedy = torch.ones(shape, dtype=torch.bool, device=device)
        # Every beam goes on from itself.
        parents = torch.arange(shape[1], device=device).expand(shape)
        for step, target in enumerate(targets.unbind(2)):
            log_probs, best = self._gather_log_probs(hidden, target.clamp(min=0))
            totals += log_probs * (target >= 0)
            greedy &= (best == target) | (target < 0)
            if step + 1 < targets.shape[2]:
                cache.begin_decode(parents)
                hidden = self.decoder.decode(target.clamp(min=0), cache)
        return [
            list(zip(*of_context, strict=True))
            for of_context in zip(totals.tolist(), greedy.tolist(), strict=True)
        ]

    def _gather_log_probs(
        self, hidden: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log probabilities of tokens, (B, K), and the likeliest tokens."""
        rows, flat = hidden.flatten(0, 1), tokens.flatten()
        chunks = self._logit_chunks(len(rows))
        gathered, best = [], []
        for part, wanted in zip(rows.chunk(chunks), flat.chunk(chunks), strict=True):
            log_probs = torch.log_softmax(self.logits(part), dim=-1)
            gathered.append(log_probs.gather(1, wanted[:, None])[:, 0])
            highest, index = log_probs.max(-1)
            check_finite(highest, self.model)
            best.append(index)
        return torch.cat(gathered).view(tokens.shape), torch.cat(best).view(tokens.shape)

    def _logit_chunks(self, rows: int) -> int:
        # With a large vocabulary the logits of all rows at once would be the largest tensor of all.
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        return -(-rows * vocabulary // self.decoder.budget.logits)


def _responses(search: GreedySearch | BeamSearch, prompts: torch.Tensor) -> list[list[int]]:
    return search.responses(prompts)


def _hypotheses(search: BeamSearch, prompts: torch.Tensor) -> list[list[Hypothesis]]:
    return search.hypotheses(prompts)


def _groups(prompts: Sequence[EncodedPrompt], indices: Sequence[int]) -> Iterator[PrefixGroup]:
    """Yield groups of these prompts, those with the same images in front side by side."""
    by_head: dict[tuple[int, ...], list[int]] = {}
    for index in indices:
        prompt = prompts[index]
        if len(prompt.ids) <= prompt.head_length:
            raise ValueError(f"prompt {index}: no text is behind its last image")
        by_head.setdefault(tuple(prompt.ids[: prompt.head_length]), []).append(index)
    for members in by_head.values():
        for group in group_by_prefix([prompts[index].ids for index in members]):
            yield PrefixGroup(group.prefix, tuple(members[place] for place in group.members))
