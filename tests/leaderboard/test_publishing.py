"""From a run to a published row: pack, validate, spot-check, export, build, by the command line."""

import glob
import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.leaderboard.submissions import (
    follows_or_not,
    make_files,
    make_results,
    make_rows,
    write_files,
)
from tests.leaderboard.test_report import write_run
from verbalizer_bench.cli import main
from verbalizer_bench.leaderboard.submission.pack import pack
from verbalizer_bench.leaderboard.submission.spot_check import spot_check
from verbalizer_bench.leaderboard.submission.validate import validate

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def published(toys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `out/llama`, a whole run of the toy Llama."""
    from verbalizer_bench.harness import harness

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


def test_the_readmes_commands(
    published: Path,
    toys: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(published)
    monkeypatch.setenv("VERBALIZER_BENCH_DATA", "sample")
    found = commands("README.md")
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
        spot_check(folder, 2, **options)
    for wrong in (0, 217):
        with pytest.raises(ValueError, match=f"-k {wrong}: give 1 to 216 documents"):
            spot_check(folder, wrong, **options)
    with pytest.raises(ValueError, match=r"nothere: \.: not a folder"):
        spot_check(tmp_path / "nothere", 2, **options)
    other = spot_check(folder, 2, model_args=f"pretrained={retrained},dtype=float32", **options)
    assert other.responses == 24 and other.equal < 24 and other.same_weights is False
    assert "OTHERS than the submission's" in str(other)


def test_spot_check_takes_no_code_from_a_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(2, follows_or_not)
    results = make_results(rows)
    for config in results["configs"].values():
        config["generation_kwargs"] |= {"custom_generate": "evil", "trust_remote_code": True}
    place = write_files(tmp_path / "a", make_files(rows, results, protocol="other"))
    with pytest.raises(ValueError, match="generated with 'custom_generate', which spot-check does"):
        spot_check(place, 1, model_args="pretrained=nothing")
    monkeypatch.chdir(tmp_path)
    model = {"id": "org/model", "revision": COMMIT, "kind": "llm"}
    place = write_files(tmp_path / "b", make_files(rows, make_results(rows), model=model))
    (tmp_path / "org" / "model").mkdir(parents=True)
    with pytest.raises(ValueError, match="a folder org/model is here, and would be loaded"):
        spot_check(place, 1)
    (place / "samples" / "verbalizer_rte_natural_1_0.jsonl.gz").unlink()
    with pytest.raises(ValueError, match="lists 'samples/verbalizer_rte_natural_1_0"):
        spot_check(place, 1)


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


def test_a_leaderboards_repository(tmp_path: Path) -> None:
    assert main(["leaderboard", "init", str(tmp_path)]) == 0
    workflow = (tmp_path / ".github" / "workflows" / "leaderboard.yml").read_text()
    jobs = yaml.safe_load(workflow)["jobs"]
    assert set(jobs) == {"validate", "publish"}
    assert "permissions" not in jobs["validate"]
    assert yaml.safe_load(workflow)["permissions"] == {"contents": "read"}
    assert "==VERSION" not in workflow
    # An action that runs with the rights of the repository on what a stranger sent.
    assert "pull_request_target" not in workflow
    assert main(["leaderboard", "init", str(tmp_path)]) == 2


def check_pull_request(repository: Path, script: str) -> tuple[int, str]:
    """Run the workflow's step in a repository, with `submit validate` replaced by `echo`."""
    import subprocess

    bin_folder = repository.parent / "bin"
    bin_folder.mkdir(exist_ok=True)
    (bin_folder / "verbalizer-bench").write_text('#!/bin/sh\necho "$@"\n')
    (bin_folder / "verbalizer-bench").chmod(0o755)
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "BASE": "main"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=repository, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout


def test_what_a_pull_request_may_change(tmp_path: Path) -> None:
    import subprocess

    main(["leaderboard", "init", str(tmp_path / "board")])
    board = tmp_path / "board"
    workflow = yaml.safe_load((board / ".github/workflows/leaderboard.yml").read_text())
    (script,) = [
        step["run"]
        for step in workflow["jobs"]["validate"]["steps"]
        if "BASE" in step.get("env", {})
    ]

    def git(*words: str) -> None:
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *author, *words], cwd=board, check=True, capture_output=True)

    def propose(name: str, *files: str) -> tuple[int, str]:
        git("checkout", "-q", "-b", name, "main")
        for file in files:
            (board / file).parent.mkdir(parents=True, exist_ok=True)
            (board / file).write_text(name)
        git("add", "-A")
        git("commit", "-qm", name)
        return check_pull_request(board, script)

    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "start")
    new = "submissions/a__b/20260101-00000000"
    code, said = propose("good", f"{new}/run.json", f"{new}/samples/x y.jsonl.gz")
    assert (code, said) == (0, f"submit validate {new}\n")
    code, said = propose("verified", f"{new}/run.json", f"{new}/verified.json")
    assert code == 1 and "verified.json is written on merge" in said
    code, said = propose("workflow", ".github/workflows/leaderboard.yml")
    assert code == 1 and "changes files under submissions/ only" in said
    git("checkout", "-q", "main")
    git("merge", "-q", "good")
    code, said = propose("edit", f"{new}/run.json")
    assert code == 1 and "not changed after the merge" in said
