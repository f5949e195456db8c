"""Greedy and beam search that mirror transformers' `generate(do_sample=False)`, step by step.

They keep no model: they are given logits and say which beams go on with which token. `GreedySearch`
is `GenerationMixin._sample` without sampling, `BeamSearch` is `GenerationMixin._beam_search`; each
method names the part that it mirrors. Two things differ, neither of which changes a result:
sequences hold new tokens only, and a prompt that cannot improve leaves the batch, where
`_beam_search` goes on until none of the batch can.
"""

from typing import NamedTuple

import torch

from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.engine.stop_strings import Stopped

# Long rows are searched for their best entries in blocks of so many.
_BLOCK = 64
# transformers adds this, times 0 or 1, to the scores of what must not be chosen.
_NEVER = -1.0e9


class Hypothesis(NamedTuple):
    """A response that a search ended with.

    Attributes:
        tokens: Its new tokens, EOS included.
        log_prob: The sum of their log probabilities.
        score: What beam search ranks by: that sum over the length to the power of `length_penalty`.
    """

    tokens: list[int]
    log_prob: float
    score: float


class GreedySearch:
    """The most likely token at every step; a `BeamSearch` of one beam would rank by length too."""

    def __init__(
        self,
        prompts: int,
        settings: GenerationSettings,
        eos_token_ids: torch.Tensor,
        pad_token_id: int,
        stopped: Stopped | None = None,
    ) -> None:
        """Start with empty responses; `stopped` says which end besides those with an EOS."""
        self.max_new_tokens, self.eos, self.step = settings.max_new_tokens, eos_token_ids, 0
        self.stopped = stopped
        shape = (prompts, 1, self.max_new_tokens)
        self.running_sequences = torch.full(shape, pad_token_id, device=eos_token_ids.device)

    @property
    def newest_tokens(self) -> torch.Tensor:
        """Return the tokens of the last step, (B, 1)."""
        return self.running_sequences[:, :, self.step - 1]

    def top_candidates(
        self, logits: torch.Tensor, first: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return each prompt's most likely token; as `BeamSearch.top_candidates`, M = 1."""
        # Of equal logits the first, as `argmax` in `_sample`.
        best, token = logits[:, 0].max(-1, keepdim=True)
        return best, torch.zeros_like(token), token

    def advance(
        self, scores: torch.Tensor, parents: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one step; arguments and results as `BeamSearch.advance`, with K = M = 1."""
        self.running_sequences[:, :, self.step] = tokens
        self.step += 1
        done = _ended(self.running_sequences[:, :, : self.step], self.eos, self.stopped)
        return parents, done[:, 0] | (self.step >= self.max_new_tokens)

    def responses(self, prompts: torch.Tensor) -> list[list[int]]:
        """Return these prompts' responses, EOS included, without padding."""
        responses: list[list[int]] = self.running_sequences[prompts, 0, : self.step].tolist()
        return responses

    def keep(self, prompts: torch.Tensor) -> None:
        """Drop the prompts that are done: `prompts` indexes those that stay."""
        self.running_sequences = self.running_sequences[prompts]


class BeamSearch:
    """The beams of a batch of prompts.

    Shapes: B prompts still running, K beams, V vocabulary, N most new tokens, M candidates.
    Attributes have the names that `_beam_search` gives them.
    """

    def __init__(
        self,
        prompts: int,
        settings: GenerationSettings,
        eos_token_ids: torch.Tensor,
        pad_token_id: int,
        stopped: Stopped | None = None,
    ) -> None:
        """Start with one empty beam a prompt; `stopped` as for `GreedySearch`."""
        device = eos_token_ids.device
        self.beams, self.max_new_tokens = settings.beams, settings.max_new_tokens
        self.length_penalty = float(settings.kwargs.get("length_penalty", 1.0))
        self.early_stopping = settings.kwargs.get("early_stopping", False)
        self.eos, self.stopped, self.step = eos_token_ids, stopped, 0
        # Each beam has as many candidates that end as there are EOS ids: with one more each, K
        # candidates are left that go on.
        self.num_candidates = max(2, 1 + len(eos_token_ids)) * self.beams
        shape = (prompts, self.beams)
        sequences = (*shape, self.max_new_tokens)
        self.running_sequences = torch.full(sequences, pad_token_id, device=device)
        self.running_scores = torch.zeros(shape, device=device)
        # All beams are the same at first: only the first may be continued.
        self.running_scores[:, 1:] = _NEVER
        self.sequences = self.running_sequences.clone()
        self.scores = torch.full(shape, _NEVER, device=device)
        self.lengths = torch.zeros(shape, dtype=torch.long, device=device)
        self.is_finished = torch.zeros(shape, dtype=torch.bool, device=device)
        self.can_improve = torch.ones((prompts, 1), dtype=torch.bool, device=device)

    @property
    def newest_tokens(self) -> torch.Tensor:
        """Return the tokens of the last step, (B, K)."""
        return self.running_sequences[:, :, self.step - 1]

    def top_candidates(
        self, logits: torch.Tensor, first: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the best candidates of some prompts: `_get_top_k_continuations`.

        Args:
            logits: (b, R, V), float32, of the prompts from `first` on; they are overwritten. R = 1
                at first, when all beams are the same, then K.
            first: Which prompt comes first.

        Returns:
            Scores, the beams they go on from and their tokens, each (b, M), M = 2K or what the EOS
            ids ask for.
        """
        if logits.shape[1] * logits.shape[2] < self.num_candidates:
            # A vocabulary so small that one beam has too few candidates: those of the beams that
            # may not be continued fill up, as in `_beam_search`.
            logits = logits.repeat(1, self.beams, 1)
        prompts, rows, vocabulary = logits.shape
        total = torch.log_softmax(logits, dim=-1, out=logits)
        total += self.running_scores[first : first + prompts, :rows, None]
        scores, indices = _topk(total.flatten(1), self.num_candidates)
        return scores, indices // vocabulary, indices % vocabulary

    def advance(
        self, scores: torch.Tensor, parents: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one step with the `top_candidates` of all prompts, each (B, M).

        Mirrors `_get_running_beams_for_next_iteration` and
        `_beam_search_has_unfinished_sequences`, the latter for each prompt by itself.

        Returns:
            The beam that each beam goes on from, (B, K), and which prompts are done, (B,).
        """
        sequences = _gather_beams(self.running_sequences, parents)
        sequences[:, :, self.step] = tokens
        self.step += 1
        ended = _ended(sequences[:, :, : self.step], self.eos, self.stopped)
        ended |= self.step >= self.max_new_tokens
        going_on = scores + ended.float() * _NEVER
        best = torch.topk(going_on, self.beams)[1]
        self.running_sequences = _gather_beams(sequences, best)
        self.running_scores = going_on.gather(1, best)
        # Finished beams before the heuristic, which compares running beams with them.
        self._update_finished(sequences, scores, ended)
        self._check_early_stop()
        all_finished = self.is_finished.all(-1) & (self.early_stopping is True)
        done = ~(self.can_improve[:, 0] & ~all_finished & ~ended.all(-1))
        return parents.gather(1, best), done

    def responses(self, prompts: torch.Tensor) -> list[list[int]]:
        """Return these prompts' best finished sequences, EOS included, without padding."""
        rows = zip(
            self.sequences[prompts, 0].tolist(), self.lengths[prompts, 0].tolist(), strict=True
        )
        return [tokens[:length] for tokens, length in rows]

    def hypotheses(self, prompts: torch.Tensor) -> list[list[Hypothesis]]:
        """Return all finished sequences of these prompts, best first.

        They are `generate`'s with `num_return_sequences=K`, where it fills up with sequences that
        did not end, of score -1e9, when fewer than K ended.
        """
        kept = (self.sequences, self.lengths, self.scores, self.is_finished)
        rows = zip(*(tensor[prompts].tolist() for tensor in kept), strict=True)
        return [
            [
                Hypothesis(tokens[:length], score * length**self.length_penalty, score)
                for tokens, length, score, finished in zip(*row, strict=True)
                if finished
            ]
            for row in rows
        ]

    def keep(self, prompts: torch.Tensor) -> None:
        """Drop the prompts that are done: `prompts` indexes those that stay."""
        for name in (
            *("running_sequences", "running_scores", "sequences", "scores", "lengths"),
            *("is_finished", "can_improve"),
        ):
            setattr(self, name, getattr(self, name)[prompts])

    def _update_finished(
        self, sequences: torch.Tensor, scores: torch.Tensor, ended: torch.Tensor
    ) -> None:
        """Merge the candidates that just ended into the best ones: `_update_finished_beams`."""
        ended = ended.clone()
        # Only the top K candidates may finish; the others are there to keep K beams running.
        ended[:, self.beams :] = False
        final = scores / self.step**self.length_penalty
        all_finished = self.is_finished.all(-1, keepdim=True) & (self.early_stopping is True)
        # One sum after the other, as there: the order decides how they round.
        final = final + all_finished.float() * _NEVER
        final = final + (~self.can_improve).float() * _NEVER
        final = final + (~ended).float() * _NEVER
        lengths = torch.full_like(ended, self.step, dtype=torch.long)
        merged = torch.cat([self.scores, final], dim=1)
        best = torch.topk(merged, self.beams)[1]
        self.sequences = _gather_beams(torch.cat([self.sequences, sequences], dim=1), best)
        self.scores = merged.gather(1, best)
        self.lengths = torch.cat([self.lengths, lengths], dim=1).gather(1, best)
        self.is_finished = torch.cat([self.is_finished, ended], dim=1).gather(1, best)

    def _check_early_stop(self) -> None:
        """Ask whether a running beam could beat the worst finished: `_check_early_stop_heuristic`.

        A heuristic: with a length penalty above zero a longer sequence may still come to score
        better. `generate` stops there, and so must this.
        """
        length = self.step
        if self.early_stopping == "never" and self.length_penalty > 0.0:
            length = self.max_new_tokens
        possible = self.running_scores[:, :1] / length**self.length_penalty
        worst = self.scores.min(1, keepdim=True)[0]
        worst = torch.where(self.is_finished, worst, _NEVER)
        self.can_improve &= (possible > worst).any(-1, keepdim=True)


def _ended(sequences: torch.Tensor, eos: torch.Tensor, stopped: Stopped | None) -> torch.Tensor:
    """Return which of some sequences, (B, M, n), end with their newest token, (B, M)."""
    ended = torch.isin(sequences[:, :, -1], eos)
    if stopped is not None:
        ended |= stopped(sequences.flatten(0, 1)).view(ended.shape)
    return ended


def _topk(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `count` greatest of each row and their indices, greatest first: `topk`, sooner.

    They stand in the `count` blocks with the greatest maxima, and `topk` is slow on what it need
    not sort.
    """
    rows, length = scores.shape
    if length % _BLOCK or length < 2 * count * _BLOCK:
        best, indices = scores.topk(count)
        return best, indices
    blocks = scores.view(rows, -1, _BLOCK)
    chosen = blocks.amax(-1).topk(count)[1]
    best, inner = blocks.gather(1, chosen[:, :, None].expand(-1, -1, _BLOCK)).flatten(1).topk(count)
    return best, chosen.gather(1, inner // _BLOCK) * _BLOCK + inner % _BLOCK


def _gather_beams(sequences: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
    """Return beams of (B, K, N) by (B, M) indices."""
    return sequences.gather(1, beams[:, :, None].expand(-1, -1, sequences.shape[2]))
