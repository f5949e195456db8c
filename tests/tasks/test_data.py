import codecs
import dataclasses
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import write_set
from verbalizer_bench.tasks import data
from verbalizer_bench.tasks.rows import notices
from verbalizer_bench.tasks.spec import DATASETS, DatasetSpec
from verbalizer_bench.tasks.suite import read_dataset, suite_datasets

# Table 1 of Shiono et al. 2024, documents a verbalizer.
TABLE_1 = {
    **{"sst2": 872, "fp": 873, "emotion": 1000, "snli": 1000, "sick": 1000},
    **{"rte": 277, "qqp": 1000, "mrpc": 408, "subj": 1000},
}


def spec_of(name: str) -> DatasetSpec:
    return suite_datasets()[name][0]


@pytest.mark.parametrize("name", DATASETS)
def test_real_rows_have_the_counts_of_table_1(name: str, real_data: Path) -> None:
    documents = data.test_documents(spec_of(name), str(real_data))
    assert len(documents.docs) == TABLE_1[name]
    assert set(Counter(doc["label"] for doc in documents.docs)) == set(spec_of(name).classes)
    assert documents.source == ("quora_bimpm" if name == "qqp" else "local")


@pytest.mark.parametrize("name", DATASETS)
def test_samples(name: str) -> None:
    spec = spec_of(name)
    test, fewshot = data.test_documents(spec, "sample"), data.fewshot_documents(spec, "sample")
    assert Counter(doc["label"] for doc in test.docs) == dict.fromkeys(spec.classes, 12)
    assert Counter(doc["label"] for doc in fewshot.docs) == dict.fromkeys(spec.classes, 3)
    assert test.source == fewshot.source == "sample"
    assert not {data.canonical(doc) for doc in test.docs} & {
        data.canonical(doc) for doc in fewshot.docs
    }


def test_sampling_is_by_hash(tmp_path: Path) -> None:
    """Order and choice depend on the rows alone: neither on their order nor on a generator."""
    spec = dataclasses.replace(spec_of("sst2"), sample=3)
    rows = [{"sentence": f" text {i} é", "label": i % 2} for i in range(6)]
    expected = sorted(
        f'{{"label":"{("negative", "positive")[i % 2]}","sentence":"text {i} é"}}' for i in range(6)
    )
    expected.sort(key=lambda text: hashlib.sha256(text.encode("utf-8")).hexdigest())
    for order in (rows, rows[::-1]):
        folder = tmp_path / str(order[0]["label"])
        (folder / "sst2").mkdir(parents=True)
        (folder / "sst2" / "validation.jsonl").write_text(
            "\n".join(json.dumps(row) for row in order)
        )
        docs = data.test_documents(spec, str(folder)).docs
        assert [data.canonical(doc) for doc in docs] == expected[:3]


def test_parquet_equals_jsonl(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    spec = spec_of("sst2")
    rows = data.read_rows(spec, "validation", "sample")
    (tmp_path / "sst2").mkdir()
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows), tmp_path / "sst2" / "validation.parquet"
    )
    assert data.test_documents(spec, str(tmp_path)).docs == data.test_documents(spec, "sample").docs


def test_sources_file_names_stand_ins(tmp_path: Path) -> None:
    spec = spec_of("sst2")
    (tmp_path / "sst2").mkdir()
    row = {"sentence": "stand-in", "label": 1}
    rows = [row, row | {"label": 0}]
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "sst2" / "other.jsonl").write_text(text)
    (tmp_path / "sources.yaml").write_text("sst2: {split: other, source: toy_sst2}")
    documents = data.test_documents(spec, str(tmp_path))
    assert (documents.source, documents.split, len(documents.docs)) == ("toy_sst2", "other", 2)


def test_option_wins_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert data.resolve_data(None) == "hub"
    monkeypatch.setenv("VERBALIZER_BENCH_DATA", "sample")
    assert data.resolve_data(None) == "sample"
    assert data.resolve_data("somewhere") == "somewhere"


