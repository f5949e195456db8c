"""NaturalBench's lm-eval tasks: each question asked of each image; without them as a control."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from verbalizer_bench.tasks.naturalbench.groups import FILE, IMAGES, TYPES, Group, read_groups
from verbalizer_bench.tasks.naturalbench.scoring import scores
from verbalizer_bench.tasks.picture_data import picture_folder
from verbalizer_bench.tasks.picture_task import Loaded, PictureTask


class NaturalBenchTask(PictureTask):
    """Two images and two questions: a group counts if all four answers are right."""

    def _load(self, config: Mapping[str, Any], metadata: Mapping[str, Any], data: str) -> Loaded:
        patterns = (FILE, f"{IMAGES}/*", "*.parquet")
        repository = str(config["dataset_path"])
        folder, source = picture_folder(data, "naturalbench", repository, patterns)
        groups = read_groups(folder)
        pictures = {_image_name(group, i): group.pictures[i] for group in groups for i in (0, 1)}
        self._unread = sum(
            options == TYPES["multiple_choice"] for group in groups for options in group.options
        )
        return Loaded(documents(folder), pictures, source)

    @property
    def notices(self) -> list[str]:
        """Say of how many questions only letters count as answers."""
        if not self._unread:
            return []
        return [
            f"naturalbench: of {self._unread} questions the options could not be read (A: …; B: "
            "…;): only letters count as answers to them"
        ]

    def doc_to_target(self, doc: Mapping[str, Any], doc_to_target: Any = None) -> str:
        """Return the right answer as the file has it: Yes, No, A or B."""
        return TYPES[doc["type"]]["ab".index(doc["answer"])]

    def process_results(self, doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
        """Score a response by the rule, unless lm-eval runs with `--predict_only`."""
        if "bypass" in self._metric_fn_list:
            return {"bypass": None}
        return scores(doc, results[0])


@cache
def documents(folder: Path) -> tuple[dict[str, Any], ...]:
    """Return a folder's groups as documents, four each: question 0 of both images, question 1.

    A document has `group`, `question_number`, `image_number`, `question`, `type`, what the options
    `a` and `b` say, the right one in `answer`, `image` (a file) and `image_sha256`.
    """
    made = []
    for group in read_groups(folder):
        hashes = [picture.sha256() for picture in group.pictures]
        for place, answer in enumerate(group.answers):
            question, image = divmod(place, 2)
            a, b = group.options[question]
            made.append(
                {
                    "group": group.number,
                    **{"question_number": question, "image_number": image},
                    **{"question": group.questions[question], "type": group.kind},
                    **{"a": a, "b": b, "answer": answer},
                    **{"image": _image_name(group, image), "image_sha256": hashes[image]},
                }
            )
    return tuple(made)


def _image_name(group: Group, image: int) -> str:
    """Return the name of a group's image, the same on every machine."""
    content = group.pictures[image].content
    return content.name if isinstance(content, Path) else f"{group.number}_{image}"
