"""Log probabilities of continuations, with the prefixes of their contexts shared where exact."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from verbalizer_bench.models.adapters.engine_choice import EngineChoice
from verbalizer_bench.models.adapters.journal import Scored
from verbalizer_bench.models.adapters.progress import progress
from verbalizer_bench.models.engine.decoder import EncodedPrompt

# The engine feeds a token a pass: longer continuations are sooner scored in one plain pass.
_MAX_CONTINUATION_TOKENS = 16
# A continuation's log probability, and whether it is the greedy one.
Score = tuple[float, bool]


class EncodedPair(NamedTuple):
    """A context and its continuation as the shared-prefix engine takes them.

    Attributes:
        prompt: The context as the adapter has it.
        context: The context.
        continuation: The continuation's token ids.
    """

    prompt: Any
    context: EncodedPrompt
    continuation: list[int]


class SharedPrefixScoring(EngineChoice):
    """Mixin over lm-eval's HFLM whose scores of continuations come from either engine.

    A subclass encodes a pair of context and continuation for the shared-prefix engine
    (`_engine_pair`).
    """

    cache_hook: Any

    def _engine_pair(self, pair: Any) -> EncodedPair | None:
        """Return a pair as the shared-prefix engine takes it; None where it cannot."""
        raise NotImplementedError

    def _score_pairs(
        self,
        requests: Sequence[Any],
        pairs: Sequence[Any],
        score_plain: Callable[[Sequence[int]], Iterator[tuple[int, Score]]],
        quiet: bool,
    ) -> list[Score]:
        """Return the score of each pair; what the journal has is taken from there.

        Args:
            requests: What asks for them, one a pair.
            pairs: Contexts with continuations, as the adapter has them.
            score_plain: Yields index and score of the pairs that the engine does not take.
            quiet: Whether to show no progress.
        """

        def score(missing: Sequence[int]) -> Iterator[tuple[int, Scored]]:
            left = dict.fromkeys(missing)
            for index, (value, greedy) in self._score_shared(pairs, missing):
                del left[index]
                yield index, Scored(value, greedy, "shared_prefix")
            for index, (value, greedy) in score_plain(list(left)):
                yield index, Scored(value, greedy, "forward")

        scores = self._score_requests(requests, score, quiet)
        return [(scored.value, bool(scored.greedy)) for scored in scores]

    def _score_requests(
        self,
        requests: Sequence[Any],
        score: Callable[[Sequence[int]], Iterator[tuple[int, Scored]]],
        quiet: bool,
    ) -> list[Scored]:
        """Return each request's score, from the journal or else from `score`, which is kept there.

        Args:
            requests: None of them twice.
            score: Yields the requests of these indices as they are done.
            quiet: Whether to show no progress.
        """
        journal, keys = self.journal, self._journal_keys(requests)
        known = journal.scores if journal else {}
        scores = {index: known[key] for index, key in enumerate(keys) if key in known}
        if journal:
            journal.say_kept(len(scores), len(requests), "scores")
        for index, scored in scores.items():
            self._count_score(requests[index], scored)
        missing = [index for index in range(len(requests)) if index not in scores]
        total, done, quiet = len(requests), len(scores), quiet or self.rank != 0
        with progress("Scoring", total, done, "score", quiet) as bar:
            for index, scored in score(missing):
                scores[index] = scored
                self._count_score(requests[index], scored)
                if journal:
                    journal.add(keys[index], requests[index], scored)
                bar.update()
        self._share_counts()
        return [scores[index] for index in range(total)]

    def _count_score(self, request: Any, scored: Scored) -> None:
        """Count what computed a score, and tell lm-eval's cache."""
        self._used_scorers[scored.engine] += 1
        value, greedy = scored.value, scored.greedy
        known = value if greedy is None else (value, greedy)
        self.cache_hook.add_partial(request.request_type, request.args, known)

    def _score_shared(
        self, pairs: Sequence[Any], indices: Sequence[int]
    ) -> Iterator[tuple[int, Score]]:
        """Yield index and score of those of the pairs that the shared-prefix engine takes."""
        encoded: dict[int, EncodedPair] = {}
        for index in indices:
            pair = self._engine_pair(pairs[index])
            if pair and 0 < len(pair.continuation) <= _MAX_CONTINUATION_TOKENS:
                encoded[index] = pair
        if not encoded:
            return
        longest = max(encoded.values(), key=_length)
        # One engine a call: its prefix's keys and values are let go with it.
        self._shared_prefix_engine = None
        engine = self._choose_shared_prefix(longest.prompt, None, _length(longest))
        if engine is None:
            return
        # The answers to one question are beams of one context.
        by_context: dict[tuple[int, ...], list[int]] = {}
        for index, pair in encoded.items():
            by_context.setdefault(tuple(pair.context.ids), []).append(index)
        members = list(by_context.values())
        results = engine.score(
            [encoded[of_context[0]].context for of_context in members],
            [[encoded[index].continuation for index in of_context] for of_context in members],
            self._max_shared_batch_size(),
        )
        for place, scores in results:
            yield from zip(members[place], scores, strict=True)


def _length(pair: EncodedPair) -> int:
    return len(pair.context.ids) + len(pair.continuation)
