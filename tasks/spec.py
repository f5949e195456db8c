"""What a data set's YAML says: parsed once, checked, frozen.

A data set is one YAML (`sst2/_sst2.yaml` is an example). Its keys are lm-eval's own
(`dataset_path`, `dataset_name`, `dataset_kwargs`, `test_split`, `fewshot_split`, `doc_to_text`) and
a few of ours:

- `dataset`: its short name, which is also the name of its folder in a local data folder
- `classes`: the two classes, first class first: `{class name: value in the label column}`
- `label_column` (default `label`), `sample` (how many test rows; default all)
- `archive`: a raw file in place of what `datasets` loads, `{url, reader}`
- `verbalizers`: label words, where they are not the suite's (`_protocol.yaml`)
- `verbalizer`: the label words of one task; it stands in the generated leaves
"""

import copy
import dataclasses
import difflib
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import jinja2
import jinja2.meta

from verbalizer_bench.config import build, check
from verbalizer_bench.io.yaml_reading import read_yaml
from verbalizer_bench.tasks.metrics import normalize, words

DATASETS = ("sst2", "fp", "emotion", "snli", "sick", "rte", "qqp", "mrpc", "subj")
LabelType = Literal["natural", "neutral", "unnatural"]
LABEL_TYPES: tuple[str, ...] = get_args(LabelType)
TASKS_FOLDER = Path(str(files("verbalizer_bench.tasks")))

# Keys that lm-eval does not know.
OUR_KEYS = ("dataset", "classes", "label_column", "sample", "archive", "verbalizers", "verbalizer")
ARCHIVE_READERS = ("phrasebank", "sick")
# Keys of lm-eval that a verbalizer task settles itself: stating one would change nothing.
_SETTLED_KEYS = (
    *("doc_to_target", "doc_to_choice", "doc_to_image", "doc_to_audio", "process_docs"),
    *("process_results", "metric_list", "filter_list", "output_type", "custom_dataset"),
    "use_prompt",
    *("training_split", "validation_split", "fewshot_config"),
)
_EXAMPLE = '{neutral: [["foo", "bar"]]}'
_JINJA = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)


@dataclasses.dataclass(frozen=True)
class Verbalizer:
    """A pair of label words: what to output for the first and for the second class."""

    type: LabelType
    first: str
    second: str


@dataclasses.dataclass(frozen=True)
class Loader:
    """The arguments of `datasets.load_dataset`."""

    path: str
    name: str | None
    kwargs: Mapping[str, Any] = dataclasses.field(hash=False)

    @property
    def data_files(self) -> Mapping[str, str]:
        """Return the data files that the YAML names, by split; empty if there are none."""
        files: Mapping[str, str] = self.kwargs.get("data_files") or {}
        return files


@dataclasses.dataclass(frozen=True)
class Archive:
    """A raw file, named by a chained fsspec URL, and the reader for it."""

    url: str
    reader: str

    def __post_init__(self) -> None:
        known = self.reader in ARCHIVE_READERS
        check("archive.reader", repr(self.reader), known, f"one of {', '.join(ARCHIVE_READERS)}")


@dataclasses.dataclass(frozen=True)
class _Keys:
    """The keys of a data set's YAML except `classes`, whose values JSON would change."""

    dataset: str
    doc_to_text: str
    test_split: str
    dataset_path: str
    dataset_name: str | None = None
    dataset_kwargs: dict[str, Any] | None = None
    fewshot_split: str | None = None
    label_column: str = "label"
    sample: int | None = None
    archive: Archive | None = None

    def __post_init__(self) -> None:
        fix = "use lower-case letters, digits and underscores"
        check("dataset", repr(self.dataset), re.fullmatch(r"[a-z0-9_]+", self.dataset), fix)
        fix = "the name of a label type; choose another"
        check("dataset", repr(self.dataset), self.dataset not in LABEL_TYPES, fix)
        fix = "give a count of rows, or leave it out for all"
        check("sample", self.sample, self.sample is None or self.sample >= 1, fix)


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A data set: where its rows are, which ones are used, and the prompt.

    Attributes:
        name: Short name, `sst2`.
        where: The YAML it was read from, for messages.
        classes: The two class names, first class first.
        label_values: What the label column holds for them, in the same order.
        prompt: Jinja template over the fields and `first`, `second`.
        fields: The columns that the prompt uses, in alphabetical order.
        sample: How many test rows are taken; None for all.
        loader: Where the hub has it, or the YAML's own files.
        archive: A raw file in place of `loader`.
    """

    name: str
    where: str
    classes: tuple[str, str]
    label_values: tuple[Any, Any]
    prompt: str
    fields: tuple[str, ...]
    label_column: str
    sample: int | None
    test_split: str
    fewshot_split: str
    loader: Loader
    archive: Archive | None

    def render(self, doc: Mapping[str, str], verbalizer: Verbalizer) -> str:
        """Return the raw prompt of a document: no few-shot examples, no chat template.

        Raises:
            ValueError: doc_to_text does something that this document does not have.
        """
        words = {"first": verbalizer.first, "second": verbalizer.second}
        try:
            return _template(self.prompt).render(words, **doc)
        # A template is a program, whose errors are of any type.
        except Exception as error:
            raise ValueError(
                f"{self.where}: doc_to_text cannot be rendered ({type(error).__name__}: {error}) "
                f"for {str(dict(doc))[:200]}; correct it"
            ) from error

    def target(self, doc: Mapping[str, str], verbalizer: Verbalizer) -> str:
        """Return the label word of the document's class."""
        return verbalizer.first if doc["label"] == self.classes[0] else verbalizer.second

    def other(self, doc: Mapping[str, str], verbalizer: Verbalizer) -> str:
        """Return the label word of the other class."""
        return verbalizer.second if doc["label"] == self.classes[0] else verbalizer.first


