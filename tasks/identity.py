"""Say whether a task's documents are the known ones: hashes, and the manifest of known hashes.

The identity of a task is the sha256 over its documents, in order, of the raw prompt's sha256, a
tab, the target and a line feed. It depends on no chat template and no tokenizer (lm-eval's
`task_hashes` do). The manifest (`manifest.json`) is keyed by data set and source; sources that
nobody has read have no entry.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from verbalizer_bench.tasks import data
from verbalizer_bench.tasks.generate import read_dataset, suite_files
from verbalizer_bench.tasks.spec import TASKS_FOLDER, DatasetSpec, Verbalizer, task_name

# Documents a verbalizer, Table 1 of Shiono et al. 2024.
TABLE_1 = {
    **{"sst2": 872, "fp": 873, "emotion": 1000, "snli": 1000, "sick": 1000},
    **{"rte": 277, "qqp": 1000, "mrpc": 408, "subj": 1000},
}
Verdict = Literal["equal", "different", "unknown"]


class Verification(NamedTuple):
    """What is known of a task's documents.

    Attributes:
        verdict: `equal` to a known source; `different` from the known rows of the source that the
            data claim; `unknown` when that source has no entry.
        known_as: The source in the manifest whose rows these are, if any.
    """

    verdict: Verdict
    known_as: str | None

    def text(self, source: str) -> str:
        """Say it of the source that the data claim."""
        return {
            "equal": f"{self.known_as}, verified",
            "different": f"{source}, but NOT its known rows",
            "unknown": f"{source}, not verified (no entry in the manifest)",
        }[self.verdict]


class DatasetVerification(NamedTuple):
    """What is known of a data set's documents, and what its manifest entry would be.

    Attributes:
        dataset: Its name.
        source: The source that the data claim.
        entry: Counts and identities as found (`entry`).
        verdict: The worst verdict of its tasks.
        text: A sentence about it.
    """

    dataset: str
    source: str
    entry: dict[str, Any]
    verdict: Verdict
    text: str


def task_identity(
    spec: DatasetSpec, verbalizer: Verbalizer, docs: Sequence[Mapping[str, str]]
) -> str:
    """Return the identity of a task over these documents, as 64 hexadecimal digits."""
    total = hashlib.sha256()
    for doc in docs:
        prompt = hashlib.sha256(spec.render(doc, verbalizer).encode()).hexdigest()
        total.update(f"{prompt}\t{spec.target(doc, verbalizer)}\n".encode())
    return total.hexdigest()


@cache
def manifest() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the known sources: `{data set: {source: {n, classes, tasks: {task: identity}}}}`."""
    loaded: dict[str, dict[str, dict[str, Any]]] = json.loads(
        (TASKS_FOLDER / "manifest.json").read_text(encoding="utf-8")
    )
    return loaded


def entry(
    spec: DatasetSpec, verbalizers: Sequence[Verbalizer], documents: data.Documents
) -> dict[str, Any]:
    """Return the manifest's entry of one data set from one source."""
    counts = Counter(doc["label"] for doc in documents.docs)
    return {
        "n": len(documents.docs),
        "classes": {name: counts[name] for name in spec.classes},
        "tasks": {
            task_name(spec.name, verbalizer): task_identity(spec, verbalizer, documents.docs)
            for verbalizer in verbalizers
        },
    }


def verify_task(dataset: str, task: str, source: str, identity: str) -> Verification:
    """Compare one task's identity with the manifest.

    A source that names itself must have that source's rows. `local` claims nothing: it is equal to
    a known source or it is unknown.
    """
    known = manifest().get(dataset, {})
    for name, record in known.items():
        if record["tasks"].get(task) == identity and source in (name, "local"):
            return Verification("equal", name)
    if task in known.get(source, {}).get("tasks", {}):
        return Verification("different", None)
    return Verification("unknown", None)


def verify(where: str) -> list[DatasetVerification]:
    """Compare the nine data sets of a source (`hub`, `sample` or a folder) with the manifest."""
    found = []
    for name, path in suite_files().items():
        spec, verbalizers = read_dataset(path)
        documents = data.test_documents(spec, where)
        record = entry(spec, verbalizers, documents)
        checked = [
            verify_task(name, task, documents.source, identity)
            for task, identity in record["tasks"].items()
        ]
        worst = max(checked, key=lambda one: ("equal", "unknown", "different").index(one.verdict))
        verdict, text = worst.verdict, worst.text(documents.source)
        made = documents.source == "sample" or documents.source.startswith("toy_")
        if not made and record["n"] != TABLE_1[name]:
            verdict, text = "different", f"{text}; Table 1 of the paper has {TABLE_1[name]}"
        found.append(DatasetVerification(name, documents.source, record, verdict, text))
    return found
