"""Submissions: what is valid passes every level, and what is not gets one clear line."""

import gzip
import json
import os
import re
import tracemalloc
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.submissions import (
    Files,
    digest,
    follows_or_not,
    make_files,
    make_results,
    make_rows,
    pack_rows,
    sums,
    valid_files,
    write_files,
)
from verbalizer_bench.cli import main
from verbalizer_bench.leaderboard.submission import reading, schema
from verbalizer_bench.leaderboard.submission.models import Record, SubmittedRun
from verbalizer_bench.leaderboard.submission.names import check_name
from verbalizer_bench.leaderboard.submission.reading import Limits
from verbalizer_bench.leaderboard.submission.validate import LEVELS, Validation, validate
from verbalizer_bench.leaderboard.submission.verified import read_verified
from verbalizer_bench.results.schema import RunRecord
from verbalizer_bench.tasks.suite import suite

TASK = "verbalizer_sst2_neutral_foo_bar"
SAMPLES = f"samples/{TASK}.jsonl.gz"


@pytest.fixture(scope="module")
def files() -> Files:
    return valid_files()


def rows_of(files: Files, name: str = SAMPLES) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(files[name]).decode().splitlines()]


def test_a_valid_submission_passes_every_level(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = write_files(tmp_path, files)
    assert main(["submit", "validate", str(place)]) == 0
    assert "re-scored; protocol other" in capsys.readouterr().out
    verified = read_verified(place / "verified.json")
    assert [level.status for level in verified.levels] == [
        *("passed", "passed", "not verified", "passed", "other protocol")
    ]
    # Documents 0 and 3 follow, 1 is wordy ("it is", of three words one), 2 is the other word.
    assert verified.label_types["neutral"].f1.mean == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert verified.label_types["neutral"].outcomes["verbose"] == 0.25
    # In the order of the prompts of the first task.
    first = next(task for task, (dataset, _) in suite().items() if dataset == "sst2")
    order = sorted(range(4), key=lambda i: digest(f"{first} {i}"))
    expected = (6.0, 3.0, 0.0, 6.0)
    assert verified.documents["sst2"].sums["neutral"] == tuple(expected[i] for i in order)
    assert verified.documents["sst2"].verbalizers == {"natural": 3, "neutral": 6, "unnatural": 3}
    assert verified.inputs[SAMPLES] == digest(files[SAMPLES])
    assert len(verified.tasks) == 108


def test_an_old_verified_json_does_not_survive_a_failure(files: Files, tmp_path: Path) -> None:
    place = write_files(tmp_path, files)
    (place / "verified.json").write_text("{}")
    (place / "run.json").write_text("{}")
    assert validate(place).failed == 1
    assert not (place / "verified.json").exists()


def test_level_2_alone_is_self_reported(files: Files, tmp_path: Path) -> None:
    found = validate(write_files(tmp_path, files), level=2)
    assert found.verified is not None and found.verified.badge == "self-reported"
    assert len(found.levels) == 2
    with pytest.raises(ValueError, match="--level 6: give 1 to 5"):
        validate(tmp_path, level=6)


def test_json_output(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = write_files(tmp_path, {**files, "run.json": b"[]"})
    assert main(["submit", "validate", str(place), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["valid"] is False and said["failed"] == 1
    assert said["problems"][0].startswith("run.json: ")


def edit(name: str, content: bytes | None) -> Callable[[Files], Files]:
    """Replace a file's bytes; None removes it. The sums are made to agree."""

    def change(files: Files) -> Files:
        return {k: v for k, v in {**files, name: content}.items() if v is not None}

    return change


def edit_row(**values: Any) -> Callable[[Files], Files]:
    """Replace values of one task's second row; the sums are made to agree."""

    def change(files: Files) -> Files:
        rows = rows_of(files)
        rows[1] |= values
        return {**files, SAMPLES: pack_rows(rows)}

    return change


def edit_rows(change_rows: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Files], Files]:
    def change(files: Files) -> Files:
        rows = rows_of(files)
        return {**files, SAMPLES: pack_rows(change_rows(rows) or rows)}

    return change


def edit_results(change_results: Callable[[dict[str, Any]], Any]) -> Callable[[Files], Files]:
    def change(files: Files) -> Files:
        results = json.loads(files["results.json"])
        change_results(results)
        return {**files, "results.json": json.dumps(results).encode()}

    return change


def edit_yaml(**values: Any) -> Callable[[Files], Files]:
    def change(files: Files) -> Files:
        stated = {**yaml.safe_load(files["submission.yaml"]), **values}
        return {**files, "submission.yaml": yaml.safe_dump(stated).encode()}

    return change


def edit_text(name: str, old: str, new: str) -> Callable[[Files], Files]:
    def change(files: Files) -> Files:
        assert old.encode() in files[name]
        return {**files, name: files[name].replace(old.encode(), new.encode(), 1)}

    return change


MODEL = {"id": "org/model", "weights_sha256": "0" * 64, "kind": "llm"}
BOMB = gzip.compress(b"0" * (20 << 20), 9)
CHANGES: list[tuple[str, Callable[[Files], Files], int, str]] = [
    ("empty file", edit("run.json", b""), 1, "run.json: not JSON"),
    ("missing file", edit("run.json", None), 1, "run.json: missing; `submit pack` writes it"),
    ("unknown file", edit("model.pkl", b"x"), 1, "'model.pkl': not a file of a submission"),
    ("unknown sample", edit("samples/x.txt", b"x"), 1, "'samples/x.txt': not a file of"),
    ("bomb", edit(SAMPLES, BOMB), 1, "unpacks to more than 16777216 bytes"),
    ("not gzip", edit(SAMPLES, b"hello"), 1, "not gzip, or damaged"),
    ("two members", lambda f: {**f, SAMPLES: f[SAMPLES] * 2}, 1, "stand behind the gzip data"),
    ("large file", edit("run.json", b" " * (9 << 20)), 1, "bytes; at most 8388608 are read"),
    ("large yaml", edit("submission.yaml", b"#" * (1 << 17)), 1, "at most 65536 are read"),
    ("NaN", edit_row(f1=float("nan")), 1, f"{SAMPLES}:2: NaN: not a number that JSON has"),
    ("infinity", edit_results(lambda r: r.update(x=float("inf"))), 1, "Infinity: not a number"),
    ("huge float", edit_text("results.json", '"limit": null', '"limit": 1e999'), 1, "'1e999'"),
    (
        *("huge integer", edit_text("run.json", '"truncated_prompts": 0', '"n": ' + "9" * 5000)),
        *(1, "run.json: not JSON"),
    ),
    ("large integer", edit_row(doc_id=10**30), 1, "doc_id: Input should be less than 1000000000"),
    ("wrong type", edit_row(response=5), 1, "response: Input should be a valid string, got 5"),
    ("string for number", edit_row(f1="1.0"), 1, "f1: Input should be a valid number, got '1.0'"),
    ("boolean for number", edit_row(doc_id=True), 1, "doc_id: Input should be a valid integer"),
    ("f1 of 2", edit_row(f1=2.0), 1, "f1: Input should be less than or equal to 1, got 2.0"),
    ("unknown key", edit_row(doc="text of a data set"), 1, "doc: Extra inputs are not permitted"),
    ("key twice", edit_text("run.json", '"model"', '"results": "a", "model"'), 1, "a key stands"),
    ("no key", edit_rows(lambda r: r[1].pop("target") and None), 1, "target: Field required"),
    ("UTF-16", edit("run.json", "{}".encode("utf-16")), 1, "run.json: not UTF-8: byte 0"),
    ("latin-1", edit("submission.yaml", "notes: é".encode("latin-1")), 1, "not UTF-8"),
    ("BOM", lambda f: {**f, "run.json": b"\xef\xbb\xbf" + f["run.json"]}, 1, "not JSON"),
    ("surrogate", edit_text("run.json", "results_2026", "\\ud800"), 1, "half a character"),
    ("long response", edit_row(response="x" * 20_000), 1, "at most 10000 characters"),
    ("deep JSON", edit("run.json", b"[" * 40_000), 1, "run.json: not JSON"),
    ("deep YAML", edit("submission.yaml", b"[" * 60_000), 1, "nested deeper than 10"),
    ("YAML alias", edit("submission.yaml", b"a: &a [1]\nb: *a"), 1, "anchor or alias"),
    (
        *("YAML object", edit("submission.yaml", b"a: !!python/object/apply:os.system [ls]")),
        *(1, "submission.yaml: has a YAML tag"),
    ),
    ("YAML key twice", edit_text("submission.yaml", "links:", "date: x\nlinks:"), 1, "twice"),
    (
        "YAML date",
        edit_text("submission.yaml", "'2026-01-31'", "2026-99-31"),
        1,
        "month must be in",
    ),
    (
        *("long model name", edit_yaml(model={**MODEL, "id": "m" * 50_000})),
        *(1, "model.id: String should have at most 150 characters"),
    ),
    ("path as name", edit_yaml(model={**MODEL, "id": "../../etc"}), 1, "model.id: String should"),
    ("no weights", edit_yaml(model={"id": "a/b", "kind": "llm"}), 1, "which weights are these?"),
    ("javascript link", edit_yaml(links=["javascript:alert(1)"]), 1, "links.0: String should"),
    ("control character", edit_yaml(submitter="a\x1b[31m"), 1, "submitter: String should match"),
    ("C1 control", edit_yaml(submitter="a\x9b31m"), 1, "submitter: String should match"),
    ("turned text", edit_yaml(submitter="a\u202egpj"), 1, "submitter: String should match"),
    ("wrong schema version", edit_yaml(schema_version=2), 1, "schema_version: Input should be 1"),
    ("missing task", edit(SAMPLES, None), 2, f"samples: {TASK} is missing"),
    ("no row", edit(SAMPLES, pack_rows([])), 1, f"{SAMPLES}:1: not JSON"),
    (
        *("foreign task", lambda f: {**f, "samples/mmlu.jsonl.gz": f[SAMPLES]}),
        *(2, "samples: 'mmlu' is not the suite's"),
    ),
    (
        *("duplicate row", edit_rows(lambda r: [*r, r[1]])),
        *(2, f"samples: {TASK}: document 1 has more than one row"),
    ),
    ("missing row", edit_rows(lambda r: r[:-1]), 2, "3 rows, not documents 0 to 3 in order"),
    ("other order", edit_rows(lambda r: r[::-1]), 2, "4 rows, not documents 0 to 3 in order"),
    (
        *("--limit", edit_results(lambda r: r["config"].update(limit=4.0))),
        *(2, "results.json: run with --limit 4; run it without"),
    ),
    (
        *("partial", edit_results(lambda r: r["n-samples"][TASK].update(original=9))),
        *(2, f"results.json: {TASK}: (9, 4) of 4 documents of 'local' were run"),
    ),
    (
        *("n of a known source", edit_results(lambda r: _set(r, source="sample"))),
        *(2, "(4, 4) of 24 documents of 'sample' were run"),
    ),
    ("other words", edit_results(lambda r: _set(r, dataset="rte")), 2, "those of another task"),
    ("shard", edit_results(lambda r: _set(r, shard="1/2")), 2, "shard 1/2 of a run; merge"),
    (
        *("mixed decoding", edit_results(lambda r: _generation(r, num_beams=1))),
        *(2, "its tasks were generated with different arguments"),
    ),
    ("edited target", edit_row(target="baz"), 3, f"{TASK}: document 1: target 'baz' is no label"),
    ("edited hash", edit_row(raw_prompt_hash="0" * 64), 3, "not those of its identity: edited"),
    ("edited prompt hash", edit_row(prompt_hash="0" * 64), 3, "lm-eval's task hash: edited"),
    ("edited document", edit_row(doc_hash="0" * 64), 3, "lm-eval's task hash: edited"),
    (
        *("edited identity", edit_results(lambda r: _set(r, identity="0" * 64))),
        *(3, f"{TASK}: its rows' prompts and targets are not those of its identity"),
    ),
    (
        *("edited response", edit_row(response="bar")),
        *(4, f"{TASK}: document 1: f1 0.5 stated, 1.0 computed"),
    ),
    ("edited score", edit_row(f1=1.0), 4, f"{TASK}: document 1: f1 1.0 stated, 0.5 computed"),
    (
        *("edited mean", edit_results(lambda r: r["results"][TASK].update({"f1,none": 0.9}))),
        *(4, f"results.json: {TASK}: f1,none 0.9 stated, 0.625 computed"),
    ),
    (
        *(
            "edited group",
            edit_results(lambda r: r["results"]["verbalizer"].update({"f1,none": 1})),
        ),
        *(4, "results.json: verbalizer: f1,none 1 stated"),
    ),
    (
        *("mean as text", edit_results(lambda r: r["results"][TASK].update({"f1,none": "0.6"}))),
        *(4, "f1,none '0.6' stated"),
    ),
    (
        *("foreign score", edit_results(lambda r: r["results"].update({"mmlu": {}}))),
        *(4, "scores of 'mmlu', which is not the suite's"),
    ),
    (
        "wrong claim",
        edit_yaml(protocol="greedy"),
        5,
        "protocol: greedy, but the run is other: 4 documents of sst2, Table 1 has 872",
    ),
    ("wrong image", edit_yaml(image_mode="white"), 5, "image_mode: 'white', but the run had 'n/a'"),
    (
        *(
            "wrong kind",
            edit_yaml(model={**MODEL, "weights_sha256": digest("weights"), "kind": "lvlm"}),
        ),
        *(5, "model.kind: lvlm, but the adapter is for an llm"),
    ),
    ("wrong weights", edit_yaml(model=MODEL), 5, "000, but run.json's fingerprint.weights is '9a1"),
    (
        *("wrong commit", lambda f: with_commit("2" * 40)(f)),
        *(5, f"model.revision: {'1' * 40}, but the run had {'2' * 40}"),
    ),
    ("id as path", edit_yaml(model={**MODEL, "id": "../.."}), 1, "model.id: String should match"),
    (
        *(
            "base 60",
            edit_text("submission.yaml", "kind:", f"parameters: {'1:' * 300}1.5\n  kind:"),
        ),
        *(1, "submission.yaml: not YAML"),
    ),
    (
        *(
            "hexadecimal",
            edit_text("submission.yaml", "kind:", f"parameters: 0x{'f' * 5000}\n  kind:"),
        ),
        *(1, "model.parameters: "),
    ),
    (
        *("many documents", edit_results(lambda r: _set(r, documents=10**15))),
        *(2, "of 1000000000000000 documents of 'local' were run"),
    ),
    (
        *(
            "no do_sample",
            edit_results(lambda r: r["configs"][TASK]["generation_kwargs"].pop("do_sample")),
        ),
        *(2, "its tasks were generated with different arguments"),
    ),
    (
        *("huge mean", edit_results(lambda r: r["results"][TASK].update({"f1,none": 10**400}))),
        *(4, f"results.json: {TASK}: f1,none "),
    ),
    (
        "few-shot",
        edit_results(lambda r: r.update({"n-shot": {TASK: 5}})),
        5,
        "num_fewshot and n-shot",
    ),
    (
        *("other model", edit_text("run.json", '"model": "verbalizer-llm"', '"model": "vllm"')),
        *(5, "run.json: model is not what results.json has"),
    ),
    (
        *("other date", edit_results(lambda r: r.update(date=1.0))),
        *(5, "submission.yaml: date is not the run's"),
    ),
    (
        *("few documents", edit_yaml(protocol="paper")),
        *(5, "protocol: paper, but the run is other: 4 documents of sst2, Table 1 has 872"),
    ),
    ("own base", edit_yaml(model={**MODEL, "base": "org/model"}), 1, "base is the model itself"),
    (
        *("misspelt key", edit_text("submission.yaml", "licence:", "licnce:")),
        *(1, "licnce: Extra inputs are not permitted"),
    ),
    (
        *("edited run", edit_text("run.json", "[1, 1]", "[2, 2]")),
        *(5, "run.json: bos_counts is not what results.json has"),
    ),
]


def edit_record(both: bool = True, **values: Any) -> Callable[[Files], Files]:
    """Replace values of what our adapter recorded, in results.json and, where both, in run.json."""

    def change(files: Files) -> Files:
        results, run = (json.loads(files[name]) for name in ("results.json", "run.json"))
        results["config"]["verbalizer_bench"].update(values)
        run.update(values if both else {})
        found = {"results.json": json.dumps(results).encode(), "run.json": json.dumps(run).encode()}
        return {**files, **found}

    return change


def edit_run(**values: Any) -> Callable[[Files], Files]:
    def change(files: Files) -> Files:
        return {**files, "run.json": json.dumps(json.loads(files["run.json"]) | values).encode()}

    return change


def edit_config(**values: Any) -> Callable[[Files], Files]:
    return edit_results(lambda results: results["config"].update(values))


def together(*changes: Callable[[Files], Files]) -> Callable[[Files], Files]:
    def change(files: Files) -> Files:
        for one in changes:
            files = one(files)
        return files

    return change


HUB = {"pretrained": "org/model", "dtype": "float32"}
FINGER = {"weights": digest("weights")}
HOW: dict[str, Any] = {"date": None, "arguments": {}}
RENDERED = {"contents": ["strings"], **HOW}
LORA = {"pretrained": "org/base", "peft": "org/model"}
NAMED = {"id": "org/model", "weights_sha256": digest("weights"), "kind": "llm"}
# A valid submission with this in it stays valid; with that beside it, it contradicts itself.
CLAIMS: list[tuple[str, Callable[[Files], Files], Callable[[Files], Files], str]] = [
    (
        *("model id", edit_run(model_args=HUB), edit_run(model_args={"pretrained": "org/best"})),
        "model.id: org/model, but the run loaded 'org/best'",
    ),
    (
        *("id as a text", edit_run(model_args="pretrained=org/model,dtype=float32")),
        *(edit_run(model_args="dtype=float32,pretrained=org/best"), "the run loaded 'org/best'"),
    ),
    (
        *("adapter's id", edit_run(model_args=LORA)),
        *(edit_run(model_args={**LORA, "peft": "org/other"}), "the run loaded 'org/other'"),
    ),
    (
        "adapter's base",
        together(edit_run(model_args=LORA), edit_yaml(model={**NAMED, "base": "org/base"})),
        together(edit_run(model_args=LORA), edit_yaml(model={**NAMED, "base": "org/weak"})),
        "model.base: org/weak, but the adapter was on 'org/base'",
    ),
    (
        "a folder's id is the submitter's",
        together(
            edit_run(model_args={"pretrained": "out/vit"}),
            edit_record(fingerprint={**FINGER, "weights_from": "folder"}),
        ),
        together(
            edit_run(model_args={"pretrained": "out/vit"}),
            edit_record(fingerprint={**FINGER, "weights_from": "hub"}),
        ),
        "the run loaded 'out/vit'",
    ),
    (
        "arguments",
        together(edit_run(model_args=HUB), edit_config(model_args=HUB)),
        together(edit_run(model_args=HUB), edit_config(model_args={**HUB, "dtype": "bfloat16"})),
        "run.json: model_args is not what results.json has",
    ),
    (
        "dtype in the record",
        together(edit_record(dtype="torch.float32"), edit_config(model_dtype="torch.float32")),
        together(edit_record(dtype="torch.float32"), edit_config(model_dtype="torch.bfloat16")),
        "dtype: 'float32' in record, 'bfloat16' in model_dtype",
    ),
    (
        "dtype in the arguments",
        together(edit_record(dtype="torch.float32"), edit_run(model_args=HUB)),
        together(edit_record(dtype="torch.float16"), edit_run(model_args=HUB)),
        "dtype: 'float16' in record, 'float32' in model_args",
    ),
    (
        "dtype of run.json",
        edit_record(dtype="torch.float32"),
        together(edit_record(dtype="torch.float32"), edit_run(dtype="torch.float16")),
        "run.json: dtype is not what results.json has",
    ),
    (
        "device",
        together(edit_record(device="cuda:1"), edit_config(device="cuda")),
        together(edit_record(device="cuda:1"), edit_config(device="cpu")),
        "device: 'cuda' in record, 'cpu' in config",
    ),
    (
        "device without a GPU",
        together(edit_record(device="cpu"), edit_config(device="cuda:0")),
        together(edit_record(device="mps"), edit_config(device="cuda:0")),
        "device: 'mps' in record, 'cuda' in config",
    ),
    (
        "versions",
        edit_record(versions={"torch": "2"}, fingerprint={**FINGER, "versions": {"torch": "2"}}),
        edit_record(versions={"torch": "3"}, fingerprint={**FINGER, "versions": {"torch": "2"}}),
        "versions: {'torch': '3'}, and {'torch': '2'} in the fingerprint",
    ),
    (
        "settings of the checkpoint",
        edit_record(
            generation_config={"k": 1}, fingerprint={**FINGER, "generation_config": {"k": 1}}
        ),
        edit_record(
            generation_config={}, fingerprint={**FINGER, "generation_config": {"top_k": 1}}
        ),
        "generation_config: {}, and {'top_k': 1} in the fingerprint",
    ),
    (
        "EOS",
        edit_record(eos_token_ids=[2], fingerprint={**FINGER, "eos_token_ids": [2]}),
        edit_record(eos_token_ids=[2], fingerprint={**FINGER, "eos_token_ids": [2, 5]}),
        "eos_token_ids: [2], and [2, 5] in the fingerprint",
    ),
    (
        "rendering",
        edit_record(rendering=RENDERED, fingerprint={**FINGER, "rendering": HOW}),
        edit_record(rendering=RENDERED, fingerprint={**FINGER, "rendering": {**HOW, "date": "x"}}),
        "rendering: {'date': None, 'arguments': {}}, and {'date': 'x'",
    ),
    (
        "world size",
        edit_record(world_size=2, responses_by_rank=[216, 216]),
        edit_record(world_size=3, responses_by_rank=[216, 216]),
        "world_size: 3, and 2 ranks answered",
    ),
    (
        "endings",
        edit_record(endings={"eos": 400, "limit": 32}),
        edit_record(endings={"eos": 432, "limit": 32}),
        "endings: 464, the engine made 432",
    ),
    (
        "version of lm-eval",
        together(
            edit_record(versions={"lm_eval": "0.4.13"}),
            edit_results(lambda r: r.update(lm_eval_version="0.4.13")),
        ),
        together(
            edit_record(versions={"lm_eval": "0.4.13"}),
            edit_results(lambda r: r.update(lm_eval_version="0.4.9")),
        ),
        "version of lm_eval: '0.4.13' in record, '0.4.9' in results",
    ),
    (
        "seeds",
        together(edit_run(seeds={"torch_seed": 1234}), edit_config(torch_seed=1234)),
        together(edit_run(seeds={"torch_seed": 1234}), edit_config(torch_seed=7)),
        "seeds: 'torch_seed' is 1234, there 7",
    ),
    (
        "batch size",
        together(edit_run(batch_size=8), edit_config(batch_size=8)),
        together(edit_run(batch_size=8), edit_config(batch_size=1)),
        "run.json: batch_size is not what results.json has",
    ),
    (
        "engine counts",
        edit_record(engine={"shared_prefix": 400, "generate": 32}, responses_by_rank=[400, 32]),
        edit_record(engine={"shared_prefix": 400}),
        "engine: 400 responses, and there are 432",
    ),
    (
        "counts by rank",
        edit_record(responses_by_rank=[216, 216]),
        edit_record(responses_by_rank=[216, 215]),
        "responses_by_rank: 431 in all, the engine made 432",
    ),
    (
        "no template",
        edit_record(chat_template_sha256=None),
        edit_record(chat_template_sha256="0" * 64),
        "chat_template_sha256 is set, but prompts were asked without a template",
    ),
    (
        "template's text",
        edit_results(lambda r: r.update(chat_template=None)),
        edit_results(lambda r: r.update(chat_template="{{ x }}", chat_template_sha="0" * 64)),
        f"chat template's hash: '{digest('{{ x }}')}' in text, '{'0' * 64}' in results",
    ),
]


@pytest.mark.parametrize(
    ("good", "bad", "message"), [c[1:] for c in CLAIMS], ids=[c[0] for c in CLAIMS]
)
def test_claims_are_held_against_the_record(
    files: Files,
    tmp_path: Path,
    good: Callable[[Files], Files],
    bad: Callable[[Files], Files],
    message: str,
) -> None:
    assert validate(write_files(tmp_path / "good", good(dict(files)))).failed is None
    found = validate(write_files(tmp_path / "bad", bad(dict(files))))
    assert found.failed == 5, found
    check_problem(found, message)


def test_prompts_tell_whether_a_template_was_applied(tmp_path: Path) -> None:
    rows = make_rows(2, follows_or_not)
    for own in rows.values():
        for row in own:
            row["prompt_hash"] = digest(row["prompt_hash"] + "chat")
    files = make_files(rows, make_results(rows))
    check_problem(
        validate(write_files(tmp_path / "a", files)),
        "chat_template_sha256 is not set, but prompts are not the raw ones",
    )
    applied = edit_record(chat_template_sha256="1" * 64)(files)
    assert validate(write_files(tmp_path / "b", applied)).failed is None
    other = edit_results(lambda r: r.update(chat_template="{{ x }}"))(applied)
    check_problem(
        validate(write_files(tmp_path / "c", other)),
        f"chat template's hash: '{digest('{{ x }}')}' in text, '{'1' * 64}' in record",
    )


def test_targets_that_contradict_each_other(tmp_path: Path) -> None:
    """A source of one's own, whose answers fit what the model says under each verbalizer."""
    rows = make_rows(4, follows_or_not)
    for row, other in zip(rows[TASK][:2], ("bar", "foo"), strict=True):
        row |= {"target": other, "response": other, "f1": 1.0}
    found = validate(write_files(tmp_path, make_files(rows, make_results(rows))))
    assert found.failed == 3
    check_problem(found, f"{TASK}: document 0: of another class than under the other verbalizers")


def with_commit(recorded: str | None) -> Callable[[Files], Files]:
    """Claim the commit 111…; the run was told to load `recorded`."""

    def change(files: Files) -> Files:
        record = json.loads(files["run.json"])
        record["model_args"] = {"pretrained": "org/model", "revision": recorded}
        model = {"id": "org/model", "revision": "1" * 40, "kind": "llm"}
        return {**edit_yaml(model=model)(files), "run.json": json.dumps(record).encode()}

    return change


def test_a_commit_counts_as_recorded_or_as_said(files: Files, tmp_path: Path) -> None:
    found = validate(write_files(tmp_path / "a", with_commit("1" * 40)(files)))
    assert found.failed is None and found.levels[-1].notes == ("other",)
    found = validate(write_files(tmp_path / "b", with_commit(None)(files)))
    assert found.failed is None
    assert "model.revision is the submitter's word" in found.levels[-1].notes[1]


def _set(results: dict[str, Any], **values: Any) -> None:
    results["configs"][TASK]["metadata"].update(values)


def _generation(results: dict[str, Any], **values: Any) -> None:
    results["configs"][TASK]["generation_kwargs"].update(values)


@pytest.mark.parametrize(
    ("change", "level", "message"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES]
)
def test_what_is_wrong_is_named(
    files: Files,
    tmp_path: Path,
    change: Callable[[Files], Files],
    level: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = write_files(tmp_path, change(dict(files)))
    found = validate(place)
    assert found.failed == level, (found, message)
    check_problem(found, message)
    assert not (place / "verified.json").exists()


def check_problem(found: Validation, message: str) -> None:
    assert any(message in problem for problem in found.problems), found.problems
    for problem in found.problems:
        assert "\n" not in problem and len(problem) < 500, problem
    assert f"level {found.failed} {LEVELS[(found.failed or 1) - 1]}: FAILED" in str(found)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{sum}  /etc/passwd", "absolute path '/etc/passwd'"),
        ("{sum}  C:\\x", "absolute path"),
        ("{sum}  ../../x", "has `..`; it leaves the submission"),
        ("{sum}  samples\\..\\x", "has `..`"),
        ("{sum}  samples/none.jsonl.gz", "which is not there"),
        ("{sum}  run.json", "'run.json' is listed twice"),
        ("{sum} run.json", "not `<sha256>  <path>`"),
        ("", "not `<sha256>  <path>`"),
    ],
)
def test_paths_of_the_sums(files: Files, tmp_path: Path, line: str, message: str) -> None:
    text = sums(files) + line.format(sum="0" * 64).encode() + b"\n"
    found = validate(write_files(tmp_path, files, text))
    assert found.failed == 1
    check_problem(found, message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run.json", {f"{i:x}": 1 for i in range(600_000)}),
        ("run.json", {f"{i:x}": 1 for i in range(45_000)}),
        ("run.json", {"first_input_ids": ["x"] * 45_000}),
        ("results.json", {"configs": {f"{i:x}": {} for i in range(22_000)}}),
        ("results.json", {"results": {}, "configs": [[]] * 600_000}),
        (SAMPLES, {f"{i:x}": 1 for i in range(700_000)}),
    ],
)
def test_wrong_values_by_the_thousand_cost_little(
    files: Files, tmp_path: Path, name: str, value: dict[str, Any]
) -> None:
    """Each file is below its cap in bytes; the error has a line, and no gigabytes."""
    text = json.dumps(value).encode()
    content = gzip.compress(text, 1) if name.endswith(".gz") else text
    place = write_files(tmp_path, {**files, name: content})
    tracemalloc.start()
    found = validate(place)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.failed == 1 and len(found.problems) == 1 and len(found.problems[0]) < 500
    assert peak < 150 << 20


def test_a_closed_or_crowded_folder_is_a_line(files: Files, tmp_path: Path) -> None:
    place = write_files(tmp_path, files)
    for number in range(1001):
        (place / "samples" / f"{number}.jsonl.gz").touch()
    check_problem(validate(place), "more than 1000 files; a submission has one a task")

    def closed(folder: Path) -> list[str]:
        raise PermissionError(13, "Permission denied")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reading, "_walk", closed)
        check_problem(validate(place), "cannot be read: Permission denied; mend its permissions")


