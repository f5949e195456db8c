"""Check a task's documents against the manifest of known hashes.

The identity of a task is the sha256 over its documents, in order, of the raw prompt's sha256, a
tab, the target and a line feed. It depends on no chat template and no tokenizer (lm-eval's
`task_hashes` do). The same over the sorted lines, `unordered`, recognises rows in another order.
The manifest (`manifest.json`) is keyed by data set and source; sources that nobody has read have no
entry. What is verified is the prompts and targets, whatever their source is called.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from verbalizer_bench.tasks import data
from verbalizer_bench.tasks.spec import TASKS_FOLDER, DatasetSpec, Verbalizer, task_name
from verbalizer_bench.tasks.suite import suite_datasets

# Documents a verbalizer, Table 1 of Shiono et al. 2024.
TABLE_1 = {
    **{"sst2": 872, "fp": 873, "emotion": 1000, "snli": 1000, "sick": 1000},
    **{"rte": 277, "qqp": 1000, "mrpc": 408, "subj": 1000},
}
Verdict = Literal["equal", "different", "unknown"]


class Verification(NamedTuple):
    """What the manifest says about a task's documents.

    Attributes:
        verdict: `equal` to a known source, in its order or another; `different` from the known rows
            of the source that the data claim; `unknown` when that source has no entry.
        known_as: The source in the manifest whose rows these are, if any.
    """

    verdict: Verdict
    known_as: str | None

    def text(self, source: str) -> str:
        """Describe the verdict for data that claim this source."""
        return {
            "equal": f"{self.known_as}, verified"
            if source in (self.known_as, "local")
            else f"{source}, with the rows of {self.known_as}: verified",
            "different": f"{source}, but NOT its known rows",
            "unknown": f"{source}, not verified (no entry in the manifest)",
        }[self.verdict]


class DatasetVerification(NamedTuple):
    """What the manifest says about a data set's documents, and their entry in it.

    Attributes:
        dataset: Its name.
        source: The source that the data claim.
        entry: Its counts and identities, as `entry` returns them.
        verdict: The worst verdict of its tasks.
        text: A sentence about it.
    """

    dataset: str
    source: str
    entry: dict[str, Any]
    verdict: Verdict
    text: str


class Identity(NamedTuple):
    """The hashes of a task's prompts and targets, 64 hexadecimal digits each.

    Attributes:
        ordered: Over the documents in their order.
        unordered: Over the same lines, sorted.
    """

    ordered: str
    unordered: str


def identity_of(prompts: Iterable[tuple[str, str]]) -> Identity:
    """Return the identity of documents by the sha256 of their raw prompts, and their targets."""
    lines = [f"{prompt}\t{target}\n" for prompt, target in prompts]
    both = ("".join(lines), "".join(sorted(lines)))
    return Identity(*(hashlib.sha256(text.encode()).hexdigest() for text in both))


def task_identity(
    spec: DatasetSpec, verbalizer: Verbalizer, docs: Sequence[Mapping[str, str]]
) -> Identity:
    """Return the identity of a task over these documents."""
    return identity_of(
        (
            hashlib.sha256(spec.render(doc, verbalizer).encode()).hexdigest(),
            spec.target(doc, verbalizer),
        )
        for doc in docs
    )


@cache
def manifest() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the known sources: `{data set: {source: {n, classes, tasks, unordered}}}`.

    `tasks` and `unordered` are `{task: identity}`.
    """
    loaded: dict[str, dict[str, dict[str, Any]]] = json.loads(
        (TASKS_FOLDER / "manifest.json").read_text(encoding="utf-8")
    )
    return loaded


def entry(
    spec: DatasetSpec, verbalizers: Sequence[Verbalizer], documents: data.TaskDocuments
) -> dict[str, Any]:
    """Return the manifest entry for one data set from one source."""
    counts = Counter(doc["label"] for doc in documents.docs)
    identities = {
        task_name(spec.name, verbalizer): task_identity(spec, verbalizer, documents.docs)
        for verbalizer in verbalizers
    }
    return {
        "n": len(documents.docs),
        "classes": {name: counts[name] for name in spec.classes},
        "tasks": {name: identity.ordered for name, identity in identities.items()},
        "unordered": {name: identity.unordered for name, identity in identities.items()},
    }


def verify_task(
    dataset: str, task: str, source: str, identity: str, unordered: str | None = None
) -> Verification:
    """Compare one task's identity with the manifest.

    Args:
        dataset: Its data set.
        task: Its name.
        source: Where its rows are said to be from, which decides only what unknown rows are.
        identity: Of its prompts and targets, in their order.
        unordered: Of the same in any order; None where a record is older than that.
    """
    known = manifest().get(dataset, {})
    for name, record in known.items():
        if record["tasks"].get(task) == identity:
            return Verification("equal", name)
    for name, record in known.items():
        if unordered is not None and record["unordered"].get(task) == unordered:
            return Verification("equal", name)
    if task in known.get(source, {}).get("tasks", {}):
        return Verification("different", None)
    return Verification("unknown", None)


def is_made(source: str, known_as: str | None = None) -> bool:
    """Return whether rows are synthetic: the embedded sample, or a miniature's stand-ins."""
    return "sample" in (source, known_as) or source.startswith("toy_")


def verify(where: str) -> list[DatasetVerification]:
    """Compare the nine data sets of a source (`hub`, `sample` or a folder) with the manifest."""
    verified = []
    for name, (spec, verbalizers) in suite_datasets().items():
        documents = data.test_documents(spec, where)
        record = entry(spec, verbalizers, documents)
        checked = [
            verify_task(name, task, documents.source, identity, record["unordered"][task])
            for task, identity in record["tasks"].items()
        ]
        worst = max(checked, key=lambda one: ("equal", "unknown", "different").index(one.verdict))
        verdict, text = worst.verdict, worst.text(documents.source)
        if not is_made(documents.source, worst.known_as) and record["n"] != TABLE_1[name]:
            verdict, text = "different", f"{text}; Table 1 of the paper has {TABLE_1[name]}"
        verified.append(DatasetVerification(name, documents.source, record, verdict, text))
    return verified
