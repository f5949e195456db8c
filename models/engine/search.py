"""Greedy and beam search that mirror transformers' `generate(do_sample=False)`, step by step.

They keep no model: they are given logits and say which beams go on with which token. Two things
differ, neither of which changes a result: sequences hold new tokens only, and a prompt that
cannot improve leaves the batch.
"""

import torch

# Long rows are searched for their best entries in blocks of so many.
_BLOCK = 64
# transformers marks what must not be chosen with this score, not with minus infinity.
_NEVER = -1.0e9


class GreedySearch:
    """The most likely token at every step; a `BeamSearch` of one beam would rank by length too."""

    beams = 1

    def __init__(
        self, prompts: int, max_new_tokens: int, eos_token_ids: torch.Tensor, pad_token_id: int
    ) -> None:
        """Start with empty responses."""
        self.max_new_tokens, self.eos, self.step = max_new_tokens, eos_token_ids, 0
        shape = (prompts, 1, max_new_tokens)
        self.running = torch.full(shape, pad_token_id, device=eos_token_ids.device)

    def choose(
        self, logits: torch.Tensor, first: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return each prompt's most likely token, of several the first; as `BeamSearch.choose`."""
        best, token = logits[:, 0].max(-1, keepdim=True)
        return best, torch.zeros_like(token), token

    def advance(
        self, scores: torch.Tensor, origin: torch.Tensor, token: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one step; arguments and results as `BeamSearch.advance`, with K = M = 1."""
        self.running[:, :, self.step] = token
        self.step += 1
        done = torch.isin(token[:, 0], self.eos) | (self.step >= self.max_new_tokens)
        return origin, done

    def results(self, prompts: torch.Tensor) -> list[list[int]]:
        """Return these prompts' responses, EOS included, without padding."""
        found: list[list[int]] = self.running[prompts, 0, : self.step].tolist()
        return found

    def keep(self, prompts: torch.Tensor) -> None:
        """Drop the prompts that are done: `prompts` indexes those that stay."""
        self.running = self.running[prompts]


class BeamSearch:
    """The beams of a batch of prompts.

    Shapes: B prompts still running, K beams, V vocabulary, N most new tokens.
    """

    def __init__(
        self,
        prompts: int,
        beams: int,
        max_new_tokens: int,
        eos_token_ids: torch.Tensor,
        pad_token_id: int,
        length_penalty: float = 1.0,
        early_stopping: bool | str = False,
    ) -> None:
        """Start with one empty beam a prompt; the last two arguments as in generate."""
        device = eos_token_ids.device
        self.beams, self.max_new_tokens = beams, max_new_tokens
        self.length_penalty, self.early_stopping = length_penalty, early_stopping
        self.eos = eos_token_ids
        self.candidates = max(2, 1 + len(eos_token_ids)) * beams
        self.step = 0
        shape = (prompts, beams)
        self.running = torch.full((*shape, max_new_tokens), pad_token_id, device=device)
        self.running_scores = torch.zeros(shape, device=device)
        # All beams are the same at first: only the first may be continued.
        self.running_scores[:, 1:] = _NEVER
        self.finished = self.running.clone()
        self.finished_scores = torch.full(shape, _NEVER, device=device)
        self.finished_lengths = torch.zeros(shape, dtype=torch.long, device=device)
        self.is_finished = torch.zeros(shape, dtype=torch.bool, device=device)
        self.can_improve = torch.ones((prompts, 1), dtype=torch.bool, device=device)

    def choose(
        self, logits: torch.Tensor, first: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the best candidates of some prompts.

        Args:
            logits: (b, R, V), float32, of the prompts from `first` on; they are overwritten. R = 1
                at first, when all beams are the same, then K.
            first: Which prompt comes first.

        Returns:
            Scores, the beams they go on from and their tokens, each (b, M), M = 2K or what the EOS
            ids ask for.
        """
        if logits.shape[1] * logits.shape[2] < self.candidates:
            logits = logits.repeat(1, self.beams, 1)
        prompts, rows, words = logits.shape
        total = torch.log_softmax(logits, dim=-1, out=logits)
        total += self.running_scores[first : first + prompts, :rows, None]
        scores, chosen = _best(total.flatten(1), self.candidates)
        return scores, chosen // words, chosen % words

    def advance(
        self, scores: torch.Tensor, origin: torch.Tensor, token: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one step with what `choose` gave for all prompts, each (B, M).

        Returns:
            The beam that each beam goes on from, (B, K), and which prompts are done, (B,).
        """
        sequences = _gather(self.running, origin)
        sequences[:, :, self.step] = token
        self.step += 1
        hits = torch.isin(token, self.eos) | (self.step >= self.max_new_tokens)
        going = scores + hits.float() * _NEVER
        best = torch.topk(going, self.beams)[1]
        self.running, self.running_scores = _gather(sequences, best), going.gather(1, best)
        self._finish(sequences, scores, hits)
        self._check_improvement()
        open_beams = ~(self.is_finished.all(-1) & (self.early_stopping is True))
        done = ~(self.can_improve[:, 0] & open_beams & ~hits.all(-1))
        return origin.gather(1, best), done

    def results(self, prompts: torch.Tensor) -> list[list[int]]:
        """Return these prompts' best finished sequences, EOS included, without padding."""
        rows = zip(
            self.finished[prompts, 0].tolist(),
            self.finished_lengths[prompts, 0].tolist(),
            strict=True,
        )
        return [tokens[:length] for tokens, length in rows]

    def keep(self, prompts: torch.Tensor) -> None:
        """Drop the prompts that are done: `prompts` indexes those that stay."""
        for name in (
            *("running", "running_scores", "finished", "finished_scores", "finished_lengths"),
            *("is_finished", "can_improve"),
        ):
            setattr(self, name, getattr(self, name)[prompts])

    def _finish(self, sequences: torch.Tensor, scores: torch.Tensor, hits: torch.Tensor) -> None:
        """Merge the candidates that just ended into the best finished ones."""
        ended = hits.clone()
        # Only the top K candidates may finish; the others are there to keep K beams running.
        ended[:, self.beams :] = False
        final = scores / self.step**self.length_penalty
        full = self.is_finished.all(-1, keepdim=True) & (self.early_stopping is True)
        final = final + full.float() * _NEVER
        final = final + (~self.can_improve).float() * _NEVER
        final = final + (~ended).float() * _NEVER
        lengths = torch.full_like(ended, self.step, dtype=torch.long)
        merged = torch.cat([self.finished_scores, final], dim=1)
        best = torch.topk(merged, self.beams)[1]
        self.finished = _gather(torch.cat([self.finished, sequences], dim=1), best)
        self.finished_scores = merged.gather(1, best)
        self.finished_lengths = torch.cat([self.finished_lengths, lengths], dim=1).gather(1, best)
        self.is_finished = torch.cat([self.is_finished, ended], dim=1).gather(1, best)

    def _check_improvement(self) -> None:
        """Ask whether a running beam could still beat the worst finished one: generate's rule."""
        length = self.step
        if self.early_stopping == "never" and self.length_penalty > 0.0:
            length = self.max_new_tokens
        possible = self.running_scores[:, :1] / length**self.length_penalty
        worst = self.finished_scores.min(1, keepdim=True)[0]
        worst = torch.where(self.is_finished, worst, _NEVER)
        self.can_improve &= (possible > worst).any(-1, keepdim=True)


def _best(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `count` greatest of each row and their places, greatest first: `topk`, sooner.

    They stand in the blocks with the greatest maxima, and `topk` is slow on what it need not sort.
    """
    rows, length = scores.shape
    if length % _BLOCK or length < 2 * count * _BLOCK:
        best, places = scores.topk(count)
        return best, places
    blocks = scores.view(rows, -1, _BLOCK)
    chosen = blocks.amax(-1).topk(count)[1]
    best, inner = blocks.gather(1, chosen[:, :, None].expand(-1, -1, _BLOCK)).flatten(1).topk(count)
    return best, chosen.gather(1, inner // _BLOCK) * _BLOCK + inner % _BLOCK


def _gather(sequences: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
    """Pick beams of (B, K, N) by (B, M) indices."""
    return sequences.gather(1, beams[:, :, None].expand(-1, -1, sequences.shape[2]))
