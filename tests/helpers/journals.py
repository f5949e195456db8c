"""A model that writes to a journal for a while."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from verbalizer_bench.models.adapters.generation import ExactGeneration
from verbalizer_bench.models.adapters.journal import Journal


@contextmanager
def writing(model: ExactGeneration, journal: Journal) -> Iterator[None]:
    """Have a model write to a journal, and close it."""
    with closing(journal):
        model.journal = journal
        try:
            yield
        finally:
            model.journal = None
