"""lm-eval tasks whose documents bring an image each: what MMVP's and NaturalBench's share."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from lm_eval.api.task import ConfigurableTask
from PIL import Image

from verbalizer_bench.tasks.data import resolve_data
from verbalizer_bench.tasks.pictures import Picture
from verbalizer_bench.tasks.task import Docs

PLACEHOLDER = "<image>"
SPLIT = "test"


class Loaded(NamedTuple):
    """What a benchmark's files hold.

    Attributes:
        docs: The documents; `image` names a picture.
        pictures: The images by name.
        source: Where they came from.
    """

    docs: tuple[dict[str, Any], ...]
    pictures: Mapping[str, Picture]
    source: str


class PictureTask(ConfigurableTask):
    """Ask a question about each document's own image, or (`blind: true`) without it.

    The metadata that lm-eval stores with the results says what was asked (`benchmark` and the
    YAML's other keys) and of what: `source`, `documents`, and `identity`, a hash of all prompts,
    targets and images in order.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Create the task of a YAML.

        Args:
            config: lm-eval's keys; `metadata.data` says where the rows are: `hub`, `sample` or a
                folder (default: `VERBALIZER_BENCH_DATA`, else hub).

        Raises:
            ValueError: A row, an image or a setting is wrong; one line.
            OSError: A folder or an image is not there; the hub cannot be reached.
        """
        settings = {key: value for key, value in config.items() if key != "class"}
        metadata = dict(settings.get("metadata") or {})
        loaded = self._load(config, metadata, resolve_data(metadata.get("data")))
        self._docs, self._pictures = loaded.docs, loaded.pictures
        metadata |= {"source": loaded.source, "documents": len(loaded.docs)}
        super().__init__(
            config=settings
            | {
                "metadata": metadata,
                "test_split": SPLIT,
                # Any text here tells lm-eval that the task scores by itself.
                "process_results": f"{type(self).__name__}.process_results",
            }
        )
        self._check_placeholders()
        metadata["identity"] = self._identity()

    def _load(self, config: Mapping[str, Any], metadata: Mapping[str, Any], data: str) -> Loaded:
        """Read the benchmark."""
        raise NotImplementedError

    @property
    def notices(self) -> list[str]:
        """Return warnings about the rows, one line each."""
        return []

    def _check_placeholders(self) -> None:
        """Raise ValueError for a text in which another image would seem to be shown."""
        shown = 1 if self.config.doc_to_image else 0
        for doc in self._docs:
            if self.doc_to_text(doc).count(PLACEHOLDER) != shown:
                raise ValueError(
                    f"{self.config.task}: {doc['question']!r}: a question may not hold the text "
                    f"{PLACEHOLDER}, which stands for an image; write it otherwise"
                )

    def _identity(self) -> str:
        lines = [
            "\t".join(
                [
                    hashlib.sha256(self.doc_to_text(doc).encode()).hexdigest(),
                    self.doc_to_target(doc),
                    doc["image_sha256"],
                ]
            )
            for doc in self._docs
        ]
        return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Use the documents that were read."""
        self.dataset = {SPLIT: Docs(self._docs)}

    def fewshot_docs(self) -> None:
        """Return None: there are no examples, see `check_fewshot`."""
        return None

    def check_fewshot(self) -> None:
        """Raise ValueError where examples are asked for."""
        if self.config.num_fewshot:
            raise ValueError(
                f"{self.config.task}: num_fewshot={self.config.num_fewshot}: all its questions are "
                "test questions; leave it out"
            )

    def doc_to_image(self, doc: Mapping[str, Any], doc_to_image: Any = None) -> list[Image.Image]:
        """Return the document's image as RGB."""
        return [self._pictures[doc["image"]].rgb()]

    def build_all_requests(self, **options: Any) -> None:
        """Build the requests as lm-eval does.

        `cache_requests` is not used: lm-eval's key does not know where the rows are from.
        """
        self.check_fewshot()
        super().build_all_requests(
            **options | {"cache_requests": False, "rewrite_requests_cache": False}
        )
