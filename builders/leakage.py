"""Leakage: no record may share n words in a row with a prompt of the evaluation data.

Words are normalised: letters and digits in lower case, by Unicode's compatibility forms (NFKC).
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from verbalizer_bench.builders.blocks import Leakage
from verbalizer_bench.tasks.data import check_data, resolve_data, test_documents
from verbalizer_bench.tasks.generate import read_dataset, suite_files

_WORD = re.compile(r"\w+")


class Match(NamedTuple):
    """The words that a text shares with a prompt, and the data set that the prompt is of."""

    words: str
    dataset: str


def words(text: str) -> list[str]:
    """Return a text's normalised words."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def ngrams(tokens: list[str], n: int) -> Iterator[str]:
    """Yield n words in a row, for each place."""
    return (" ".join(tokens[at : at + n]) for at in range(len(tokens) - n + 1))


class Evaluation:
    """All n words in a row of the evaluation data's prompts."""

    def __init__(self, prompts: Iterable[tuple[str, str]], n: int) -> None:
        """Take prompts, each with the name of its data set."""
        self.n, self.prompts = n, 0
        self._names: dict[bytes, str] = {}
        for name, prompt in prompts:
            self.prompts += 1
            for gram in ngrams(words(prompt), n):
                self._names.setdefault(_digest(gram), name)

    def match(self, texts: Iterable[str]) -> Match | None:
        """Return the first words of texts that a prompt has, or None."""
        for text in texts:
            for gram in ngrams(words(text), self.n):
                if name := self._names.get(_digest(gram)):
                    return Match(gram, name)
        return None


def _digest(gram: str) -> bytes:
    return hashlib.blake2b(gram.encode(), digest_size=10).digest()


def evaluation(leakage: Leakage) -> Evaluation | None:
    """Return the evaluation data that a recipe names; None where it names none.

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
def _evaluation(data: str, n: int) -> Evaluation:
    return Evaluation(_prompts(data), n)


def _prompts(data: str) -> Iterator[tuple[str, str]]:
    """Yield every document in the prompt of one pair of label words, and one document in all."""
    for name, path in suite_files().items():
        spec, verbalizers = read_dataset(path)
        docs = test_documents(spec, data).docs
        yield from ((name, spec.render(doc, verbalizers[0])) for doc in docs)
        yield from ((name, spec.render(docs[0], verbalizer)) for verbalizer in verbalizers[1:])
