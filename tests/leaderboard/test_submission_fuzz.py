"""Mutated submissions: none crashes the validation, none passes that was changed.

By default 100 a test, by `make test-slow` 600, the profile `many` of tests/conftest.py.
"""

import dataclasses
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.helpers.submissions import Files, digest, pack_rows, sums, valid_files, write_files
from verbalizer_bench.leaderboard.submission.validate import validate
from verbalizer_bench.leaderboard.submission.verified import Verified
from verbalizer_bench.tasks.metrics import score

ROWS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclasses.dataclass
class Workshop:
    """A valid submission on disk, of which one file at a time is changed and put back."""

    place: Path
    files: Files = dataclasses.field(repr=False)
    verified: Verified = dataclasses.field(repr=False)

    def validate_with(self, changes: Files, *, is_summed: bool) -> Any:
        """Validate the submission with some files replaced; with sums that agree, or the old."""
        files = {**self.files, **changes}
        names = [*changes, *["SHA256SUMS"] * is_summed]
        renamed = self.place
        if is_summed and "results.json" in changes:
            key = digest(changes["results.json"])[:8]
            renamed = self.place.with_name(f"{self.place.name[:8]}-{key}")
            os.rename(self.place, renamed)
        try:
            for name, content in changes.items():
                (renamed / name).write_bytes(content)
            if is_summed:
                known = {name: files[name] for name in self.files}
                (renamed / "SHA256SUMS").write_bytes(sums(known))
            return validate(renamed, write=False)
        finally:
            os.rename(renamed, self.place)
            for name in names:
                original = sums(self.files) if name == "SHA256SUMS" else self.files[name]
                (self.place / name).write_bytes(original)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    files = valid_files(documents=2)
    place = write_files(tmp_path_factory.mktemp("fuzz"), files)
    found = validate(place, write=False)
    assert found.verified is not None
    yield Workshop(place, files, found.verified)
    # What was put back is what was there.
    assert validate(place, write=False).verified == found.verified


names = st.sampled_from(
    ["submission.yaml", "results.json", "run.json", "SHA256SUMS"]
    + ["samples/verbalizer_sst2_neutral_foo_bar.jsonl.gz"] * 2
    + ["samples/verbalizer_rte_unnatural_not_entailment_entailment.jsonl.gz"]
)
tokens = st.sampled_from(
    [
        b"NaN",
        b"1e999",
        b"-1",
        b"null",
        b"{}",
        b"[",
        b'"',
        b"\\ud800",
        b"\x00",
        b"\xff",
        b"../",
        b"\n",
    ]
)


