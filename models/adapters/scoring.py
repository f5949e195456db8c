"""Log probabilities of continuations, with the prefixes of their contexts shared where exact."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

from verbalizer_bench.models.adapters.engine_choice import EngineChoice
from verbalizer_bench.models.engine.decoder import EncodedPrompt
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings

# The engine feeds a token a pass: longer continuations are sooner scored in one plain pass.
_MAX_CONTINUATION_TOKENS = 16
# A continuation's log probability, and whether it is the greedy one.
Score = tuple[float, bool]


class EncodedPair(NamedTuple):
    """A context and its continuation as the shared-prefix engine takes them.

    Attributes:
        cache_key: What lm-eval's cache knows the score by; None for what it does not keep.
        prompt: The context as the adapter has it.
        context: The context.
        continuation: The continuation's token ids.
    """

    cache_key: Any
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
        pairs: Sequence[Any],
        score_plain: Callable[[Sequence[int]], Iterator[tuple[int, Score]]],
        quiet: bool,
    ) -> list[Score]:
        """Return the score of each pair.

        Args:
            pairs: Contexts with continuations, as the adapter has them.
            score_plain: Yields index and score of the pairs that the engine does not take.
            quiet: Whether to show no progress.
        """
        scores: dict[int, Score] = {}
        with tqdm(total=len(pairs), desc="Scoring", disable=quiet or self.rank != 0) as bar:

            def take(results: Iterator[tuple[int, Score]]) -> None:
                for index, score in results:
                    scores[index] = score
                    bar.update()

            take(self._score_shared(pairs))
            take(score_plain([index for index in range(len(pairs)) if index not in scores]))
        self._share_counts()
        return [scores[index] for index in range(len(pairs))]

    def _score_shared(self, pairs: Sequence[Any]) -> Iterator[tuple[int, Score]]:
        """Yield index and score of the pairs that the shared-prefix engine takes."""
        encoded: dict[int, EncodedPair] = {}
        for index, pair in enumerate(map(self._engine_pair, pairs)):
            if pair and 0 < len(pair.continuation) <= _MAX_CONTINUATION_TOKENS:
                encoded[index] = pair
        if not encoded:
            return
        first = next(iter(encoded.values()))
        settings = GenerationSettings(1, (), {"do_sample": False})
        longest = max(len(p.context.ids) + len(p.continuation) for p in encoded.values())
        engine = self._choose_shared_prefix(first.prompt, settings, longest)
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
            for index, score in zip(members[place], scores, strict=True):
                if (key := encoded[index].cache_key) is not None:
                    self.cache_hook.add_partial("loglikelihood", key, score)
                yield index, score