def test_a_folder_that_cannot_be_written_fails_alone(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    model = {"id": "org/closed", "weights_sha256": digest("weights"), "kind": "llm"}
    closed = write_files(tmp_path, edit_yaml(model=model)(files))
    (closed / "verified.json").write_text("{}")
    place, unlink, opened = write_files(tmp_path, files), Path.unlink, Path.open

    def guarded(way: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, *words: Any, **options: Any) -> Any:
            if path.parent == closed:
                raise PermissionError(13, "Permission denied", str(path))
            return way(path, *words, **options)

        return call

    monkeypatch.setattr(Path, "unlink", guarded(unlink))
    for _ in range(2):
        assert main(["submit", "validate", str(closed), "x" * 300, str(place)]) == 1
        said = capsys.readouterr().out
        assert "'verified.json': Permission denied" in said
        assert "File name too long" in said
        assert "re-scored; protocol other" in said
        unlink(closed / "verified.json", missing_ok=True)
        monkeypatch.setattr(Path, "open", guarded(opened))


def test_a_folders_name_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "a\x1b[31m\u202e\nlevel 1: passed"
    place.mkdir()
    assert main(["submit", "validate", str(place)]) == 1
    said = capsys.readouterr().out
    assert r"a\x1b[31m\u202e\nlevel 1: passed" in said and "\x1b" not in said
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (" ", "space at an end"),
        ("a  b", "two in a row"),
        ("a\u00a0b", "space of another kind, U+00A0"),
        ("a\u200bb", "not seen, U+200B"),
        ("a\u00adb", "not seen, U+00AD"),
        ("a\ufe0fb", "not seen, U+FE0F"),
        ("a\u3164", "not seen, U+3164"),
        ("a\u2800", "not seen, U+2800"),
        ("a\u034fb", "not seen, U+034F"),
        ("a\u180bb", "not seen, U+180B"),
        ("---", "no letter and no digit"),
        ("\u0301", "no letter and no digit"),
        ("a" + "\u0323\u0301" * 3, "more than 4 marks"),
        ("x\u0301\u0410\u0301", "several scripts: CYRILLIC and LATIN"),
        ("a\U000e0061", "not seen, U+E0061"),
        ("Open\u0410I", "several scripts: CYRILLIC and LATIN"),
        ("\u0391cme", "several scripts: GREEK and LATIN"),
        ("\uff2fpenAI", "which stands for O"),
        ("\U0001d40epenAI", "which stands for O"),
    ],
)
def test_names_that_look_like_others_are_refused(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "José Núñez",
        "Иван Петров (МГУ)",
        "山田 太郎",
        "ナナ-Nana",
        "김철수",
        "Nguyễn Văn",
        "नमस्ते दुनिया",
        "ကျော်",
        "שָׁלוֹם",
        "O\u2019Neil",
        "x. y",
    ],
)
def test_names_of_people_are_names(name: str) -> None:
    for form in ("NFC", "NFD"):
        assert check_name(unicodedata.normalize(form, name))


