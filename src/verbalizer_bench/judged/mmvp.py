"""MMVP by a judge: does a response say the right option? Asked of the responses that a run stored.

As in the paper the judge is told question, options, right answer and response, and says yes or no.
Other than in its script, where "Yes." is neither, marks around the word and words behind it do not
matter, and a verdict that is neither is asked for again and then left out. The release's labels are
told; where a corrected label differs, the judge is asked about that one as well.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.io.files import write_whole
from verbalizer_bench.judged.answering import RECORD
from verbalizer_bench.judged.judge import Verdict, Wanted
from verbalizer_bench.judged.mmvp_scores import Judged, MmvpScores, scores_of
from verbalizer_bench.judged.questions import Answer, Question, fill
from verbalizer_bench.results.picture_scores import PictureScores, read_picture_scores
from verbalizer_bench.results.run import model_args
from verbalizer_bench.tasks.mmvp.scoring import scores as graded

TASK = "mmvp_options"
PROMPT = Path(__file__).with_name("mmvp_prompt.txt")
VERDICT_TOKENS = 16
_REMINDER = "\nAnswer with the single word yes or the single word no."
_FIELDS = ("question", "options", "answer", "response")
_CORRECTED = "-corrected"
# The word in front, with a mark or nothing behind it ("No doubt" is no verdict), or said to be it.
_FIRST = re.compile(r"(yes|no)(?=\s*$|\s*[.,:;!)\n]|\s+[-\u2013\u2014(])")
_STATED = re.compile(r"\b(?:answer|verdict|judge?ment)\W*(?:is\W+)?(yes|no)\W*$")
_OTHER = re.compile(r"(?:yes|no)\W+(?:(?:and|or)\W+)?(?:yes|no)\b")


class Mmvp(NamedTuple):
    """A run's questions and responses, and the judge's prompt.

    Attributes:
        run: The run's responses, and what the rule makes of them.
        prompt: What the judge is asked, with a place for each of `_FIELDS`.
        name: The benchmark's.
    """

    run: PictureScores
    prompt: str
    name: str = "mmvp"

    @property
    def questions(self) -> tuple[Question, ...]:
        """Return the questions of whole pairs; a category is a pattern."""
        return tuple(
            Question(str(doc["index"]), str(doc["pattern"]), (str(doc["question"]),))
            for doc, _ in self._samples()
        )

    @property
    def references(self) -> Mapping[str, Any]:
        """Return the answers that the judge is told, by both versions of the labels."""
        versions = ("answer", "answer_corrected")
        return {
            str(doc["index"]): [_option(doc, doc[version]) for version in versions]
            for doc, _ in self._samples()
        }

    @property
    def prompts(self) -> Any:
        """Return all that the judge is told beside question, options, answer and response."""
        return [self.prompt, _REMINDER]

    @property
    def folder(self) -> Path:
        """Return where the judges' folders are."""
        return self.run.run.folder / f"judged_{self.run.task}"

    def answers(self) -> dict[str, Answer]:
        """Return the run's responses."""
        return {str(doc["index"]): Answer((said,), (None,)) for doc, said in self._samples()}

    def wanted(self, answers: Mapping[str, Answer]) -> list[Wanted]:
        """Return what the judge is asked: once for each label that a question has."""
        wanted = []
        for doc, _ in self._samples():
            name = str(doc["index"])
            said = answers[name].turns[0]
            wanted.append(self._wanted(name, doc, doc["answer"], said))
            if doc["answer"] != doc["answer_corrected"]:
                other = name + _CORRECTED
                wanted.append(self._wanted(other, doc, doc["answer_corrected"], said))
        return wanted

    def scores(self, answers: Mapping[str, Answer], verdicts: Sequence[Verdict]) -> MmvpScores:
        """Return pair accuracy by the verdicts, and how far the rule agrees with them."""
        values = {one.id: one.value == "yes" for one in verdicts if one.value is not None}
        judged = []
        for doc, _ in self._samples():
            name = str(doc["index"])
            rule = graded(doc, answers[name].turns[0])
            same = doc["answer"] == doc["answer_corrected"]
            judged.append(
                Judged(
                    *(int(doc["pair"]), str(doc["pattern"])),
                    *(values.get(name), values.get(name if same else name + _CORRECTED)),
                    *(bool(rule["accuracy"]), bool(rule["unparsed"]), same),
                )
            )
        return scores_of(judged)

    def write_record(self) -> None:
        """Write which responses are judged, and of which checkpoint, where results look for it."""
        run = self.run.run
        given, record = model_args(run.results), run.record
        # Of a model that says nothing of itself its name is all there is.
        loaded = {"model_args": given} if given else {"answers": run.name}
        asked = {
            **{"benchmark": self.name, "task": self.run.task, "results": run.file.name},
            **{"how": self.run.how, "model": run.results.config.model, **loaded},
            "questions": self.run.documents_sha256,
        }
        if weights := record.fingerprint.get("weights"):
            asked["weights"] = weights
        date = run.results.date
        time = datetime.fromtimestamp(date, UTC).isoformat(timespec="seconds") if date else None
        content = json.dumps({"asked": asked, "time": time}, indent=1, default=str)
        write_whole(self.folder / RECORD, content + "\n")

    def _samples(self) -> list[tuple[Mapping[str, Any], str]]:
        return [sample for unit in self.run.samples for sample in unit]

    def _wanted(self, name: str, doc: Mapping[str, Any], letter: str, said: str) -> Wanted:
        options = " ".join(_option(doc, one) for one in "ab")
        told = (str(doc["question"]), options, _option(doc, letter), said.strip())
        content = fill(self.prompt, dict(zip(_FIELDS, told, strict=True)))
        return Wanted(name, ({"role": "user", "content": content},), yes_or_no, _REMINDER)


