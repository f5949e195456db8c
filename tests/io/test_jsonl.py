"""JSON lines: what is written comes back, and a fault names file and line."""

from pathlib import Path

import pytest

from verbalizer_bench.io import jsonl


@pytest.mark.parametrize("ascii_only", [False, True])
def test_values_come_back(tmp_path: Path, ascii_only: bool) -> None:
    """A text may hold what Unicode takes for an end of line."""
    values = [{"a": "ä\u2028\n\x85"}, [1, None], "x"]
    file = tmp_path / "values.jsonl"
    file.write_text(jsonl.dumps(values, ascii_only), encoding="utf-8")
    assert file.read_bytes().isascii() == ascii_only
    numbered = [(f"line {number}", value) for number, value in enumerate(values, 1)]
    assert list(jsonl.read(file)) == list(jsonl.read_written(file)) == numbered
    with pytest.raises(ValueError, match="line 2: keys and values are needed"):
        list(jsonl.read_objects(file))


def test_a_byte_order_mark_and_empty_lines_are_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "values.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": 2}')
    assert [place for place, _ in jsonl.read(file)] == ["line 1", "line 3"]
    assert list(jsonl.read_objects(file)) == list(jsonl.read(file))


def test_a_torn_last_line(tmp_path: Path) -> None:
    """Passed over on demand, and only the last: it may be whole but for its end."""
    file = tmp_path / "log.jsonl"
    file.write_text('{"a": 1}\n{"a": 2}')
    assert len(list(jsonl.read_objects(file))) == 2
    assert [value for _, value in jsonl.read_objects(file, torn=True)] == [{"a": 1}]
    file.write_text('{"a": 1}\n{"a"\n{"a')
    with pytest.raises(ValueError, match=r"log\.jsonl, line 2: not JSON"):
        list(jsonl.read_objects(file, torn=True))


def test_what_only_a_program_may_write(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"score": NaN}\n')
    assert [place for place, _ in jsonl.read_objects(file)] == ["line 1"]
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 1: not JSON: NaN stands in it"):
        list(jsonl.read(file))
