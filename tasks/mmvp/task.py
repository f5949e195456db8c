"""MMVP's lm-eval tasks: two prompts, each with options swapped and without images as controls."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from verbalizer_bench.tasks.choice_words import LETTERS
from verbalizer_bench.tasks.mmvp.labels import answers
from verbalizer_bench.tasks.mmvp.questions import (
    FILE,
    IMAGES,
    Question,
    check_pictures,
    read_folder,
)
from verbalizer_bench.tasks.mmvp.scoring import scores
from verbalizer_bench.tasks.picture_data import picture_folder
from verbalizer_bench.tasks.picture_task import Loaded, PictureTask


class MmvpTask(PictureTask):
    """Two images, one question, options (a) and (b): a pair counts if both answers are right.

    `metadata.swapped` in the YAML exchanges what (a) and (b) say.
    """

    def _load(self, config: Mapping[str, Any], metadata: Mapping[str, Any], data: str) -> Loaded:
        patterns = (FILE, f"{IMAGES}/*", "*.parquet")
        folder, source = picture_folder(data, "mmvp", str(config["dataset_path"]), patterns)
        pictures = {_image_name(one): one.picture for one in _read(str(folder))}
        return Loaded(documents(str(folder), bool(metadata.get("swapped"))), pictures, source)

    def doc_to_target(self, doc: Mapping[str, Any], doc_to_target: Any = None) -> str:
        """Return the letter of the right option, by the labels as published."""
        return str(doc["answer"])

    def process_results(self, doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
        """Score a response by the rule, unless lm-eval runs with `--predict_only`."""
        if "bypass" in self._metric_fn_list:
            return {"bypass": None}
        return scores(doc, results[0])


def documents(folder: str, swapped: bool) -> tuple[dict[str, Any], ...]:
    """Return a folder's questions as documents.

    A document has `index`, `pair`, `question`, what the options `a` and `b` say as they are shown,
    the right letters `answer` (labels as published) and `answer_corrected`, `pattern` ("" for
    none), `image` (a file) and `image_sha256`.
    """
    questions = _read(folder)
    versions = (answers(questions, version) for version in ("original", "corrected"))
    return tuple(
        _document(question, original, corrected, swapped)
        for question, original, corrected in zip(questions, *versions, strict=True)
    )


@cache
def _read(folder: str) -> tuple[Question, ...]:
    questions = read_folder(Path(folder))
    check_pictures(questions)
    return questions


def _document(question: Question, original: str, corrected: str, swapped: bool) -> dict[str, Any]:
    shown = question.options[::-1] if swapped else question.options
    other = dict(zip(LETTERS, LETTERS[::-1], strict=True))

    def letter(right: str) -> str:
        return other[right] if swapped else right

    return {
        **{"index": question.number, "pair": question.pair, "question": question.text},
        **dict(zip(LETTERS, shown, strict=True)),
        **{"answer": letter(original), "answer_corrected": letter(corrected)},
        "pattern": question.pattern or "",
        **{"image": _image_name(question), "image_sha256": question.picture.sha256()},
    }


def _image_name(question: Question) -> str:
    """Return the name of a question's image, the same on every machine."""
    content = question.picture.content
    return content.name if isinstance(content, Path) else str(question.number)