@st.composite
def mutations(draw: st.DrawFn, content: bytes) -> bytes:
    """Change bytes: flip, insert, cut out, cut off, repeat."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(0, len(content) - 1)))
        stop = draw(st.integers(start, min(len(content), start + 40)))
        kind = draw(st.sampled_from(["flip", "insert", "remove", "truncate", "repeat"]))
        if kind == "flip":
            flipped = bytes(byte ^ draw(st.integers(1, 255)) for byte in content[start : start + 1])
            content = content[:start] + flipped + content[start + 1 :]
        elif kind == "insert":
            extra = draw(st.one_of(tokens, st.binary(min_size=1, max_size=8)))
            content = content[:start] + extra + content[start:]
        elif kind == "remove":
            content = content[:start] + content[stop:]
        elif kind == "truncate":
            content = content[:start]
        else:
            content = content[:stop] + content[start:]
    return content


@ROWS
@given(data=st.data(), name=names)
def test_changed_bytes_never_pass(workshop: Workshop, data: st.DataObject, name: str) -> None:
    original = workshop.files.get(name) or sums(workshop.files)
    changed = data.draw(mutations(original))
    found = workshop.validate_with({name: changed}, is_summed=False)
    if changed == original:
        event("unchanged")
        assert found.failed is None
    else:
        event(f"level {found.failed}")
        assert found.failed == 1


@ROWS
@given(data=st.data(), name=names.filter(lambda name: name != "SHA256SUMS"))
def test_changed_bytes_with_new_sums_never_change_a_score(
    workshop: Workshop, data: st.DataObject, name: str
) -> None:
    """Here the text is changed below the compression, and the sums agree with it."""
    original = workshop.files[name]
    is_packed = name.endswith(".gz")
    text = data.draw(mutations(gzip.decompress(original) if is_packed else original))
    changed = gzip.compress(text, 1, mtime=0) if is_packed else text
    found = workshop.validate_with({name: changed}, is_summed=True)
    event(f"level {found.failed}")
    if found.verified is not None:
        # White space, a note, a submitter's name or the order of keys may differ; nothing else.
        before, after = (
            v.model_dump(exclude={"inputs", "submission"})
            for v in (workshop.verified, found.verified)
        )
        assert after == before


json_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=20),
    st.sampled_from(["foo", "bar", "0" * 64, "not entailment", "<script>alert(1)</script>"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
row_keys = st.sampled_from(
    ["doc_id", "doc_hash", "raw_prompt_hash", "prompt_hash", "target", "response", "f1"]
)


hexadecimal = st.sampled_from(["0" * 64, "a" * 64, digest("verbalizer_sst2_neutral_foo_bar 0")])
words = st.sampled_from(["foo", "bar", "Foo", "foo.", "The foo!", "foo bar", "", "baz"])
fitting = {
    "doc_id": st.integers(0, 3),
    "target": words,
    "response": words | st.text(max_size=30),
    "f1": st.sampled_from([0.0, 0.5, 2 / 3, 1.0]) | st.floats(0, 1),
}


@st.composite
def row_changes(draw: st.DrawFn) -> tuple[str, Any]:
    """A key of a row and a value: of the right type half the time."""
    key = draw(row_keys)
    return key, draw(st.one_of(fitting.get(key, hexadecimal), json_values))


@ROWS
@given(change=row_changes(), which=st.integers(0, 1))
def test_a_changed_row_never_passes(
    workshop: Workshop, change: tuple[str, Any], which: int
) -> None:
    """Only a response with the same scores can be exchanged: no check of files finds that."""
    name = "samples/verbalizer_sst2_neutral_foo_bar.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(workshop.files[name]).splitlines()]
    before = dict(rows[which])
    key, value = change
    rows[which][key] = value
    found = workshop.validate_with({name: pack_rows(rows)}, is_summed=True)
    event(f"{key}: level {found.failed}")
    if found.failed is None:
        others = {"foo": "bar", "bar": "foo"}
        target = before["target"]
        same = score(target, others[target], before["response"]) if key == "response" else None
        unchanged = type(value) is type(before[key]) and value == before[key]
        number = key == "f1" and not isinstance(value, bool) and value == before[key]
        assert unchanged or number or same == score(target, others[target], value)


@st.composite
def claims(draw: st.DrawFn) -> tuple[tuple[str, ...], Any]:
    """A place in results.json that says something of the scores, and a value for it."""
    task = draw(st.sampled_from(["verbalizer_fp_natural_1_0", "verbalizer_qqp_neutral_sfo_lax"]))
    place = draw(
        st.sampled_from(
            [
                *((part, task) for part in ("results", "configs", "n-samples", "task_hashes")),
                *(("results", task, f"{m},none") for m in ("f1", "follows", "neither")),
                *(("results", task, f"{m}_stderr,none") for m in ("f1", "flipped")),
                *(("n-samples", task, part) for part in ("original", "effective")),
                *(
                    ("configs", task, "metadata", part)
                    for part in ("identity", "documents", "dataset", "verbalizer", "shard")
                ),
                ("results", "verbalizer", "f1,none"),
                ("config", "limit"),
                ("configs", task, "generation_kwargs", "num_beams"),
            ]
        )
    )
    return place, draw(json_values)


@ROWS
@given(claim=claims())
def test_a_changed_claim_never_passes(
    workshop: Workshop, claim: tuple[tuple[str, ...], Any]
) -> None:
    place, value = claim
    results = json.loads(workshop.files["results.json"])
    inside = results
    for key in place[:-1]:
        inside = inside[key]
    before = inside.get(place[-1])
    inside[place[-1]] = value
    found = workshop.validate_with({"results.json": json.dumps(results).encode()}, is_summed=True)
    event(f"{place[0]}: level {found.failed}")
    if found.failed is None:
        is_number = isinstance(value, int | float) and isinstance(before, int | float)
        close = is_number and not isinstance(value, bool) and abs(value - before) <= 1e-9
        assert close or value == before
