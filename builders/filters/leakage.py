"""Leakage: no record may share n words in a row with a prompt of the evaluation data.

A document of fewer than n words is found whole: a text of it (a sentence of a pair, a remark) of
five words or more, or all its texts together. A text of fewer words may be a coincidence ("a dog is
sleeping"). Planted in a record, 7,392 of the nine sets' 7,430 documents are found, all but those
of fewer than five words (of SICK's 1,000 all); 13 words in a row alone find 4,767 (234). Of 34,431
unrelated texts with 97,661 sentences of five words or more (COCO, LLaVA, GSM8K, Alpaca, AlpacaEval,
IFEval, MT-Bench, MM-Vet, MMVP, POPE, preferences) none is.

Words are normalised: letters and digits in lower case, by Unicode's compatibility forms (NFKC), and
"doesn't" as the data sets have it that were cut into tokens ("does n't").
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from verbalizer_bench.builders.pipeline.blocks import Leakage
from verbalizer_bench.tasks.data import check_data, resolve_data, test_documents
from verbalizer_bench.tasks.suite import suite_datasets

# The fewest words of a document's text that is found whole.
SHORTEST = 5
_WORD = re.compile(r"\w+")
_NOT = re.compile(r"n['\u2019]t\b")


class Overlap(NamedTuple):
    """The words that a text shares with a prompt, and the prompt's data set."""

    words: str
    dataset: str


def words(text: str) -> list[str]:
    """Return a text's normalised words."""
    return _WORD.findall(_NOT.sub(" n t", unicodedata.normalize("NFKC", text).lower()))


def ngrams(tokens: list[str], n: int) -> Iterator[str]:
    """Yield n words in a row, for each place."""
    return (" ".join(tokens[at : at + n]) for at in range(len(tokens) - n + 1))


class EvaluationIndex:
    """The n-grams of the evaluation data's prompts, and its documents that are shorter."""

    def __init__(
        self,
        prompts: Iterable[tuple[str, str]],
        n: int,
        documents: Iterable[tuple[str, Sequence[str]]] = (),
    ) -> None:
        """Index prompts, and documents as lists of texts, each with the name of its data set."""
        self.n, self.prompts = n, 0
        self._names: dict[bytes, str] = {}
        for name, prompt in prompts:
            self.prompts += 1
            for gram in ngrams(words(prompt), n):
                self._names.setdefault(_digest(gram), name)
        # Texts of fewer than n words by their first five; documents with only shorter ones.
        self._whole: dict[str, dict[str, str]] = defaultdict(dict)
        self._pairs: list[tuple[tuple[str, ...], str]] = []
        for name, texts in documents:
            self._add(name, [tokens for text in texts if (tokens := words(text))])

    def _add(self, name: str, texts: list[list[str]]) -> None:
        for text in texts:
            if SHORTEST <= len(text) < self.n:
                self._whole[" ".join(text[:SHORTEST])].setdefault(" ".join(text), name)
        short = max(map(len, texts), default=0) < SHORTEST <= sum(map(len, texts))
        if short and sum(map(len, texts)) < self.n:
            self._pairs.append((tuple(" ".join(text) for text in texts), name))

    def overlap(self, texts: Iterable[str]) -> Overlap | None:
        """Return the first words of texts that a prompt or a short document has; None if none."""
        tokenized = [words(text) for text in texts]
        for tokens in tokenized:
            for gram in ngrams(tokens, self.n):
                if name := self._names.get(_digest(gram)):
                    return Overlap(gram, name)
        whole = [f" {' '.join(tokens)} " for tokens in tokenized]
        for tokens, text in zip(tokenized, whole, strict=True):
            for start in ngrams(tokens, SHORTEST):
                for document, name in self._whole.get(start, {}).items():
                    if f" {document} " in text:
                        return Overlap(document, name)
        for parts, name in self._pairs:
            if all(any(f" {part} " in text for text in whole) for part in parts):
                return Overlap(" / ".join(parts), name)
        return None


def _digest(gram: str) -> bytes:
    return hashlib.blake2b(gram.encode(), digest_size=10).digest()


def evaluation(leakage: Leakage) -> EvaluationIndex | None:
    """Return the index of the evaluation data that a recipe names; None if it names none.

    Raises:
        FileNotFoundError: The folder is not there.
        ConnectionError: The hub does not answer.
    """
    if leakage.data == "none":
        return None
    data = resolve_data(leakage.data)
    check_data(data)
    return _evaluation(data, leakage.n)


@cache
def _evaluation(data: str, n: int) -> EvaluationIndex:
    return EvaluationIndex(_prompts(data), n, _documents(data))


def _prompts(data: str) -> Iterator[tuple[str, str]]:
    """Yield the prompts of all documents with one verbalizer, and of one with the others."""
    for name, (spec, verbalizers) in suite_datasets().items():
        docs = test_documents(spec, data).docs
        yield from ((name, spec.render(doc, verbalizers[0])) for doc in docs)
        yield from ((name, spec.render(docs[0], verbalizer)) for verbalizer in verbalizers[1:])


def _documents(data: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the texts of every document."""
    for name, (spec, _) in suite_datasets().items():
        for doc in test_documents(spec, data).docs:
            yield name, [str(doc[field]) for field in spec.fields]