def test_unusual_line_separators_stay_in_their_row(tmp_path: Path) -> None:
    (tmp_path / "sst2").mkdir()
    rows = [{"sentence": "a\u2028b\x85c", "label": 1}, {"sentence": "d", "label": 0}]
    (tmp_path / "sst2" / "validation.jsonl").write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8"
    )
    docs = data.test_documents(spec_of("sst2"), str(tmp_path)).docs
    assert docs[0]["sentence"] == "a\u2028b\x85c"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"sentence": "x", "label": 1}\n{oops', r"validation\.jsonl, line 2: not JSON"),
        ('[\n {"sentence": "x"}]', r"line 1: not JSON .*; write each value on a line of its own"),
        ("[1, 2]", r"validation\.jsonl, line 1: a JSON object is needed, got '\[1, 2\]'"),
        ('{"sentence": "x", "label": 1, "label": 0}', "line 1: key twice: 'label' stands twice"),
        ('{"sentence": "\\ud83d", "label": 1}', "line 1: half a character"),
        ('{"sentence": null, "label": 1}', "row 1: sentence=None is no text; write one, or take"),
        ('{"sentence": "x", "label": null}', "row 1: label is missing; give it a class"),
        ('{"sentence": "x", "label": 1}', "negative=0 is in no row"),
        ('{"sentence": "x", "label": NaN}', "line 1: not JSON: NaN stands in it"),
        (
            '{"sentence": "x", "label": [1]}',
            r"row 1: label=\[1\] is a list; a class is a text or a",
        ),
        ('{"sentence": "x", "label": {"a": 1}}', "row 1: label=.* is a dict"),
        ('{"text": "x", "label": 1}', r"'sentence', which is no column of \S+; it has text, label"),
        (
            '{"sentence": "x", "label": 1}\n{"label": 0}',
            "which is no column of row 2 of .*; it has l",
        ),
        ('{"sentence": "x", "label": 1, "first": "y"}', "a column is named 'first', and"),
        (
            '{"sentence": "x"}\n{"sentence": "caf\xe9"}'.encode("latin-1"),
            "line 2: byte 0xe9 is not",
        ),
        ('{"sentence": "x", "label": 1}'.encode("utf-16"), "line 1: UTF-16"),
    ],
)
def test_wrong_rows_say_where(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "sst2").mkdir()
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "sst2" / "validation.jsonl").write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        data.test_documents(spec_of("sst2"), str(tmp_path))


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_part_of_a_row(tmp_path: Path) -> None:
    (tmp_path / "sst2").mkdir()
    rows = ['{"sentence": "x", "label": 1}', '{"sentence": "y", "label": 0}']
    raw = codecs.BOM_UTF8 + "\r\n".join(rows).encode()
    (tmp_path / "sst2" / "validation.jsonl").write_bytes(raw)
    (tmp_path / "sources.yaml").write_bytes(codecs.BOM_UTF8 + b"sst2: {source: toy_sst2}")
    documents = data.test_documents(spec_of("sst2"), str(tmp_path))
    assert [doc["sentence"] for doc in documents.docs] == ["x", "y"]
    assert documents.source == "toy_sst2"


def test_labels_that_resemble_a_class_are_counted_with_their_values(tmp_path: Path) -> None:
    """Only 1 and 0 are classes; "1", " 1" and "true" were meant to be, 7 and "odd" were not."""
    labels = [1, 0, "1", "1", " 1", "true", 7, 7, 7, "odd", 1.0, False]
    rows = [{"remark": f"r{i}", "kind": label} for i, label in enumerate(labels)]
    path = write_set(tmp_path)
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    spec, _ = read_dataset(path)
    documents = data.test_documents(spec, "hub")
    assert [doc["remark"] for doc in documents.docs] == ["r0", "r1", "r10", "r11"]
    assert documents.others == 8
    near, others = notices(spec, documents.left_out)
    assert "4 rows are left out whose kind resembles a class but is not equal" in near
    assert "'1' (2; good is 1), ' 1' (1; good is 1), 'true' (1; good is 1); make" in near
    assert others.endswith("4 rows of other classes are left out: 7 (3), 'odd' (1)")


def test_texts_that_resemble_a_class(tmp_path: Path) -> None:
    labels = ["positive", "negative", "positive ", "Positive", "neutral", "n\u00e9gative"]
    path = write_set(tmp_path, classes={"good": "positive", "bad": "negative"})
    rows = [{"remark": "r", "kind": label} for label in labels]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    spec, _ = read_dataset(path)
    left_out = data.test_documents(spec, "hub").left_out
    assert {label.label: label.resembles for label in left_out} == {
        "positive ": "good",
        "Positive": "good",
        "neutral": None,
        "n\u00e9gative": None,
    }


def test_a_label_column_may_be_named_first(tmp_path: Path) -> None:
    rows = [{"remark": "r", "first": 1}, {"remark": "s", "first": 0}]
    path = write_set(tmp_path, label_column="first")
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert len(data.test_documents(read_dataset(path)[0], "hub").docs) == 2


def test_missing_folder_file_and_wrong_sources(tmp_path: Path) -> None:
    spec = spec_of("sst2")
    with pytest.raises(FileNotFoundError, match="no such folder; give hub, sample or a folder"):
        data.test_documents(spec, str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"validation\.jsonl: no such file"):
        data.test_documents(spec, str(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    (other / "sources.yaml").write_text("sst2: toy_sst2")
    with pytest.raises(ValueError, match=r"sources\.yaml: sst2: 'toy_sst2': give \{split"):
        data.test_documents(spec, str(other))


def test_without_a_network_one_line_names_the_way_out() -> None:
    with pytest.raises(ConnectionError) as error:
        data.test_documents(spec_of("sst2"), "hub")
    assert "sst2: cannot load nyu-mll/glue from the hub" in str(error.value)
    assert "--data sample or --data DIR" in str(error.value)


def test_a_set_that_brings_its_files_reads_them_whatever_data_says(tmp_path: Path) -> None:
    spec, _ = read_dataset(write_set(tmp_path))
    for where in ("hub", "sample"):
        documents = data.test_documents(spec, where)
        assert (documents.source, len(documents.docs)) == ("files", 8)
