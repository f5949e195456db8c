"""From a run to a published row: pack, validate, spot-check, export, build, by the command line."""

import glob
import json
import os
import random
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.helpers.echo import write_run
from tests.helpers.runs import run as made_run
from tests.helpers.submissions import (
    Rows,
    digest,
    follows_or_not,
    make_files,
    make_results,
    make_rows,
    pack_rows,
    write_files,
)
from verbalizer_bench.cli import main
from verbalizer_bench.leaderboard.submission.agreement import (
    THRESHOLD,
    THRESHOLD_LOW,
    agreement,
    wilson,
)
from verbalizer_bench.leaderboard.submission.asking import arguments, choose, located, with_taken
from verbalizer_bench.leaderboard.submission.contents import read_submission
from verbalizer_bench.leaderboard.submission.pack import _recorded_base, pack
from verbalizer_bench.leaderboard.submission.signed import read_signed
from verbalizer_bench.leaderboard.submission.spot_check import _is_low, _settings, spot_check
from verbalizer_bench.leaderboard.submission.validate import validate
from verbalizer_bench.results.schema import RunRecord
from verbalizer_bench.running.regenerate import regenerate
from verbalizer_bench.tasks.suite import suite

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def published(toys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `out/llama`, a whole run of the toy Llama."""
    from verbalizer_bench.running.harness import harness

    folder = tmp_path_factory.mktemp("published")
    options = ["--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]},dtype=float32"]
    options += ["--tasks", "verbalizer", "--data", "sample", "--device", "cpu"]
    options += ["--batch_size", "32", "--output_path", str(folder / "out" / "llama")]
    harness("run", options)
    return folder


def commands(page: str) -> list[list[str]]:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    lines = blocks.replace("\\\n", " ").split("\n")
    wanted = [f"verbalizer-bench {name} " for name in ("submit", "leaderboard")]
    return [
        shlex.split(line, comments=True)[1:] for line in lines if line.startswith(tuple(wanted))
    ]


def test_the_commands_of_the_page(
    published: Path,
    toys: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(published)
    monkeypatch.setenv("VERBALIZER_BENCH_DATA", "sample")
    found = commands("docs/submissions.md")
    assert {tuple(command[:2]) for command in found} == {
        *(("submit", action) for action in ("pack", "validate", "spot-check", "export")),
        *(("leaderboard", action) for action in ("build", "init")),
    }
    for command in found:
        words = [word for part in command for word in (sorted(glob.glob(part)) or [part])]
        if "spot-check" in words:
            words += ["--model_args", f"pretrained={toys[0]},dtype=float32", "--device", "cpu"]
        assert main(words) == 0, (command, capsys.readouterr())
    text = capsys.readouterr().out
    assert "re-scored; protocol toy" in text
    assert re.search(r"(\d+) of \1 responses agree", text)
    assert "weights: the submission's" in text
    assert (published / "site" / "index.html").stat().st_size > 10_000


@pytest.fixture
def retrained(toys: tuple[Path, Path], tmp_path: Path) -> Path:
    """Return the toy Llama with other weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(toys[0])
    with torch.no_grad():
        for weight in model.parameters():
            weight.neg_()
    model.save_pretrained(tmp_path / "retrained")
    AutoTokenizer.from_pretrained(toys[0]).save_pretrained(tmp_path / "retrained")
    return tmp_path / "retrained"


def test_spot_check_finds_invented_responses(
    published: Path, retrained: Path, tmp_path: Path
) -> None:
    folder = pack(published / "out" / "llama", tmp_path, submitter="A", licence="CC0")
    options: dict[str, Any] = {"data": "sample", "device": "cpu"}
    with pytest.raises(ValueError, match="names no hub commit; give --model_args"):
        spot_check(folder, regenerate, 2, **options)
    for wrong in (0, 217):
        with pytest.raises(ValueError, match=f"-k {wrong}: give 1 to 216 documents"):
            spot_check(folder, regenerate, wrong, **options)
    with pytest.raises(ValueError, match=r"nothere: \.: not a folder"):
        spot_check(tmp_path / "nothere", regenerate, 2, **options)
    with pytest.raises(ValueError, match=r"--threshold 1\.5: give a share"):
        spot_check(folder, regenerate, 2, threshold=1.5, **options)
    other = spot_check(
        folder, regenerate, 2, model_args=f"pretrained={retrained},dtype=float32", **options
    )
    assert other.responses == 24 and other.equal < 24 and other.same_weights is False
    assert "OTHERS than the submission's" in str(other) and "the weights are others" in str(other)
    status, record = read_signed(folder) or ("", None)
    assert status == "failed" and record is not None and record.same_weights is False


@pytest.mark.parametrize("known", [0, 18])
def test_spot_check_finds_perfect_responses(
    published: Path, toys: tuple[Path, Path], tmp_path: Path, known: int, capsys: Any
) -> None:
    """Invented ones are right in all they say; those that a forger expects to be asked are honest.

    The 18 are those that a seed of 0 draws: two of each data set, with their twelve verbalizers.
    """
    run = tmp_path / "run"
    shutil.copytree(published / "out" / "llama", run)
    words = {"submitter": "A", "licence": "CC0", "model_id": "org/llama"}
    honest = pack(run, tmp_path / "honest", **words)
    forged = forge(honest, known, tmp_path / "forged")
    assert validate(forged).failed is None
    command = [
        "submit",
        "spot-check",
        str(forged),
        "-k",
        "9",
        "--data",
        "sample",
        "--device",
        "cpu",
    ]
    command += ["--model_args", f"pretrained={toys[0]}", "--by", "M. Aintainer"]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert re.search(r"FAILED: .*% of the responses agree, below 90 %", said)
    assert "weights: the submission's" in said
    status, record = read_signed(forged) or ("", None)
    assert status == "failed" and record is not None
    assert record.f1_submitted > record.f1_regenerated and record.by == "M. Aintainer"
    assert f"--seed {record.seed}`" in said


def forge(folder: Path, known: int, output: Path) -> Path:
    """Answer every prompt with its target, but for the documents that a known seed draws."""
    found = read_submission(folder)
    expected = choose(found, known, random.Random(0))
    rows = {
        task: [
            {
                **row.model_dump(),
                **(
                    {}
                    if row.doc_id in expected.get(task, ())
                    else {"response": row.target, "f1": 1.0}
                ),
            }
            for row in own
        ]
        for task, own in found.rows.items()
    }
    return rewritten(folder, rows, output)


def rewritten(folder: Path, rows: Rows, output: Path) -> Path:
    """Write a submission again with other rows, and all that is computed of them."""
    results = json.loads((folder / "results.json").read_text())
    own = make_results(rescored(rows))
    results |= {key: own[key] for key in ("results", "task_hashes")}
    for task, config in results["configs"].items():
        config["metadata"]["identity"] = own["configs"][task]["metadata"]["identity"]
    files = {name: (folder / name).read_bytes() for name in ("submission.yaml", "run.json")}
    files["results.json"] = json.dumps(results).encode()
    files |= {f"samples/{task}.jsonl.gz": pack_rows(own) for task, own in rows.items()}
    return write_files(output, files)


def rescored(rows: Rows) -> Rows:
    """Return the rows in the order of the suite."""
    return {task: rows[task] for task in suite()}


def test_an_honest_submission_passes(
    published: Path, toys: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    folder = pack(published / "out" / "llama", tmp_path, submitter="A", licence="CC0")
    command = [
        "submit",
        "spot-check",
        str(folder),
        "-k",
        "2",
        "--data",
        "sample",
        "--device",
        "cpu",
    ]
    command += ["--batch_size", "32", "--model_args", f"pretrained={toys[0]}"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "24 of 24 responses agree" in said and "weights: the submission's" in said
    assert "differs" not in said
    status, record = read_signed(folder) or ("", None)
    assert status == "passed" and record is not None and record.fresh
    assert validate(folder).failed is None
    assert main([*command, "--seed", str(record.seed)]) == 0
    status, again = read_signed(folder) or ("", None)
    assert status == "repeated" and again is not None and again.documents == record.documents
    with (folder / "SHA256SUMS").open("a") as stream:
        stream.write("\n")
    assert (read_signed(folder) or ("",))[0] == "stale"


def test_rows_in_another_order_are_the_same_rows(
    published: Path, toys: tuple[Path, Path], tmp_path: Path
) -> None:
    """Where a submission has the hub's order, it is checked with a folder's."""
    words = {"submitter": "A", "licence": "CC0", "model_id": "org/llama"}
    honest = pack(published / "out" / "llama", tmp_path, **words)
    rows = {
        task: [{**row.model_dump(), "doc_id": i} for i, row in enumerate(own[::-1])]
        for task, own in read_submission(honest).rows.items()
    }
    turned = rewritten(honest, rows, tmp_path / "turned")
    found = validate(turned)
    assert found.failed is None and found.levels[2].status == "passed", found
    options = {"model_args": f"pretrained={toys[0]}", "data": "sample", "device": "cpu"}
    check = spot_check(turned, regenerate, 1, **options)
    assert (check.equal, check.responses, check.differs) == (12, 12, ())
    numbers = located(read_submission(turned), {task: [0] for task in suite()}, "sample")
    assert {tuple(own.values()) for own in numbers.values()} == {(0,)}
    assert {tuple(own) for own in numbers.values()} == {(23,)}
    with pytest.raises(ValueError, match=r"--by 'a  b': has space at an end, or two in a row"):
        spot_check(turned, regenerate, 1, by="a  b", **options)


def test_what_was_said_before_the_prompts_is_said_again(tmp_path: Path) -> None:
    rows = make_rows(2, follows_or_not)
    results = make_results(rows) | {"system_instruction": "--tasks x"}
    found = read_submission(write_files(tmp_path, make_files(rows, results)))
    assert "--system_instruction=--tasks x" in arguments(found, "pretrained=x")


def test_an_adapter_is_not_asked_for_by_its_own_name(tmp_path: Path) -> None:
    rows = make_rows(2, follows_or_not)
    model = {"id": "org/model", "revision": COMMIT, "kind": "llm", "base": "org/base"}
    files = make_files(rows, make_results(rows), model=model)
    record = json.loads(files["run.json"]) | {
        "model_args": {"pretrained": "org/base", "peft": "org/model"}
    }
    files["run.json"] = json.dumps(record).encode()
    found = read_submission(write_files(tmp_path, files))
    with pytest.raises(ValueError, match="is an adapter; give --model_args pretrained=BASE,peft="):
        arguments(found, None)


def test_dtype_and_image_are_the_submissions_unless_told_otherwise(tmp_path: Path) -> None:
    rows = make_rows(2, follows_or_not)
    files = make_files(rows, make_results(rows))
    record = json.loads(files["run.json"]) | {"dtype": "torch.bfloat16"}
    record["image"] = {"mode": "noise"}
    files["run.json"] = json.dumps(record).encode()
    found = read_submission(write_files(tmp_path, files))
    for given, expected in (
        ("pretrained=x", "pretrained=x,dtype=bfloat16,image=noise"),
        ("pretrained=x,dtype=float32", "pretrained=x,dtype=float32,image=noise"),
        (
            "image=white,pretrained=my,torch_dtype=y",
            "image=white,pretrained=my,torch_dtype=y,dtype=bfloat16",
        ),
    ):
        assert with_taken(found, given) == expected
    assert json.loads(with_taken(found, '{"pretrained": "x", "image": "none"}')) == {
        **{"pretrained": "x", "image": "none", "dtype": "bfloat16"}
    }
    evil = "x,trust_remote_code=True"
    files["run.json"] = json.dumps(record | {"dtype": evil}).encode()
    found = read_submission(write_files(tmp_path / "dtype", files))
    assert with_taken(found, "pretrained=x") == "pretrained=x,image=noise"
    image = {"mode": "../x.png", "sha256": "0" * 64}
    files["run.json"] = json.dumps(record | {"image": image}).encode()
    found = read_submission(write_files(tmp_path / "image", files))
    with pytest.raises(
        ValueError, match=r"was shown '\.\./x\.png', a file; give --model_args with"
    ):
        with_taken(found, "pretrained=x")
    assert with_taken(found, "pretrained=x,image=my.png").startswith("pretrained=x,image=my.png,")
    own = RunRecord.model_validate({"image": {**image, "mode": "my.png"}})
    assert not _settings(found, own)[2]
    own = RunRecord.model_validate({"image": {"mode": "my.png", "sha256": "1" * 64}})
    (text,) = _settings(found, own)[2]
    assert text == "image: 'my.png', OTHER than the submission's ('../x.png')"


def test_an_old_hash_is_of_another_kind(tmp_path: Path) -> None:
    """A hash of the weights in memory says nothing of those in files, equal or not."""
    rows = make_rows(2, follows_or_not)
    found = read_submission(write_files(tmp_path, make_files(rows, make_results(rows))))
    new = {"weights": "0" * 64, "weights_kind": "stored"}
    weights, same, differs = _settings(found, RunRecord(fingerprint=new))
    assert (weights, same) == ("0" * 64, None)
    assert differs == ("weights: the submission has a hash of another kind",)


def test_documents_are_drawn_from_all(published: Path, tmp_path: Path) -> None:
    folder = pack(published / "out" / "llama", tmp_path, submitter="A", licence="CC0")
    found = read_submission(folder)
    seen: dict[str, set[int]] = {}
    for seed in range(60):
        chosen = choose(found, 9, random.Random(seed))
        assert len(chosen) == 108
        for task, ids in chosen.items():
            seen.setdefault(task, set()).update(ids)
    assert all(len(ids) > 18 for ids in seen.values())
    firsts = {min(choose(found, 1, random.Random(seed))) for seed in range(60)}
    assert len(firsts) == 9


def test_wilson_by_hand() -> None:
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for hits, n, low, high in (
        *((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)),
        *((0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)),
    ):
        assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson(20, 20)[1] == 1


def test_a_few_improved_responses_are_found_by_the_difference() -> None:
    """19 of 20 agree, which is enough; but those that differ were all made better."""
    scores = {str(k): [(1.0, 1.0)] * 11 + [(1.0, float(k % 2))] for k in range(20)}
    equal = [one == other for own in scores.values() for one, other in own]
    found = agreement(equal, scores)
    assert found.share[0] == pytest.approx(230 / 240) and found.difference[0] == pytest.approx(
        1 / 24
    )
    assert found.faults(0.9) == ["the submitted F1 is above the regenerated, beyond its interval"]
    worse = {k: [(b, a) for a, b in own] for k, own in scores.items()}
    assert agreement(equal, worse).faults(0.9) == []
    one = {k: [(1.0, 1.0)] * 12 for k in scores} | {"0": [(1.0, 0.0)] + [(1.0, 1.0)] * 11}
    assert agreement([True] * 239 + [False], one).faults(0.9) == []


def test_low_precision_rounds_otherwise() -> None:
    assert not _is_low("torch.float32", None) and not _is_low("float64", "torch.float32")
    assert _is_low("torch.float32", "torch.bfloat16") and _is_low("float16", "torch.float32")
    scores = {str(k): [(1.0, 1.0)] * 12 for k in range(20)}
    found = agreement([k % 6 > 0 for k in range(240)], scores)
    assert found.faults(THRESHOLD) and not found.faults(THRESHOLD_LOW)


def test_spot_check_takes_no_code_from_a_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(2, follows_or_not)
    results = make_results(rows)
    for config in results["configs"].values():
        config["generation_kwargs"] |= {"custom_generate": "evil", "trust_remote_code": True}
    place = write_files(tmp_path / "a", make_files(rows, results, protocol="other"))
    with pytest.raises(ValueError, match="generated with 'custom_generate', which spot-check does"):
        spot_check(place, regenerate, 1, model_args="pretrained=nothing")
    monkeypatch.chdir(tmp_path)
    model = {"id": "org/model", "revision": COMMIT, "kind": "llm"}
    place = write_files(tmp_path / "b", make_files(rows, make_results(rows), model=model))
    (tmp_path / "org" / "model").mkdir(parents=True)
    with pytest.raises(ValueError, match="a folder org/model is here, and would be loaded"):
        spot_check(place, regenerate, 1)
    (place / "samples" / "verbalizer_rte_natural_1_0.jsonl.gz").unlink()
    with pytest.raises(ValueError, match="lists 'samples/verbalizer_rte_natural_1_0"):
        spot_check(place, regenerate, 1)


def test_a_packed_run_says_the_same_every_time(published: Path, tmp_path: Path) -> None:
    folders = [
        pack(published / "out" / "llama", tmp_path / name, submitter="A", licence="CC0")
        for name in ("one", "two")
    ]
    files = [
        {str(p.relative_to(f)): p.read_bytes() for p in sorted(f.rglob("*")) if p.is_file()}
        for f in folders
    ]
    assert files[0] == files[1]
    with pytest.raises(ValueError, match="already there; remove it to pack the run again"):
        pack(published / "out" / "llama", tmp_path / "one", submitter="A", licence="CC0")


def test_what_is_packed(published: Path, tmp_path: Path) -> None:
    run = published / "out" / "llama"
    folder = pack(
        run,
        tmp_path,
        submitter="A. Name",
        licence="CC0",
        model_id="org/tuned",
        revision=COMMIT,
        base="org/llama",
        links=["https://example.org"],
    )
    assert folder.parent.name == "org__tuned"
    stated = yaml.safe_load((folder / "submission.yaml").read_text())
    assert stated["protocol"] == "toy" and stated["image_mode"] == "n/a"
    assert stated["model"]["kind"] == "llm" and stated["model"]["revision"] == COMMIT
    assert (folder / "results.json").read_bytes() == next(run.rglob("results_*.json")).read_bytes()
    assert "command" not in json.loads((folder / "run.json").read_text())
    whole = b"".join(path.read_bytes() for path in folder.rglob("*.gz"))
    assert len(whole) < 2 << 20
    found = validate(folder)
    assert found.failed is None and found.levels[2].status == "passed", found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["verbalizer_sst2"]}, "96 of 108 tasks were not run"),
        ({"tasks": ["verbalizer"], "limit": 2}, r"2 of 24 documents were run \(--limit 2\)"),
    ],
)
def test_partial_runs_are_not_packed(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    run = write_run(tmp_path, "foo", **options)
    with pytest.raises(ValueError, match=message):
        pack(run, tmp_path / "out", submitter="A", licence="CC0", weights_sha256="0" * 64)


def test_what_pack_refuses(published: Path, tmp_path: Path) -> None:
    run = published / "out" / "llama"
    words: dict[str, Any] = {"submitter": "A", "licence": "CC0"}
    for name in ("one", "two"):
        shutil.copytree(run, tmp_path / "runs" / name)
    with pytest.raises(ValueError, match=r"holds 2 runs \(.*\); give one of them"):
        pack(tmp_path / "runs", tmp_path, **words)
    with pytest.raises(ValueError, match=r"submit pack: model\.id: String should match pattern"):
        pack(run, tmp_path, **words, model_id="my model")
    with pytest.raises(ValueError, match=r"submit pack: model\.revision: String should match"):
        pack(run, tmp_path, **words, revision="main")
    with pytest.raises(ValueError, match="holds what looks like an access token, hf_abc"):
        pack(run, tmp_path, **words, notes="hf_abc" + "d" * 40)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_an_adapters_base_is_what_it_was_run_on(toys: tuple[Path, Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from verbalizer_bench.models.checkpoints.weight_hash import weights_sha256

    base = AutoModelForCausalLM.from_pretrained(toys[0])
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path)
    arguments = {"pretrained": str(toys[0]), "peft": str(tmp_path), "dtype": "float32"}
    record = {"fingerprint": {"weights": weights_sha256(**arguments)}}
    run = made_run(name="adapter", model_args=arguments, verbalizer_bench=record)
    assert _recorded_base(run) == weights_sha256(toys[0])
    (tmp_path / "adapter_config.json").write_text("{}")
    assert _recorded_base(run) is None


def test_exports(published: Path, tmp_path: Path) -> None:
    from huggingface_hub import parse_eval_result_entries

    folder = pack(
        published / "out" / "llama",
        tmp_path,
        submitter="A",
        licence="CC0",
        model_id="org/llama",
        links=["https://example.org/paper"],
    )
    assert main(["submit", "export", str(folder), "--to", "eee", "-o", str(tmp_path / "eee")]) == 0
    (path,) = (tmp_path / "eee").rglob("*.json")
    assert path.parent == tmp_path / "eee" / "verbalizer-bench" / "org" / "llama"
    record = json.loads(path.read_text())
    assert set(record) >= {"schema_version", "evaluation_id", "source_metadata", "model_info"}
    names = [result["evaluation_name"] for result in record["evaluation_results"]]
    assert len(names) == 112 and names[0] == "verbalizer-bench natural"
    for result in record["evaluation_results"]:
        assert 0 <= result["score_details"]["score"] <= 1
        assert result["metric_config"]["score_type"] == "continuous"
    hub = ["submit", "export", str(folder), "--to", "hf", "-o", str(tmp_path / ".eval_results")]
    assert main(hub) == 2 and main([*hub, "--dataset", "benchmark"]) == 2
    assert main([*hub, "--dataset", "org/benchmark"]) == 0
    entries = parse_eval_result_entries(
        yaml.safe_load((tmp_path / ".eval_results" / "benchmark.yaml").read_text())
    )
    assert [entry.task_id for entry in entries] == ["natural", "neutral", "unnatural", "all"]
    scores = [result["score_details"]["score"] for result in record["evaluation_results"]]
    assert [entry.value for entry in entries] == scores[:4]
    (folder / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="level 1 failed"):
        from verbalizer_bench.leaderboard.submission.export import export

        export(folder, "eee", tmp_path)


@pytest.fixture(scope="module")
def every_eval_ever(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the command of Every Eval Ever 0.3.0, which needs a Python of its own."""
    if found := os.environ.get("VERBALIZER_BENCH_EEE") or shutil.which("every_eval_ever"):
        return Path(found)
    names = ("python3.12", "python3.13")
    # pyenv has versions that are not in the PATH.
    more = sorted(map(str, Path.home().glob(".pyenv/versions/3.1[23].*/bin/python3")))
    paths = [*map(shutil.which, names), *more]
    pythons = [path for path in paths if path and _runs(path)]
    if not pythons:
        pytest.skip("no Python 3.12")
    folder = tmp_path_factory.mktemp("eee") / "venv"
    subprocess.run([pythons[0], "-m", "venv", str(folder)], check=True)
    install = [str(folder / "bin" / "pip"), "install", "-q", "every-eval-ever==0.3.0"]
    if subprocess.run(install).returncode:
        pytest.skip("every-eval-ever 0.3.0 cannot be installed here")
    return folder / "bin" / "every_eval_ever"


def _runs(python: str) -> bool:
    """Say whether it is more than a name: pyenv's stand for versions that are not chosen."""
    return not subprocess.run([python, "-c", ""], capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "revision"), [("org/model", None), ("org/model", COMMIT), ("model", None)]
)
def test_every_eval_evers_own_validator(
    every_eval_ever: Path, tmp_path: Path, name: str, revision: str | None
) -> None:
    from verbalizer_bench.leaderboard.submission.export import export

    rows = make_rows(4, follows_or_not)
    model = {"id": name, "weights_sha256": digest("weights"), "kind": "llm"}
    model |= {"revision": revision} if revision else {}
    links = ["https://example.org/paper"]
    files = make_files(rows, make_results(rows), model=model, links=links, notes="é")
    path = export(write_files(tmp_path, files), "eee", tmp_path / "data")
    command = [str(every_eval_ever), "validate", str(path), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    (found,) = json.loads(done.stdout)
    assert (found["valid"], found["errors"], found["warnings"]) == (True, [], [])
    record = json.loads(path.read_text())
    texts = [r["metric_config"]["evaluation_description"] for r in record["evaluation_results"]]
    assert texts[3].startswith("mean of the means of natural, neutral and unnatural label words")


def test_a_leaderboards_repository(tmp_path: Path) -> None:
    assert main(["leaderboard", "init", str(tmp_path)]) == 0
    workflow = (tmp_path / ".github" / "workflows" / "leaderboard.yml").read_text()
    jobs = yaml.safe_load(workflow)["jobs"]
    assert set(jobs) == {"validate", "build", "publish"}
    # Only the job that runs nothing of others may publish.
    rights = {name: job.get("permissions") for name, job in jobs.items()}
    assert rights == {
        **{"validate": None, "build": None},
        "publish": {"pages": "write", "id-token": "write"},
    }
    assert not any("run" in step and "install" in step["run"] for step in jobs["publish"]["steps"])
    assert yaml.safe_load(workflow)["permissions"] == {"contents": "read"}
    # Nothing pushes to a branch that is protected.
    assert "contents: write" not in workflow and "git push" not in workflow
    # An action that runs with the rights of the repository on what a stranger sent.
    assert "pull_request_target" not in workflow
    actions = re.findall(r"uses: (\S+)", workflow)
    assert len(actions) == 6
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action) for action in actions)
    assert main(["leaderboard", "init", str(tmp_path)]) == 2


PINNED = f"git+https://github.com/org/verbalizer-bench@{'a' * 40}"


@pytest.mark.parametrize(
    ("install", "code"),
    [
        (PINNED, 0),
        (f"https://example.org/verbalizer_bench-0.1.0-py3-none-any.whl#sha256={'0' * 64}", 0),
        (None, 1),
        ("verbalizer-bench==0.1.0", None),
        ("git+https://github.com/org/verbalizer-bench@main", None),
        (f'{PINNED}"; curl evil', None),
    ],
)
def test_what_is_installed_cannot_be_squatted(
    tmp_path: Path, install: str | None, code: int | None
) -> None:
    words = ["leaderboard", "init", str(tmp_path / "board")]
    words += [] if install is None else ["--install", install]
    assert main(words) == (2 if code is None else 0)
    if code is None:
        assert not (tmp_path / "board").exists()
        return
    workflow = yaml.safe_load((tmp_path / "board/.github/workflows/leaderboard.yml").read_text())
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\necho "$@"\n')
    pip.chmod(0o755)
    environment = workflow["env"] | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for name in ("validate", "build"):
        job = workflow["jobs"][name]
        (script,) = [step["run"] for step in job["steps"] if step.get("name") == "Install"]
        done = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True
        )
        assert done.returncode == code
        said = "set VERBALIZER_BENCH" if code else f"install verbalizer-bench @ {install}"
        assert said in done.stdout
        assert "--extra-index-url" not in script


