"""MM-Vet (Yu et al. 2023): how right an answer about an image is, from 0 to 1, by capability.

As in its evaluator: the judge gets a prompt with examples, which ends in a table, and a row with
question, ground truth and answer, whose last cell it fills in. Other than there it is asked once
for each answer, and a number outside 0-1 is asked for again and then left out, not taken for 0.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from verbalizer_bench.io.json_reading import read_json
from verbalizer_bench.judged.judge import Verdict, Wanted
from verbalizer_bench.judged.questions import Answer, Question, check_unique
from verbalizer_bench.results.means import Mean, Scores, mean_of

VERDICT_TOKENS = 16
# What the evaluator adds where a verdict was no number.
_REMINDER = "\nPredict the correctness of the answer (digit): "
_KEYS = {"imagename": str, "question": str, "answer": str, "capability": list}
# Not 0,5 nor 1/2 nor 50 %, of which a part alone would be another verdict.
_NUMBER = re.compile(r"(?<![\d.,/])\d+(?:\.\d+)?(?![\d.,/]*\d|\s*[/%])")


class MMVet(NamedTuple):
    """The benchmark's files.

    Attributes:
        questions: The questions; a category is the capabilities together, such as `ocr+math`.
        references: The ground references by the question's id.
        prompt: What stands before the row that the judge completes.
    """

    questions: tuple[Question, ...]
    references: Mapping[str, str]
    prompt: str
    name: str = "mmvet"

    @property
    def prompts(self) -> Any:
        """Return all that the judge is told beside rows, an empty line between them included."""
        return [f"{self.prompt}\n\n", _REMINDER]

    def wanted(self, answers: Mapping[str, Answer]) -> list[Wanted]:
        """Return what the judge is asked: to complete a row for each answer."""
        wanted = []
        for one in self.questions:
            truth = self.references[one.id].replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
            row = " | ".join([one.turns[0], truth, answers[one.id].turns[0], ""])
            message = {"role": "user", "content": f"{self.prompt}\n\n{row}"}
            wanted.append(Wanted(one.id, (message,), correctness, _REMINDER))
        return wanted

    def scores(self, answers: Mapping[str, Answer], verdicts: Sequence[Verdict]) -> Scores:
        """Return mean scores in percent: of all, by capability, by capabilities together."""
        values = {one.id: 100 * one.value for one in verdicts if one.value is not None}
        rows = {one: [values[one.id]] for one in self.questions if one.id in values}
        names = dict.fromkeys(name for one in rows for name in one.category.split("+"))

        def mean(chosen: Sequence[Question]) -> Mean:
            return mean_of({"all": [rows[one] for one in chosen]})

        single = {
            name: mean([one for one in rows if name in one.category.split("+")]) for name in names
        }
        kinds = dict.fromkeys(one.category for one in rows)
        together = {kind: mean([one for one in rows if one.category == kind]) for kind in kinds}
        groups = {"capabilities": single, "together": together}
        return Scores("in %, all", mean(list(rows)), groups)


def read_mmvet(file: Path, images: Path, prompt: Path) -> MMVet:
    """Read `mm-vet.json` and the judge's prompt.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file is not as MM-Vet has it.
    """
    table = read_json(file)
    if not isinstance(table, dict):
        raise ValueError(f"{file}: an object of questions is expected; give MM-Vet's mm-vet.json")
    questions = []
    for name, row in table.items():
        for key, kind in _KEYS.items():
            if not isinstance(row, dict) or not isinstance(row.get(key), kind):
                raise ValueError(f"{file}, {name}: no {key} as MM-Vet has it; give its mm-vet.json")
        category, image = "+".join(row["capability"]), images / row["imagename"]
        questions.append(Question(name, category, (row["question"],), 0.0, image))
    check_unique(questions, file)
    text = prompt.read_text(encoding="utf-8").rstrip()
    if "|" not in text:
        raise ValueError(f"{prompt}: no table in it; give the prompt of MM-Vet's evaluator")
    references = {name: row["answer"] for name, row in table.items()}
    return MMVet(tuple(questions), references, text)


def correctness(text: str) -> float | None:
    """Return the first number in a judge's text; None if it is not from 0 to 1."""
    match = _NUMBER.search(text)
    value = float(match[0]) if match else -1.0
    return value if 0 <= value <= 1 and not text.strip().startswith("-") else None
