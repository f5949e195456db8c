import codecs
from pathlib import Path

import pytest

from tests.conftest import write_set
from verbalizer_bench.io.yaml_reading import read_yaml
from verbalizer_bench.tasks.data import test_documents as documents_of
from verbalizer_bench.tasks.spec import parse_verbalizer
from verbalizer_bench.tasks.suite import read_dataset


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"promt": "x"}, ["unknown key 'promt'", "value 'x'"]),
        ({"doc_to_txt": "x"}, ["'doc_to_txt'", "did you mean 'doc_to_text'?"]),
        ({"classes": None}, ["missing: classes", "sst2/_sst2.yaml is an example"]),
        ({"classes": {"good": 1}}, ["classes={'good': 1}", "two are needed"]),
        ({"classes": {True: 1, False: 0}}, ["classes: True is no text", "quote it"]),
        ({"classes": {"good": 1, "bad": 1}}, ["both have the value 1"]),
        ({"classes": {"the": 1, "bad": 0}}, ["label word 'the'", "choose another word"]),
        ({"classes": {"good": 1, "Good.": 0}}, ["'good' and 'Good.'", "differ in more than case"]),
        ({"classes": {"\u3002": 1, "bad": 0}}, ["label word '\u3002'", "choose another word"]),
        ({"classes": {"caf\u00e9": 1, "cafe\u0301": 0}}, ["are equal to the metric", "accents"]),
        ({"classes": {"\u00abda\u00bb": 1, "da": 0}}, ["are equal to the metric"]),
        (
            {"verbalizers": {"neutral": [["\u00e9", "x"], ["e\u0301", "x"]]}},
            ["two of them make the task"],
        ),
        ({"verbalizers": {"natural": [["yes", False]]}}, ["label word False", "quote it"]),
        ({"verbalizers": {"odd": [["x", "y"]]}}, ["verbalizers=", "natural, neutral, unnatural"]),
        (
            {"verbalizers": {"neutral": [["x"]]}},
            ["verbalizers.neutral: ['x']", 'such as {neutral: [["foo"'],
        ),
        ({"verbalizers": {"neutral": [["x", "y"], ["x", "y"]]}}, ["two of them make the task"]),
        ({"doc_to_text": "{{remark}} {{first}}"}, ["does not use {{second}}"]),
        ({"doc_to_text": "{{first}} {{second}}"}, ["uses no column"]),
        ({"doc_to_text": "{{first} {{second}}"}, ["doc_to_text: line 1"]),
        ({"sample": 0}, ["sample=0", "give a count"]),
        ({"sample": True}, ["sample=True", "a whole number"]),
        ({"doc_to_text": "{{first}} {{second}} {{label}}"}, ["{{label}}", "rename the column"]),
        ({"classes": {"good": float("nan"), "bad": 0}}, ["classes.good=nan", "a number or a text"]),
        ({"classes": {"good": [1], "bad": 0}}, ["classes.good=[1]", "a number or a text"]),
        ({"verbalizers": {}}, ["verbalizers={}"]),
        ({"verbalizers": {"neutral": "x"}}, ["verbalizers.neutral='x'", "a list of pairs"]),
        ({"verbalizers": {"neutral": [["a/b", "c"]]}}, ["label word 'a/b'", "remove white space"]),
        ({"verbalizers": {"neutral": [["x,y", "c"]]}}, ["label word 'x,y'"]),
        ({"dataset_kwargs": "x"}, ["dataset_kwargs='x'", "a block of keys"]),
        ({"doc_to_target": "kind"}, ["doc_to_target='kind'", "settles this key; remove it"]),
        ({"filter_list": [{"name": "x"}]}, ["filter_list=[{", "settles this key; remove it"]),
        ({"archive": {"url": "x", "reader": "odd"}}, ["archive.reader='odd'", "phrasebank, sick"]),
        ({"dataset": "My Set"}, ["dataset='My Set'", "lower-case"]),
        ({"dataset": "neutral"}, ["dataset='neutral'", "the name of a label type; choose another"]),
        ({"dataset": "sst2"}, ["dataset='sst2' is one of the suite's"]),
        ({"dataset_kwargs": {"data_files": "rows.jsonl"}}, ["data_files='rows.jsonl'", "{test:"]),
        ({"test_split": "tset"}, ["test_split='tset' is none of the splits", "data_files: test"]),
    ],
)
def test_wrong_yaml_says_file_key_value_and_fix(
    tmp_path: Path, changes: dict, parts: list[str]
) -> None:
    path = write_set(tmp_path, **changes)
    with pytest.raises(ValueError) as error:
        read_dataset(path)
    message = str(error.value)
    assert "\n" not in message
    for part in (str(path), *parts):
        assert part in message


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"classes": {"good": 1, "bad": 7}}, ["bad=7 is in no row", "column 'kind' has [0, 1]"]),
        ({"label_column": "klass"}, ["label_column uses 'klass'", "it has remark, kind"]),
        (
            {"doc_to_text": "{{first}} {{second}} {{text}}"},
            ["doc_to_text uses 'text'", "it has remark, kind"],
        ),
        ({"doc_to_text": "{{first}} {{second}} {{kind}}"}, ["kind=0 is no text"]),
        ({"dataset_kwargs": {"data_files": {"test": "gone.jsonl"}}}, ["gone.jsonl: no such file"]),
        ({"dataset_kwargs": {"data_files": {"test": "gone.csv"}}}, ["data_files: cannot read"]),
    ],
)
def test_yaml_that_does_not_fit_its_rows(tmp_path: Path, changes: dict, parts: list[str]) -> None:
    spec, _ = read_dataset(write_set(tmp_path, **changes))
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        documents_of(spec, "hub")
    for part in parts:
        assert part in str(error.value)


def test_not_yaml(tmp_path: Path) -> None:
    path = tmp_path / "_my_set.yaml"
    path.write_text("classes: {good: 1")
    with pytest.raises(ValueError, match="not valid YAML"):
        read_dataset(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_dataset(tmp_path / "_other.yaml")


def test_yaml_as_people_save_it(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    text = path.read_text()
    path.write_bytes(codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode())
    assert read_dataset(path)[0].classes == ("good", "bad")
    for content, message in (
        ((text + "label_column: other\n").encode(), "the key 'label_column' stands twice; remove"),
        ((text + "x: {good: 1, 'good': 2}\n").encode(), "the key 'good' stands twice"),
        (text.encode("utf-16"), "line 1: byte 0xff is not UTF-8 .*UTF-16"),
        (text.replace("good,", "gut für,").encode("latin-1"), "line 12: byte 0xfc is not UTF-8"),
        ((text + "x: 2026-13-45\n").encode(), "not YAML that can be read: month must be in"),
        ((text + "classes: {good: .nan, bad: 0}").encode(), "the key 'classes' stands twice"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as error:
            read_dataset(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_merged_keys_may_stand_twice(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\n")
    assert read_yaml(path)["c"]["y"] == 4


def test_verbalizer_of_a_leaf() -> None:
    with pytest.raises(ValueError, match=r"leaf\.yaml: verbalizer=None"):
        parse_verbalizer(None, "leaf.yaml")
    with pytest.raises(ValueError, match="type='odd': one of natural"):
        parse_verbalizer({"type": "odd", "first": "x", "second": "y"}, "leaf.yaml")
