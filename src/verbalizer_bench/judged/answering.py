"""Have a checkpoint answer a benchmark's questions, by the adapters that runs use.

`journal-0.jsonl` has every answer as soon as it is there, so that a killed command goes on;
`answers.jsonl` has them all once they are, in FastChat's layout, and `answers.json` says of what
checkpoint and how they are: with these two no checkpoint is loaded again, whichever judge is asked.
A sampled answer has a seed of its own, so that a command that went on ends as an undisturbed one.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.files import file_sha256, write_whole
from verbalizer_bench.io.json_reading import read_json
from verbalizer_bench.judged.questions import Answer, Question, rows_of, sha256_of
from verbalizer_bench.models.checkpoints.weight_hash import weights_sha256

ANSWERS, RECORD = "answers.jsonl", "answers.json"
ADAPTERS = ("verbalizer-llm", "verbalizer-lvlm")
IMAGE = "<image>"
NO_ROOM = "no room"
# Questions whose images are held in memory.
_AT_ONCE = 128
# Arguments on which no answer depends.
_HARMLESS = ("batch_size", "max_batch_size", "device")


@dataclass(frozen=True)
class Answering:
    """How answers are made.

    Attributes:
        benchmark: Its name.
        model: One of `ADAPTERS`.
        model_args: The adapter's arguments.
        max_tokens: The longest answer, in tokens.
        seed: Of sampled answers.
        limit: How many of the benchmark's questions are asked; None: all.
    """

    benchmark: str
    model: str
    model_args: Mapping[str, Any]
    max_tokens: int
    seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.model not in ADAPTERS:
            raise ValueError(f"--model {self.model}: give one of {', '.join(ADAPTERS)}")
        if not self.model_args.get("pretrained"):
            raise ValueError("--model_args: no pretrained=DIR in it; name the checkpoint")
        if self.max_tokens < 1:
            raise ValueError(f"--max-tokens {self.max_tokens}: give at least 1")

    def asked(self, questions: Sequence[Question]) -> dict[str, Any]:
        """Return what the answers depend on beside the checkpoint's weights."""
        arguments = {key: arg for key, arg in self.model_args.items() if key not in _HARMLESS}
        asked = vars(self) | {"model_args": arguments, **_which(questions, self.limit)}
        made: dict[str, Any] = json.loads(json.dumps(asked, default=str))
        return made


def answer_all(how: Answering, questions: Sequence[Question], folder: Path) -> dict[str, Answer]:
    """Return the answer to each question by its id, asking for those that are not there.

    Args:
        how: How they are made.
        questions: What is asked.
        folder: Where answers are kept.

    Raises:
        ValueError: The checkpoint cannot be loaded or asked, or the folder's answers are others.
    """
    if (folder / RECORD).is_file():
        _check_same(folder / RECORD, _asked(how, questions))
        return read_answers(folder / ANSWERS, questions)
    model = load(how)
    # Not before: a checkpoint of the hub has no files to hash until it is loaded.
    asked = _asked(how, questions)
    answers, fingerprint = _ask(model, how, questions, folder, asked)
    write_answers(folder / ANSWERS, str(how.model_args["pretrained"]), answers)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"asked": asked, "fingerprint": fingerprint, "time": made}
    write_whole(folder / RECORD, json.dumps(record, indent=1, default=str) + "\n")
    return answers


def _which(questions: Sequence[Question], limit: int | None) -> dict[str, Any]:
    """Return which questions are asked; the limit first, which says more than a hash."""
    return {"limit": limit, "questions": sha256_of(questions)}


def _asked(how: Answering, questions: Sequence[Question]) -> dict[str, Any]:
    return how.asked(questions) | {"weights": weights_sha256(**how.model_args)}


def kept_answers(
    questions: Sequence[Question], folder: Path, limit: int | None = None
) -> dict[str, Answer]:
    """Return the answers that a folder has, for another judge.

    Args:
        questions: What they answer.
        folder: The folder.
        limit: How many of the benchmark's questions these are; None: all.

    Raises:
        FileNotFoundError: It has none, or not all of them yet.
        ValueError: They are to other questions.
    """
    if not (folder / RECORD).is_file():
        raise FileNotFoundError(
            f"{folder}: no {RECORD} in it; give --model_args of the checkpoint that answers, or "
            "--answers FILE"
        )
    _check_same(folder / RECORD, _which(questions, limit))
    return read_answers(folder / ANSWERS, questions)


def take_answers(
    file: Path, questions: Sequence[Question], folder: Path, limit: int | None = None
) -> dict[str, Answer]:
    """Keep and return answers that were made elsewhere, in FastChat's layout.

    Args:
        file: The answers.
        questions: What they answer.
        folder: Where they are kept.
        limit: How many of the benchmark's questions these are; None: all.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It lacks an answer, or the folder's answers are others.
    """
    answers = read_answers(file, questions)
    same = {"sha256": file_sha256(file), **_which(questions, limit)}
    if (folder / RECORD).is_file():
        _check_same(folder / RECORD, same)
    write_answers(folder / ANSWERS, file.stem, answers)
    write_whole(
        folder / RECORD, json.dumps({"asked": {"answers": str(file), **same}}, indent=1) + "\n"
    )
    return answers


def _check_same(file: Path, asked: Mapping[str, Any]) -> None:
    record = read_json(file)
    if not isinstance(record, dict) or not isinstance(known := record.get("asked"), dict):
        raise ValueError(f"{file}: not what `judge` keeps of its answers; give another --output")
    for key, value in asked.items():
        if known.get(key) != value:
            raise ValueError(
                f"{file}: its answers are of {key}={known.get(key)!r}, and {value!r} is asked for; "
                "give another --output"
            )


