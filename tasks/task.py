"""The lm-eval task of one data set and one verbalizer.

lm-eval instantiates it from a leaf YAML, which includes the data set's YAML, whether it was started
by plain `lm_eval --include_path` or by our command line.
"""

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lm_eval.api.samplers import ContextSampler
from lm_eval.api.task import ConfigurableTask

from verbalizer_bench.tasks import data
from verbalizer_bench.tasks.identity import Identity, task_identity
from verbalizer_bench.tasks.metrics import score
from verbalizer_bench.tasks.rows import notices
from verbalizer_bench.tasks.spec import (
    DATASETS,
    OUR_KEYS,
    DatasetSpec,
    Verbalizer,
    check_keys,
    parse_spec,
    parse_verbalizer,
    protocol,
)


class Docs(list):
    """A list of documents with the `features` attribute that lm-eval expects of a data set."""

    @property
    def features(self) -> dict[str, None]:
        """Return the documents' columns."""
        return dict.fromkeys(self[0])


class VerbalizerTask(ConfigurableTask):
    """Ask which label word fits a document, and score the response.

    The metadata that lm-eval stores with the results says what was asked (`dataset`, `verbalizer`)
    and where the documents came from: `source`, `documents` (how many), `identity` (hash of all raw
    prompts and targets, in order), `identity_unordered` (the same in any order) and `fewshot_from`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Create the task of a leaf YAML.

        Args:
            config: The leaf's keys, the data set's and lm-eval's; `metadata.data` says where the
                rows are: `hub`, `sample` or a folder (default: `VERBALIZER_BENCH_DATA`, else hub).

        Raises:
            ValueError: A key or the data is wrong; one line.
            ConnectionError: The hub cannot be reached.
        """
        metadata = dict(config.get("metadata") or {})
        leaf = str(metadata.get("config_source", "inline"))
        check_keys(config, leaf)
        self.spec = parse_spec(config, _spec_file(leaf, config.get("dataset")))
        self.verbalizer = parse_verbalizer(config.get("verbalizer"), leaf)
        self.data = data.resolve_data(metadata.get("data"))
        self._documents = data.test_documents(self.spec, self.data)
        shares = data.fewshot_shares_test_rows(self.spec, self.data)
        identity = _identity(self.spec, self.verbalizer, self.data)
        metadata |= {
            "dataset": self.spec.name,
            "verbalizer": dataclasses.asdict(self.verbalizer),
            "source": self._documents.source,
            "documents": len(self._documents.docs),
            "identity": identity.ordered,
            "identity_unordered": identity.unordered,
            "fewshot_from": "the test rows, without the document itself"
            if shares
            else self.spec.fewshot_split,
        }
        merged = {key: value for key, value in protocol().items() if key != "verbalizers"}
        merged |= {key: value for key, value in config.items() if key not in (*OUR_KEYS, "class")}
        merged |= {
            "metadata": metadata,
            "test_split": self._documents.split,
            "fewshot_split": self._documents.split if shares else self.spec.fewshot_split,
            # Any text here tells lm-eval that the task scores by itself, by the method below.
            "process_results": "VerbalizerTask.process_results",
        }
        number, count = str(metadata.get("shard", "1/1")).split("/")
        self._shard, self._shards = int(number) - 1, int(count)
        self._fewshot_seed: int | None = None
        self._sampler: ContextSampler | None = None
        super().__init__(config=merged)

    @property
    def notices(self) -> list[str]:
        """Return warnings about excluded rows, one line each.

        Labels that look like a class are always reported; other classes only for a user's own data
        set, since the protocol excludes them from the suite's.
        """
        left_out = self._documents.left_out
        if self.spec.name in DATASETS:
            left_out = tuple(label for label in left_out if label.resembles)
        return notices(self.spec, left_out)

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Use the documents that the twelve leaves of a data set share."""
        self.dataset = {self._documents.split: Docs(self._documents.docs)}

    def fewshot_docs(self) -> None:
        """Return None: the pool is loaded on first use, by `sampler`."""
        return None

    @property
    def sampler(self) -> ContextSampler:
        """Draw few-shot examples from the data set's `fewshot_split`."""
        if self._sampler is None:
            self.check_fewshot()
            pool = data.fewshot_documents(self.spec, self.data)
            self._sampler = ContextSampler(list(pool.docs), rnd=self._fewshot_seed)
        return self._sampler

    def check_fewshot(self) -> None:
        """Raise ValueError if the pool has too few documents for `num_fewshot`."""
        pool, shots = data.fewshot_documents(self.spec, self.data), self.config.num_fewshot or 0
        if shots >= len(pool.docs):
            raise ValueError(
                f"{self.config.task}: num_fewshot={shots}: {self.spec.fewshot_split} has "
                f"{len(pool.docs)} documents to draw from; ask for fewer"
            )

    def set_fewshot_seed(self, seed: int | None = None) -> None:
        """Seed the choice of few-shot examples."""
        self.fewshot_rnd = random.Random(seed)
        self._fewshot_seed, self._sampler = seed, None

    def doc_to_text(self, doc: Mapping[str, str], doc_to_text: Any = None) -> str:
        """Return the raw prompt."""
        return self.spec.render(doc, self.verbalizer)

    def doc_to_target(self, doc: Mapping[str, str], doc_to_target: Any = None) -> str:
        """Return the label word, always as text: lm-eval itself would take "1" for an index."""
        return self.spec.target(doc, self.verbalizer)

    def doc_iterator(
        self, *, rank: int = 0, limit: int | None = None, world_size: int = 1, samples: Any = None
    ) -> Iterator[tuple[int, Any]]:
        """Return the documents of this rank and shard, with their numbers."""
        shards, shard = self._shards, self._shard
        docs: Iterator[tuple[int, Any]] = super().doc_iterator(
            rank=shard + shards * rank,
            limit=limit,
            world_size=shards * world_size,
            samples=samples,
        )
        return docs

    def build_all_requests(
        self,
        *,
        limit: int | None = None,
        samples: list[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        system_instruction: str | None = None,
        apply_chat_template: bool = False,
        fewshot_as_multiturn: bool = False,
        chat_template: Callable[..., str] | None = None,
        **cache: Any,
    ) -> None:
        """Build the requests as lm-eval does, but without a progress bar for each of 108 tasks.

        `--cache_requests` (`cache`) is not used: lm-eval's key does not know where the rows are
        from, so that it would serve the requests of one source for another.
        """
        chat = {"apply_chat_template": apply_chat_template, "chat_template": chat_template}
        docs = self.doc_iterator(rank=rank, limit=limit, samples=samples, world_size=world_size)
        self._instances = [
            self.construct_requests(
                doc=doc,
                ctx=self.fewshot_context(
                    doc,
                    self.config.num_fewshot or 0,
                    system_instruction=system_instruction,
                    fewshot_as_multiturn=fewshot_as_multiturn,
                    gen_prefix=self.doc_to_prefix(doc),
                    **chat,
                ),
                metadata=(self.config.task, doc_id, self.config.repeats),
                **chat,
            )
            for doc_id, doc in docs
        ]
        if not self._instances:
            raise ValueError(
                f"{self.config.task}: no document is left for shard {self._shard + 1} of "
                f"{self._shards}, process {rank + 1} of {world_size}; use fewer of them"
            )

    def process_results(self, doc: Mapping[str, str], results: list[Any]) -> dict[str, Any]:
        """Score the response, unless lm-eval runs with `--predict_only`."""
        if "bypass" in self._metric_fn_list:
            return {"bypass": None}
        return score(
            self.spec.target(doc, self.verbalizer),
            self.spec.other(doc, self.verbalizer),
            results[0],
        )


def _spec_file(leaf: str, dataset: Any) -> str:
    """Return the data set's YAML next to the leaf, for messages and relative paths."""
    path = Path(leaf).parent / f"_{dataset}.yaml"
    return str(path) if path.is_file() else leaf


@cache
def _identity(spec: DatasetSpec, verbalizer: Verbalizer, where: str) -> Identity:
    return task_identity(spec, verbalizer, data.test_documents(spec, where).docs)