def test_truncated_gzip(files: Files, tmp_path: Path) -> None:
    for length in range(0, len(files[SAMPLES]), 37):
        changed = {**files, SAMPLES: files[SAMPLES][:length]}
        found = validate(write_files(tmp_path, changed))
        assert found.failed == 1
        check_problem(found, "truncated" if length > 9 else SAMPLES)


def test_a_folder_as_verified_json_is_no_crash(files: Files, tmp_path: Path) -> None:
    place = write_files(tmp_path, files)
    (place / "verified.json").mkdir()
    check_problem(validate(place), "'verified.json': no plain file")


def test_a_link_loses_nothing_to_a_refusal(files: Files, tmp_path: Path) -> None:
    place = write_files(tmp_path / "a", files)
    assert validate(place).failed is None
    (tmp_path / "link").symlink_to(place)
    assert validate(tmp_path / "link").failed == 1
    assert (place / "verified.json").exists()


def test_an_edited_file_without_new_sums(files: Files, tmp_path: Path) -> None:
    place = write_files(tmp_path, edit_row(response="bar")(files), sums(files))
    found = validate(place)
    assert found.failed == 1
    check_problem(found, f"{SAMPLES}: sha256 ")


def test_links_are_not_followed(files: Files, tmp_path: Path) -> None:
    place = write_files(tmp_path / "a", files)
    secret = tmp_path / "secret"
    secret.write_bytes((place / "run.json").read_bytes())
    (place / "run.json").unlink()
    (place / "run.json").symlink_to(secret)
    check_problem(validate(place), "'run.json': a link; a submission has files only")
    other = write_files(tmp_path / "b", files)
    (other / "samples").rename(tmp_path / "samples")
    (other / "samples").symlink_to(tmp_path / "samples")
    check_problem(validate(other), "'samples': a link")
    link = tmp_path / "c"
    link.symlink_to(write_files(tmp_path / "d", files))
    check_problem(validate(link), "not a link to it")
    pipe = write_files(tmp_path / "e", files)
    (pipe / "run.json").unlink()
    os.mkfifo(pipe / "run.json")
    check_problem(validate(pipe), "'run.json': no plain file")