@cache
def _template(prompt: str) -> jinja2.Template:
    return _JINJA.from_string(prompt)


def task_name(dataset: str, verbalizer: Verbalizer) -> str:
    """Return `verbalizer_<dataset>_<type>_<first>_<second>`; white space becomes an underscore."""
    words = (re.sub(r"\s+", "_", word) for word in (verbalizer.first, verbalizer.second))
    return "_".join(("verbalizer", dataset, verbalizer.type, *words))


def protocol() -> dict[str, Any]:
    """Return the keys that all tasks share (`_protocol.yaml`): lm-eval's and `verbalizers`.

    A copy each time: lm-eval changes a task's `generation_kwargs` in place.
    """
    return copy.deepcopy(_protocol())


@cache
def _protocol() -> dict[str, Any]:
    loaded: dict[str, Any] = read_yaml(TASKS_FOLDER / "_protocol.yaml")
    return loaded


def read_spec_file(path: Path) -> dict[str, Any]:
    """Read a data set's YAML as a dictionary; `!function` values stay strings.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not YAML, has a key twice, or is not a mapping.
    """
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"{path}: {what}; name the data set's YAML, my_set/_my_set.yaml")
    config = read_yaml(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path}: a mapping is needed, got {type(config).__name__}")
    return config


def parse_spec(config: Mapping[str, Any], where: str) -> DatasetSpec:
    """Check a data set's configuration and freeze it.

    Args:
        config: The YAML's keys.
        where: The file, for messages; relative paths in `data_files` start at its folder.

    Raises:
        ValueError: One line with the file, the key, the value and the fix.
    """
    check_keys(config, where)
    names = {field.name for field in dataclasses.fields(_Keys)}
    try:
        if "classes" not in config:
            raise ValueError("missing: classes")
        keys = build(_Keys, {name: config[name] for name in names & config.keys()})
    except ValueError as error:
        hint = "; sst2/_sst2.yaml is an example" if str(error).startswith("missing") else ""
        raise ValueError(f"{where}: {error}{hint}") from error
    classes, label_values = _classes(config["classes"], where)
    return DatasetSpec(
        name=keys.dataset,
        where=where,
        classes=classes,
        label_values=label_values,
        prompt=keys.doc_to_text,
        fields=_fields(keys.doc_to_text, where),
        label_column=keys.label_column,
        sample=keys.sample,
        test_split=keys.test_split,
        fewshot_split=keys.fewshot_split or keys.test_split,
        loader=_loader(keys, where),
        archive=keys.archive,
    )


def parse_verbalizer(value: Any, where: str) -> Verbalizer:
    """Check the label words of one task: `{type: natural, first: positive, second: negative}`."""
    if not isinstance(value, Mapping) or set(value) != {"type", "first", "second"}:
        raise ValueError(
            f"{where}: verbalizer={value!r}: give it type, first and second; "
            "`verbalizer-bench tasks build` writes it"
        )
    if value["type"] not in LABEL_TYPES:
        raise ValueError(
            f"{where}: verbalizer type={value['type']!r}: one of {', '.join(LABEL_TYPES)}"
        )
    first, second = (_label_word(value[key], where) for key in ("first", "second"))
    if normalize(first) == normalize(second) or words(first) == words(second):
        raise ValueError(
            f"{where}: the label words {first!r} and {second!r} are equal to the metric; choose "
            "two that differ in more than case, punctuation, articles and how accents are coded"
        )
    return Verbalizer(value["type"], first, second)