def check_pull_request(repository: Path, job: dict[str, Any], ours: bool) -> tuple[int, str]:
    """Run the steps of the workflow's own in a repository, with `submit validate` an `echo`."""
    bin_folder = repository.parent / "bin"
    bin_folder.mkdir(exist_ok=True)
    (bin_folder / "verbalizer-bench").write_text('#!/bin/sh\necho "$@"\n')
    (bin_folder / "verbalizer-bench").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        **{"OURS": str(ours).lower(), "RUNNER_TEMP": str(repository.parent)},
        "GITHUB_OUTPUT": str(repository.parent / "output"),
    }
    (repository.parent / "output").write_text("")
    said = ""
    for step in job["steps"]:
        skipped = "if" in step and "any=yes" not in (repository.parent / "output").read_text()
        if "run" not in step or step["name"] == "Install" or skipped:
            continue
        done = subprocess.run(
            ["bash", "-c", step["run"]],
            cwd=repository,
            env=environment,
            capture_output=True,
            text=True,
        )
        said += done.stdout
        if done.returncode:
            return done.returncode, said
    return 0, said


def test_what_a_pull_request_may_change(tmp_path: Path) -> None:
    main(["leaderboard", "init", str(tmp_path / "board")])
    board = tmp_path / "board"
    workflow = yaml.safe_load((board / ".github/workflows/leaderboard.yml").read_text())
    job = workflow["jobs"]["validate"]

    def git(*words: str) -> None:
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *author, *words], cwd=board, check=True, capture_output=True)

    def propose(name: str, *files: str, ours: bool = False, start: str = "main") -> tuple[int, str]:
        git("checkout", "-q", "-b", name, start)
        for file in files:
            (board / file).parent.mkdir(parents=True, exist_ok=True)
            (board / file).write_text(name)
        git("add", "-A")
        git("commit", "-qm", name)
        # What is checked out is the merge into main as it is now.
        git("checkout", "-q", "--detach", "main")
        git("merge", "-q", "--no-ff", "-m", "merge", name)
        return check_pull_request(board, job, ours)

    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "start")
    git("branch", "early")
    new = "submissions/a__b/20260101-00000000"
    other = "submissions/a__c/20260101-00000000"
    code, said = propose("good", f"{new}/run.json", f"{new}/samples/x y.jsonl.gz", f"{other}/x")
    assert (code, said) == (0, f"submit validate -- {new} {other}\n")
    code, said = propose("verified", f"{new}/run.json", f"{new}/verified.json")
    assert code == 1 and "verified.json is computed" in said
    code, said = propose("signed", f"{new}/run.json", f"{new}/spot-check.json")
    assert code == 1 and "signed by maintainers" in said
    for number, file in enumerate(
        (
            *(".github/workflows/leaderboard.yml", "submissions/.gitattributes", "submissions/x"),
            *("submissions/a__b/x", "submissions/a__b/x/run.json", new, f"submissions/x/{new}/x"),
        )
    ):
        code, said = propose(f"other-{number}", file)
        assert code == 1 and "and changes nothing else" in said, file
    # What maintainers change besides is theirs; the required check ends.
    assert propose("ours", ".github/workflows/leaderboard.yml", ours=True) == (0, "")
    git("checkout", "-q", "main")
    git("merge", "-q", "good", "ours")
    code, said = propose("edit", f"{new}/run.json")
    assert code == 1 and "not changed after the merge" in said
    code, said = propose("sign", f"{new}/spot-check.json", ours=True)
    assert (code, said) == (0, f"submit validate -- {new}\n")
    # What main got meanwhile is not what an older pull request changes.
    late = "submissions/a__d/20260101-00000000"
    assert propose("late", f"{late}/x", start="early") == (0, f"submit validate -- {late}\n")


