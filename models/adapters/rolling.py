"""Log probabilities of tokens in context, by plain passes, and of whole texts in windows."""

from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval.models.huggingface import HFLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from verbalizer_bench.models.adapters.journal import Scored
from verbalizer_bench.models.adapters.repeats import once_each
from verbalizer_bench.models.adapters.scoring import Score, SharedPrefixScoring
from verbalizer_bench.models.engine.batching import in_batches
from verbalizer_bench.models.engine.finite_logits import check_scores

# The token ids of a context and of its continuation.
TokenPair = tuple[list[int], list[int]]
# Texts are scored together until they fill so many batches, and are kept then.
_BATCHES = 4


class RollingScoring(SharedPrefixScoring):
    """Mixin over lm-eval's HFLM: `loglikelihood_rolling` that is kept text by text."""

    prefix_token_id: int
    tok_encode: Any

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return each text's log probability, in windows as long as the context.

        As HFLM does, but behind one BOS where the tokenizer adds one.
        """

        def score(unique: list[Any]) -> list[float]:
            windows = [self._windows(request.args[0]) for request in unique]
            scores = self._score_requests(
                unique, lambda missing: self._score_texts(windows, missing), disable_tqdm
            )
            return [scored.value for scored in scores]

        return once_each(requests, score)

    def _windows(self, text: str) -> list[TokenPair]:
        ids, first = self.tok_encode(text), self.prefix_token_id
        # A text that begins with BOS gets no second one, as an empty context in lm-eval.
        ids = ids[1:] if ids[:1] == [first] else ids
        windows = get_rolling_token_windows(ids, first, self.max_length, context_len=1)
        pairs: list[TokenPair] = list(map(make_disjoint_window, windows))
        for context, continuation in pairs:
            self.inputs.add(context + continuation)
        return pairs

    def _score_texts(
        self, windows: Sequence[Sequence[TokenPair]], indices: Sequence[int]
    ) -> Iterator[tuple[int, Scored]]:
        """Yield the scores of these texts, as many at a time as fill some batches."""
        size = self._plain_batch_size(self.max_length, logit_positions=self.max_length)
        for texts in _parts(indices, [len(pairs) for pairs in windows], _BATCHES * size):
            pairs = [pair for text in texts for pair in windows[text]]
            scores = dict(self._score_tokens(pairs, range(len(pairs))))
            values = iter([scores[place][0] for place in range(len(pairs))])
            for text in texts:
                total = sum(next(values) for _ in windows[text])
                yield text, Scored(float(total), None, "forward")

    def _score_tokens(
        self, pairs: Sequence[TokenPair], indices: Sequence[int]
    ) -> Iterator[tuple[int, Score]]:
        """Yield index and score of these pairs, as HFLM scores them, batch by batch.

        Out-of-memory halves a batch and goes on.
        """
        if not indices:
            return
        lengths = {i: sum(map(len, pairs[i])) for i in indices}
        # Continuations of one context stand side by side: HFLM scores them in one row where it can.
        order = sorted(indices, key=lambda i: (-lengths[i], pairs[i][0]))
        longest = max(lengths.values())
        size = self._plain_batch_size(longest, logit_positions=longest)

        def score(batch: Sequence[int]) -> list[Score]:
            # Without its text: `_count_score` tells the cache.
            scores: list[Score] = HFLM._loglikelihood_tokens(
                self, [(None, *pairs[i]) for i in batch], disable_tqdm=True, override_bs=len(batch)
            )
            check_scores(scores, self.model)
            return scores

        yield from in_batches(order, size, score)


def _parts(indices: Sequence[int], counts: Sequence[int], least: int) -> Iterator[list[int]]:
    """Cut indices into parts whose counts come to at least so many, but for the last part's."""
    part: list[int] = []
    for index in indices:
        part.append(index)
        if sum(counts[of_part] for of_part in part) >= least:
            yield part
            part = []
    if part:
        yield part