def test_a_submission_stands_where_its_model_says(files: Files, tmp_path: Path) -> None:
    place = write_files(tmp_path, files)
    moved = tmp_path / "famous__model" / place.name
    moved.parent.mkdir()
    place.rename(moved)
    check_problem(validate(moved), "belong in org__model/20260131-")


def test_caps_hold_before_anything_is_unpacked(files: Files, tmp_path: Path) -> None:
    place = write_files(tmp_path, files)
    found = validate(place, limits=Limits(total=20_000))
    check_problem(found, "all samples unpack to more than 20000 bytes")
    found = validate(place, limits=Limits(rows=400))
    check_problem(found, "all samples have more than 400 rows")
    found = validate(place, limits=Limits(packed=100))
    check_problem(found, "bytes; at most 100 are read")


def test_the_same_response_to_everything_is_named(tmp_path: Path) -> None:
    """As a checkpoint of NaN answers: every level passes, and the reader is told."""
    for share, expected in ((1, "864 of 864"), (10, "778 of 864"), (5, None)):
        rows = make_rows(8, follows_or_not)
        flat = [row for own in rows.values() for row in own]
        for number, row in enumerate(flat):
            if share == 1 or number % share or number == 0:
                row |= {"response": "!!!!", "f1": 0.0}
        found = validate(write_files(tmp_path / str(share), make_files(rows, make_results(rows))))
        assert found.verified is not None
        named = [text for text in found.verified.warnings if "are the same text, '!!!!'" in text]
        assert [text[:10] for text in named] == ([expected] if expected else [])
        assert all(f"  warning: {text}" in str(found) for text in named)
        assert set(named) <= set(found.as_json()["warnings"])