def test_the_site_is_published_without_a_bad_folder(tmp_path: Path) -> None:
    """The steps of the workflow's own, with the command replaced: 1 is a folder left out."""
    main(["leaderboard", "init", str(tmp_path)])
    workflow = yaml.safe_load((tmp_path / ".github/workflows/leaderboard.yml").read_text())
    jobs = workflow["jobs"]
    steps = [*jobs["build"]["steps"], *jobs["publish"]["steps"]]
    names = [step.get("id") or step.get("name") or step["uses"].split("@")[0] for step in steps]
    assert names[-4:] == [
        *("build", "actions/upload-pages-artifact", "deployment"),
        "Say that something was left out",
    ]
    place = tmp_path / "submissions" / "a__b" / "20260101-00000000"
    # Of the first push there is nothing to publish, and nothing wrong.
    for code, outcome in (("none", 0), (0, 0), (1, 0), (2, 1)):
        place.mkdir(parents=True, exist_ok=True) if code != "none" else None
        (tmp_path / "verbalizer-bench").write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / "verbalizer-bench").chmod(0o755)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        environment["GITHUB_OUTPUT"] = str(tmp_path / f"output-{code}")
        # As GitHub runs a step without a shell of its own.
        command = ["bash", "-e", "-c", steps[-4]["run"]]
        done = subprocess.run(command, env=environment, cwd=tmp_path)
        assert done.returncode == outcome
        assert (tmp_path / f"output-{code}").read_text() == f"code={code}\n"
