"""Near-duplicates: of two questions that are too alike, the first stays.

Likely pairs come from MinHash with locality-sensitive hashing (Broder 1997; `datasketch`), or from
an index of all n-grams. Either way the exact Jaccard similarity of their n-grams decides.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from verbalizer_bench.builders.filters.leakage import ngrams, words
from verbalizer_bench.builders.pipeline.blocks import Duplicates

_PERMUTATIONS, _SEED = 128, 1


def near_duplicates(questions: Mapping[str, str], settings: Duplicates) -> dict[str, str]:
    """Return the questions to drop, each with the earlier one that it is too like.

    Args:
        questions: By id; the order decides which stays.
        settings: When they are too alike.
    """
    index = _MinHashIndex(settings.threshold) if settings.method == "minhash" else _NgramIndex()
    kept: dict[str, frozenset[str]] = {}
    dropped = {}
    for key, question in questions.items():
        grams = shingles(question, settings.n)
        alike = [
            other
            for other in index.likely(grams)
            if similarity(grams, kept[other]) >= settings.threshold
        ]
        if alike:
            # The index returns them in no particular order.
            dropped[key] = min(alike, key=list(kept).index)
        else:
            kept[key] = grams
            index.add(key, grams)
    return dropped


def shingles(text: str, n: int) -> frozenset[str]:
    """Return a text's n-grams of words; a shorter text is one."""
    tokens = words(text)
    return frozenset(ngrams(tokens, n)) or frozenset([" ".join(tokens)])


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the Jaccard similarity of two sets."""
    return len(one & other) / len(one | other)


class _MinHashIndex:
    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        # Lower than the threshold, for the exact similarity decides only over pairs found here.
        self._lsh = MinHashLSH(threshold=max(0.1, threshold - 0.2), num_perm=_PERMUTATIONS)

    def add(self, key: str, grams: frozenset[str]) -> None:
        self._lsh.insert(key, _minhash(grams))

    def likely(self, grams: frozenset[str]) -> Iterable[str]:
        keys: list[str] = self._lsh.query(_minhash(grams))
        return keys


def _minhash(grams: frozenset[str]) -> object:
    from datasketch import MinHash

    minhash = MinHash(num_perm=_PERMUTATIONS, seed=_SEED)
    minhash.update_batch(gram.encode() for gram in grams)
    return minhash


class _NgramIndex:
    def __init__(self) -> None:
        self._keys: dict[str, list[str]] = defaultdict(list)

    def add(self, key: str, grams: frozenset[str]) -> None:
        for gram in grams:
            self._keys[gram].append(key)

    def likely(self, grams: frozenset[str]) -> Iterable[str]:
        return Counter(key for gram in grams for key in self._keys.get(gram, ()))