def spec_verbalizers(
    config: Mapping[str, Any], spec: DatasetSpec, where: str
) -> tuple[Verbalizer, ...]:
    """Return the verbalizers of a data set: its own, or the suite's three, six and three."""
    table = config.get("verbalizers", protocol()["verbalizers"])
    if not isinstance(table, Mapping) or not table or not set(table) <= set(LABEL_TYPES):
        raise ValueError(
            f"{where}: verbalizers={table!r}: give lists of word pairs for "
            f"{', '.join(LABEL_TYPES)}, such as {_EXAMPLE}"
        )
    names = dict(zip(("{first}", "{second}"), spec.classes, strict=True))
    verbalizers: list[Verbalizer] = []
    for label_type, pairs in table.items():
        if not isinstance(pairs, list):
            raise ValueError(
                f"{where}: verbalizers.{label_type}={pairs!r}: give a list of pairs, such as "
                f"{_EXAMPLE}"
            )
        for pair in pairs:
            if not isinstance(pair, list) or len(pair) != 2:
                raise ValueError(
                    f"{where}: verbalizers.{label_type}: {pair!r}: a pair of words is needed, "
                    f"such as {_EXAMPLE}"
                )
            first, second = (names.get(w, w) if isinstance(w, str) else w for w in pair)
            verbalizers.append(
                parse_verbalizer({"type": label_type, "first": first, "second": second}, where)
            )
    # Names that are equal but for how accents are coded are one file on some systems.
    tasks = [unicodedata.normalize("NFC", task_name(spec.name, one)) for one in verbalizers]
    for task in tasks:
        if tasks.count(task) > 1:
            raise ValueError(f"{where}: verbalizers: two of them make the task {task}; drop one")
    return tuple(verbalizers)


def check_keys(config: Mapping[str, Any], where: str) -> None:
    """Raise ValueError for a key that neither lm-eval nor we know, naming the nearest."""
    from lm_eval.config.task import TaskConfig

    known = {field.name for field in dataclasses.fields(TaskConfig)}
    known |= {*OUR_KEYS, "class", "group", "task_list", "include"}
    for key in config:
        if key in _SETTLED_KEYS:
            raise ValueError(
                f"{where}: {key}={config[key]!r}: a verbalizer task settles this key; remove it"
            )
        if key not in known:
            near = difflib.get_close_matches(str(key), sorted(known), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "remove it"
            raise ValueError(f"{where}: unknown key {key!r} (value {config[key]!r}); {hint}")


def _classes(value: Any, where: str) -> tuple[tuple[str, str], tuple[Any, Any]]:
    if not isinstance(value, Mapping) or len(value) != 2:
        raise ValueError(
            f"{where}: classes={value!r}: two are needed, first class first, "
            "as {class name: value in the label column}"
        )
    for name in value:
        if not isinstance(name, str):
            raise ValueError(f"{where}: classes: {name!r} is no text; quote it")
        if not isinstance(value[name], (str, int, float)) or value[name] != value[name]:
            raise ValueError(f"{where}: classes.{name}={value[name]!r}: give a number or a text")
    (first, a), (second, b) = value.items()
    if a == b:
        raise ValueError(
            f"{where}: classes={dict(value)!r}: both have the value {a!r}; they differ"
        )
    return (first, second), (a, b)


def _fields(prompt: str, where: str) -> tuple[str, ...]:
    try:
        names = jinja2.meta.find_undeclared_variables(_JINJA.parse(prompt))
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"{where}: doc_to_text: line {error.lineno}: {error.message}") from error
    for word in ("first", "second"):
        if word not in names:
            raise ValueError(
                f"{where}: doc_to_text does not use {{{{{word}}}}}; it must say both label words"
            )
    if "label" in names:
        raise ValueError(
            f"{where}: doc_to_text uses {{{{label}}}}, where a document has its class name; "
            "rename the column"
        )
    fields = tuple(sorted(names - {"first", "second"}))
    if not fields:
        raise ValueError(f"{where}: doc_to_text uses no column of the data; write {{{{column}}}}")
    return fields


def _loader(keys: _Keys, where: str) -> Loader:
    kwargs = dict(keys.dataset_kwargs or {})
    data_files = kwargs.get("data_files")
    if data_files is not None:
        if not isinstance(data_files, Mapping):
            raise ValueError(
                f"{where}: dataset_kwargs.data_files={data_files!r}: give one file a split, "
                "{test: my_test.jsonl}"
            )
        for key in ("test_split", "fewshot_split"):
            if (split := getattr(keys, key)) and split not in data_files:
                raise ValueError(
                    f"{where}: {key}={split!r} is none of the splits of "
                    f"dataset_kwargs.data_files: {', '.join(map(str, data_files))}"
                )
        folder = Path(where).resolve().parent
        kwargs["data_files"] = {
            split: str(name) if "://" in str(name) else str(folder / str(name))
            for split, name in data_files.items()
        }
    return Loader(keys.dataset_path, keys.dataset_name, kwargs)


def _label_word(word: Any, where: str) -> str:
    if not isinstance(word, str):
        raise ValueError(
            f'{where}: label word {word!r}: YAML read it as {type(word).__name__}; quote it: "…"'
        )
    if not normalize(word) or not words(word):
        raise ValueError(
            f"{where}: label word {word!r}: the metric drops articles and punctuation, "
            "so an empty response would score 1; choose another word"
        )
    if word != word.strip() or re.search(r'[\n"/\\,*?\[\]]', word):
        raise ValueError(
            f"{where}: label word {word!r}: it stands in quotes and in the task's name; "
            'remove white space around it and the characters " / \\ , * ? [ ]'
        )
    return word