class StoredResponses(NamedTuple):
    """A run's responses as answers that need not be made.

    Attributes:
        bench: The run.
        max_tokens: Of answers that are not there, of which there are none.
    """

    bench: Mmvp
    max_tokens: int = 0

    @property
    def folder(self) -> Path:
        """Return where the judges' folders are."""
        return self.bench.folder

    def answers(self, benchmark: str, questions: Sequence[Question]) -> dict[str, Answer]:
        """Return the responses; of which checkpoint they are is written down."""
        self.bench.write_record()
        return self.bench.answers()

    def present(self, questions: Sequence[Question]) -> dict[str, Answer]:
        """Return the responses."""
        return self.bench.answers()


def read_mmvp(folder: Path, task: str, prompt: Path) -> Mmvp:
    """Read a run directory's responses to a task of MMVP, and the judge's prompt.

    Raises:
        FileNotFoundError: There is no such folder or file, or no run in it.
        ValueError: The run has no such task, or a file is not as it has to be.
    """
    found = {one.task: one for one in read_picture_scores(folder)}
    known = [name for name, one in found.items() if one.asked.benchmark == "mmvp"]
    if not known:
        raise FileNotFoundError(
            f"{folder}: no run of MMVP in it; give the folder that results_*.json of "
            f"`run --tasks {TASK}` is in"
        )
    if task not in known:
        raise ValueError(f"{folder}: --task {task}: the run has {', '.join(known)}; give one")
    text = prompt.read_text(encoding="utf-8").strip()
    if missing := [name for name in _FIELDS if f"{{{name}}}" not in text]:
        raise ValueError(f"{prompt}: no {{{missing[0]}}} in it; put it where the judge reads it")
    return Mmvp(found[task], text)


def yes_or_no(text: str) -> str | None:
    """Return `yes` or `no` where a judge says it, whatever marks are around it; else None."""
    plain = re.sub(r"[*_`\"'#>]+", "", text).strip().casefold().lstrip("([").lstrip()
    if _OTHER.match(plain):
        return None
    match = _FIRST.match(plain) or _STATED.search(plain)
    return match[1] if match else None


def _option(doc: Mapping[str, Any], letter: str) -> str:
    return f"({letter}) {doc[letter]}"