def test_other_protocols_are_named_and_not_rejected(tmp_path: Path) -> None:
    rows = make_rows(4, follows_or_not)
    results = make_results(rows)
    for config in results["configs"].values():
        config["generation_kwargs"]["num_beams"] = 1
    found = validate(write_files(tmp_path, make_files(rows, results, protocol="greedy")))
    assert found.verified is not None and found.verified.protocol == "greedy"
    assert found.levels[-1].status == "other protocol"
    assert found.verified.differences[:2] == ("num_beams=1", "4 documents of sst2, Table 1 has 872")


def test_lm_evals_own_models_have_no_record(tmp_path: Path) -> None:
    rows = make_rows(4, follows_or_not)
    results = make_results(rows)
    results["config"] = {"model": "hf", "limit": None}
    stated = make_files(rows, results, protocol="stock-beams")
    stated["run.json"] = json.dumps({"results": "r.json", "model": "hf"}).encode()
    found = validate(write_files(tmp_path, stated))
    assert found.failed is None, found
    assert found.verified is not None and found.verified.protocol == "stock-beams"


def test_a_submission_may_have_all_that_a_run_records() -> None:
    recorded = set(RunRecord.model_fields) - {"served"}
    assert recorded <= set(SubmittedRun.model_fields)
    assert recorded <= set(Record.model_fields)


