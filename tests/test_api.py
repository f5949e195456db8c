"""The package from Python gives what the command line gives, and raises what that prints."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import verbalizer_bench as vb
from tests.conftest import PATIENCE, comparable
from verbalizer_bench.cli import main
from verbalizer_bench.errors import Interrupted
from verbalizer_bench.trainers.recipe import Recipe, read_recipe

TASKS = "verbalizer_sst2_neutral_foo_bar"


def test_importing_it_needs_no_torch_and_its_functions_are_listed() -> None:
    code = (
        "import sys, verbalizer_bench as vb\n"
        "assert {'evaluate', 'train', '__version__'} <= set(dir(vb)), dir(vb)\n"
        "assert not hasattr(vb, 'evalute')\n"
        "vb.evaluate, vb.load_run, vb.report, vb.compare, vb.train, vb.build_data\n"
        "assert not {'torch', 'transformers', 'lm_eval', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_type_checkers_know_what_it_gives(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    calls = [
        "load_run('x')",
        "report('x').summaries",
        "compare('x', 'y').pairs",
        "train('x').metrics",
    ]
    calls += ["evaluate(model='m', model_args={}, output='o').name", "build_data('x').files"]
    calls += ["validate_data('x').stops"]
    lines = [f"reveal_type(vb.{call})" for call in calls]
    program.write_text("\n".join(["import verbalizer_bench as vb", *lines, "vb.evalute\n"]))
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, "--outputjson", str(program)], capture_output=True, timeout=PATIENCE, check=False
    )
    told = [one["message"] for one in json.loads(done.stdout)["generalDiagnostics"]]
    types = [text.partition(" is ")[2].strip('"') for text in told if text.startswith("Type of")]
    assert types[:2] == ["Run", "tuple[RunSummary, ...]"] and types[2].startswith("tuple[Pair")
    assert types[3:7] == ["Mapping[str, Any]", "str", "tuple[Path, ...]", "tuple[str, ...]"]
    assert any(text.startswith('"evalute" is not a known attribute') for text in told), told


@pytest.fixture(scope="module")
def runs(toys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Return the output of a run of the command line, and the same run made from Python."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]},dtype=float32"]
    words += ["--tasks", TASKS, "--data", "sample", "--limit", "3", "--device", "cpu"]
    words += ["--gen_kwargs", "num_beams=2", "--apply_chat_template", "--batch_size", "auto"]
    assert main(["run", *words, "--output_path", str(folder / "words")]) == 0
    before = list(sys.argv)
    run = vb.evaluate(
        model="verbalizer-llm",
        model_args={"pretrained": toys[0], "dtype": "float32"},
        tasks=[TASKS],
        data="sample",
        output=folder / "python",
        limit=3,
        device="cpu",
        gen_kwargs={"num_beams": 2},
        apply_chat_template=True,
        batch_size="auto",
        predict_only=False,
    )
    assert sys.argv == before
    return folder / "words", run


def test_a_run_is_that_of_the_command_line(runs: tuple[Path, Any]) -> None:
    words, run = runs
    assert comparable(words) == comparable(run.folder)
    record, ours = (
        json.loads(next(place.rglob("run.json")).read_text()) for place in (words, run.folder)
    )
    for key in ("model", "model_args", "fingerprint", "engine"):
        assert record[key] == ours[key]
    assert vb.load_run(run.folder.parent).folder == run.folder
    (score,) = vb.load_run(words).tasks
    assert (score.scores["f1"] == run.tasks[0].scores["f1"]).all()


def test_reports_are_those_of_the_command_line(
    runs: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, run = runs
    both = [str(words), str(run.folder)]
    for name, made in (
        ("report", vb.report(words, run)),
        ("compare", vb.compare(words, run)),
    ):
        capsys.readouterr()
        assert main([name, *both, "-o", str(tmp_path / "words")]) == 0
        assert str(made) in capsys.readouterr().out
        for file in made.write(str(tmp_path / "python")):
            if file.suffix != ".png":
                assert file.read_bytes() == (tmp_path / "words" / file.name).read_bytes()


def test_a_run_of_mmvp_alone_is_given_and_reported_on(
    toys: tuple[Path, Path], tmp_path: Path
) -> None:
    run = vb.evaluate(
        model="verbalizer-lvlm",
        model_args={"pretrained": toys[1], "dtype": "float32"},
        tasks="mmvp_letters",
        data="sample",
        output=tmp_path,
        limit=4,
        device="cpu",
        batch_size=4,
    )
    assert not run.tasks and vb.load_run(tmp_path).folder == run.folder
    found = vb.report(run)
    assert any("MMVP" in title for title in found.pictures)
    assert str(found) == str(vb.report(tmp_path))


def test_a_run_that_is_given_is_not_read_again(
    runs: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, run = runs
    base = vb.load_run(words)
    monkeypatch.setattr("verbalizer_bench.results.run.read_run", pytest.fail)
    (only,) = vb.report(run, run).runs
    assert only is run
    names = [one.name for one in vb.compare(base, run).runs]
    assert names == [f"{run.name} ({place})" for place in ("words", "python")]


def test_a_run_is_summarised_without_what_lies_below_it(
    runs: tuple[Path, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    for place in (folder, folder / "earlier"):
        shutil.copytree(runs[1].folder, place)
    monkeypatch.setattr("verbalizer_bench.running.harness.harness", lambda *_, shown: [folder])
    assert main(["run"]) == 0
    text = capsys.readouterr().out
    assert runs[1].name in text and f"{runs[1].name} (run)" not in text


def test_a_checkpoint_is_that_of_the_command_line(tmp_path: Path) -> None:
    words = ["num_train_epochs=1", "lora.r=4", f"cache={tmp_path / 'cache'}"]
    assert main(["train", "tiny/sft_lora", *words, f"output={tmp_path / 'words'}"]) == 0
    trained = vb.train(
        "tiny/sft_lora",
        words[-1],
        num_train_epochs=1,
        lora={"r": 4},
        output=tmp_path / "python",
    )
    record = json.loads((tmp_path / "words" / "training.json").read_text())
    assert trained.path == tmp_path / "python"
    for key in ("steps", "loss", "weights", "parameters"):
        assert trained.metrics[key] == record[key]
    losses = trained.to_frame()
    assert len(losses) == record["steps"]
    assert losses["loss"].iloc[-1] == pytest.approx(record["loss"]["last"])
    assert f"{tmp_path / 'python'}: {record['steps']} steps in " in str(trained)


def test_a_data_set_is_that_of_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        {"image": f"{n}.jpg", "question": f"What is shape {n}?", "answer": "round"}
        for n in range(6)
    ]
    file = tmp_path / "vqa.json"
    file.write_text(json.dumps(records))
    common = [f"records={file}", "leakage.data=sample"]
    assert main(["build", "data/response_format", *common, f"output={tmp_path / 'words'}"]) == 0
    built = vb.build_data(
        "data/response_format", leakage={"data": "sample"}, records=file, output=tmp_path / "python"
    )
    assert str(built) in capsys.readouterr().out and "6 records accepted" in str(built)
    sets = [file for file in built.files if file.suffix == ".json"]
    assert sets
    for file in sets:
        assert file.read_bytes() == (tmp_path / "words" / file.name).read_bytes()


def test_values_of_python_are_those_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Recipe] = []
    monkeypatch.setattr("verbalizer_bench.trainers.train.train", lambda recipe: read.append(recipe))
    vb.train(
        "tiny/sft_lora",
        "seed=3",
        output=Path("1200"),
        data=["a.json", "é: b.json"],
        learning_rate=1e-05,
        lora={"r": 64},
        trained_parameters=None,
        gradient_checkpointing=False,
    )
    assert read == [
        read_recipe(
            "tiny/sft_lora",
            ["seed=3", "output=1200", "data=[a.json, 'é: b.json']", "learning_rate=0.00001"]
            + ["lora.r=64", "trained_parameters=null", "gradient_checkpointing=false"],
        )
    ]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: vb.train("tiny/stf"), "train tiny/stf"),
        (
            lambda: vb.validate_data("tiny/sft", data="gone.json"),
            "validate-data tiny/sft data=gone.json",
        ),
        (lambda: vb.train("tiny/sft", sede=1), "train tiny/sft sede=1"),
        (
            lambda: vb.build_data("data/response_format", "sede=1"),
            "build data/response_format sede=1",
        ),
        (lambda: vb.report("/gone"), "report /gone"),
        (lambda: vb.train("tiny/sft", loss_weights={}), "train tiny/sft loss_weights={}"),
        (lambda: vb.compare("/gone", "x", allow=["imag"]), "compare /gone x --allow imag"),
        (lambda: vb.compare("/gone", "x", allow="image,a"), "compare /gone x --allow image,a"),
        (
            lambda: vb.evaluate("verbalizer-llm", {"pretrained": "/gone"}, output="x", limt=3),
            "run --model verbalizer-llm --limt 3",
        ),
        (
            lambda: vb.evaluate(
                "verbalizer-llm", "pretrained=/gone", output="x", system_instruction="-brief-"
            ),
            "run --model verbalizer-llm --model_args pretrained=/gone --tasks verbalizer "
            "--output_path x",
        ),
        (
            lambda: vb.evaluate("dummy", "", output="x", include_path=["/gone", "/lost"]),
            "run --model dummy --tasks verbalizer --output_path x --include_path /gone:/lost",
        ),
    ],
)
def test_a_mistake_raises_the_line_that_the_command_line_prints(
    call: Callable[[], Any],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, OSError)) as error:
        call()
    assert main(words.split()) == 2
    line = capsys.readouterr().err.strip().split("\n")[-1]
    assert line == f"verbalizer-bench: error: {error.value}"


def test_one_process_evaluates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="several processes; start them with verbalizer-bench run"):
        vb.evaluate("verbalizer-llm", {}, output="x")


def test_predictions_alone_are_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(ValueError, match="evaluate: predict_only scores nothing; leave it out"):
        vb.evaluate("verbalizer-llm", {}, output="x", predict_only=True)


def test_what_is_interrupted_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(recipe: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("verbalizer_bench.trainers.train.train", stop)
    monkeypatch.setattr("verbalizer_bench.builders.build.build", stop)
    for call, command in (
        (lambda: vb.train("tiny/sft", "lora=null", seed=1), "train tiny/sft lora=null seed=1"),
        (
            lambda: vb.build_data("data/response_format", records="x.json"),
            "build data/response_format 'records=\"x.json\"'",
        ),
    ):
        with pytest.raises(Interrupted, match="starts again") as stopped:
            call()
        assert f"`verbalizer-bench {command}`" in str(stopped.value)


def test_a_report_of_no_run_is_refused() -> None:
    with pytest.raises(ValueError, match="report: no run; give one or more"):
        vb.report()