def _ask(
    model: Any,
    how: Answering,
    questions: Sequence[Question],
    folder: Path,
    asked: Mapping[str, Any],
) -> tuple[dict[str, Answer], Mapping[str, Any]]:
    from verbalizer_bench.models.adapters.journal import Journal

    with closing(Journal(folder, [], dict(asked), {}, resume=True)) as journal:
        model.journal = journal
        answers = {question.id: Answer((), ()) for question in questions}
        for turn in range(max(len(question.turns) for question in questions)):
            left = [question for question in questions if len(question.turns) > turn]
            for name, text, ending in _turn(model, how, left, answers, turn):
                before = answers[name]
                answers[name] = Answer((*before.turns, text), (*before.endings, ending))
        fingerprint = model.get_model_info()["verbalizer_bench"]["fingerprint"]
    return answers, fingerprint


def load(how: Answering) -> Any:
    """Return the adapter with its checkpoint.

    Raises:
        ValueError: It cannot be loaded.
    """
    from verbalizer_bench.models.adapters.llm import VerbalizerLLM
    from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM

    adapter: Any = {"verbalizer-llm": VerbalizerLLM, "verbalizer-lvlm": VerbalizerLVLM}[how.model]
    # As lm-eval does: a GPU where there is one.
    return adapter(**{"device": "cuda:0", **how.model_args})


def _turn(
    model: Any,
    how: Answering,
    questions: Sequence[Question],
    so_far: Mapping[str, Answer],
    turn: int,
) -> Iterator[tuple[str, str, str | None]]:
    """Yield id, text and ending of the answers of a turn; of a share of its images at a time."""
    with tqdm(desc=f"Answers, turn {turn + 1}", total=len(questions), unit="answer") as bar:
        for start in range(0, len(questions), _AT_ONCE):
            share = questions[start : start + _AT_ONCE]
            asked = [(one, _request(model, how, one, so_far[one.id], turn)) for one in share]
            yield from ((one.id, "", NO_ROOM) for one, request in asked if request is None)
            greedy = [(one, request) for one, request in asked if request and not one.temperature]
            responses = model.responses([one for _, one in greedy], True) if greedy else []
            sampled = [(one, request) for one, request in asked if request and one.temperature]
            bar.update(len(share) - len(sampled))
            for one, request in sampled:
                responses += _sampled(model, request, f"{how.seed}\t{one.id}\t{turn}")
                bar.update()
            for (one, _), response in zip(greedy + sampled, responses, strict=True):
                yield one.id, response.text.strip(), response.ending


def _sampled(model: Any, request: Any, seed: str) -> list[Any]:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16))
        responses: list[Any] = model.responses([request], True)
    return responses


def _request(model: Any, how: Answering, question: Question, so_far: Answer, turn: int) -> Any:
    """Return a turn as the adapter takes it; None if nothing fits behind the conversation."""
    from lm_eval.api.instance import Instance

    from verbalizer_bench.io.images import readable_image

    messages = []
    for said, answered in zip(question.turns[:turn], so_far.turns, strict=True):
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": answered}]
    messages.append({"role": "user", "content": question.turns[turn]})
    if question.image is not None:
        messages[0]["content"] = IMAGE + messages[0]["content"]
    settings: dict[str, Any] = {"until": [], "do_sample": question.temperature > 0}
    settings |= {"temperature": question.temperature} if question.temperature else {}
    arguments: list[Any] = [model.apply_chat_template(messages), settings]
    if question.image is not None:
        arguments.append({"visual": [readable_image(question.image)]})
    request = Instance(
        "generate_until", {}, tuple(arguments), turn, (how.benchmark, question.id, 1)
    )
    room = model.max_length - model.prompt_tokens(request)
    settings["max_gen_toks"] = min(how.max_tokens, room)
    return request if room > 0 else None


def write_answers(file: Path, model: str, answers: Mapping[str, Answer]) -> None:
    """Write answers in FastChat's layout, with what ended each besides."""
    rows = (
        {
            "question_id": name,
            "model_id": model,
            "choices": [{"index": 0, "turns": list(answer.turns)}],
            "endings": list(answer.endings),
        }
        for name, answer in answers.items()
    )
    write_whole(file, jsonl.dumps(rows))


def read_answers(file: Path, questions: Sequence[Question]) -> dict[str, Answer]:
    """Read answers, one for each turn of each question.

    Args:
        file: Rows in FastChat's layout (`question_id`, `choices`), or in alpaca_eval's
            (`instruction`, `output`).
        questions: What they answer.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A question has no answer, or not one for each turn.
    """
    by_instruction = {question.turns[0]: question.id for question in questions}
    answers = {}
    for place, row in rows_of(file, {}):
        name = by_instruction.get(str(row.get("instruction")), str(row.get("question_id")))
        turns = _answered(place, row)
        endings = row.get("endings") or [None] * len(turns)
        answers[name] = Answer(tuple(turns), tuple(endings))
    for question in questions:
        found = len(answers[question.id].turns) if question.id in answers else 0
        if found != len(question.turns):
            raise ValueError(
                f"{file}: question {question.id} has {found} answers for {len(question.turns)} "
                "turns; give answers to all of the questions"
            )
    return {question.id: answers[question.id] for question in questions}


def _answered(place: str, row: Mapping[str, Any]) -> list[str]:
    """Return the texts that a row holds, turn by turn."""
    if isinstance(row.get("output"), str):
        return [row["output"]]
    choices = row.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    turns = choice.get("turns") if isinstance(choice, dict) else None
    if not isinstance(turns, list) or not all(isinstance(text, str) for text in turns):
        raise ValueError(
            f"{place}: no answer in it; give FastChat's layout (choices with turns) or "
            "alpaca_eval's (instruction and output)"
        )
    return turns