def test_the_json_schemas_are_those_of_the_models() -> None:
    folder = Path(schema.__file__).parent / "schemas"
    written = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert written == {f"{name}.schema.json": schema.schema(name) for name in schema.MODELS}


def validated(folder: Path, files: Files) -> dict[str, Any]:
    place = write_files(folder, files)
    validate(place)
    found: dict[str, Any] = json.loads((place / "verified.json").read_text())
    return found


def test_the_json_schemas_judge_as_the_models_do(files: Files, tmp_path: Path) -> None:
    import jsonschema
    from pydantic import ValidationError

    good = {
        "submission": yaml.safe_load(files["submission.yaml"]),
        "row": rows_of(files)[0],
        "run": json.loads(files["run.json"]),
        "results": json.loads(files["results.json"]),
        "verified": validated(tmp_path, files),
    }
    for name, value in good.items():
        draft = jsonschema.Draft202012Validator
        validator = draft(schema.schema(name), format_checker=draft.FORMAT_CHECKER)
        validator.validate(value)
        schema.MODELS[name].model_validate(value)
        for key in list(value):
            for wrong in (None, [], {"x": {}}, "x" * 5000, -1, 1e300):
                changed = {**value, key: wrong}
                is_valid = validator.is_valid(changed)
                try:
                    schema.MODELS[name].model_validate(changed)
                except ValidationError:
                    assert not is_valid, (name, key, wrong)
                else:
                    assert is_valid, (name, key, wrong)
