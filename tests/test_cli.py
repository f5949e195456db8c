"""The command line as a user runs it, and the three ways into lm-eval, as subprocesses."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager
from transformers.utils import import_utils

from tests.conftest import PATIENCE, write_set
from verbalizer_bench.cli import main
from verbalizer_bench.results.run import find_runs
from verbalizer_bench.running.harness import harness, register_models
from verbalizer_bench.tasks.spec import TASKS_FOLDER

BIN = Path(sys.executable).parent
TASK = "verbalizer_sst2_neutral_foo_bar"


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from verbalizer_bench.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'lm_eval', 'datasets'} & set(sys.modules)"
    )
    done = run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    for command in ("run", "ls", "validate", "report", "demo", "tasks", "data"):
        assert f"\n  {command} " in done.stdout


def test_first_way_our_command_line(toys: tuple[Path, Path], tmp_path: Path) -> None:
    done = run(
        *("verbalizer-bench", "run", "--model", "verbalizer-lvlm", "--batch_size", "auto"),
        *("--model_args", f"pretrained={toys[1]},dtype=float32,image=gray", "--tasks", TASK),
        *("--data", "sample", "--limit", "3", "--output_path", str(tmp_path), "--device", "cpu"),
        "--apply_chat_template",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("engine: shared_prefix: it agrees") == 1, done.stderr
    (found,) = find_runs([tmp_path])
    assert found.record.image and found.record.image.mode == "gray"
    assert "image=gray" in done.stdout and "3 of 24 prompts were run (--limit 3)" in done.stdout
    record = json.loads((found.folder / "run.json").read_text())
    assert record["command"][:2] == ["verbalizer-bench", "run"]
    assert record["first_input_ids"] == found.record.first_input_ids
    assert (found.folder / "summary.json").is_file()
    assert (found.folder / "report" / "scores.png").is_file()


def test_second_way_plain_lm_eval(toys: tuple[Path, Path], tmp_path: Path) -> None:
    folder = run("verbalizer-bench", "tasks", "path").stdout.strip()
    assert folder == str(TASKS_FOLDER)
    done = run(
        *(
            "python",
            "-m",
            "lm_eval",
            "run",
            "--include_path",
            folder,
            "--tasks",
            "verbalizer_sst2_*",
        ),
        *("--model", "hf", "--model_args", f"pretrained={toys[0]},dtype=float32"),
        *("--metadata", '{"data": "sample"}', "--limit", "2", "--device", "cpu"),
        *("--batch_size", "24", "--output_path", str(tmp_path), "--log_samples"),
    )
    assert done.returncode == 0, done.stderr
    (found,) = find_runs([tmp_path])
    assert len(found.tasks) == 12 and {task.source for task in found.tasks} == {"sample"}


def test_third_way_the_entry_point(toys: tuple[Path, Path]) -> None:
    """Later releases of lm-eval load `lm_eval.models` entry points; the class must come out."""
    code = (
        "from importlib.metadata import entry_points\n"
        "from lm_eval.api.registry import get_model\n"
        "for entry in entry_points(group='lm_eval.models'):\n"
        "    cls = entry.load()\n"
        "    assert get_model(entry.name) is cls, entry\n"
        "    print(entry.name)\n"
    )
    done = run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert {"verbalizer-llm", "verbalizer-lvlm"} <= set(done.stdout.split())


def test_the_registered_name_runs_in_lm_eval(toys: tuple[Path, Path]) -> None:
    register_models()
    found = simple_evaluate(
        model="verbalizer-llm",
        model_args=f"pretrained={toys[0]},dtype=float32",
        tasks=[TASK],
        task_manager=TaskManager(
            include_path=str(TASKS_FOLDER), include_defaults=False, metadata={"data": "sample"}
        ),
        limit=1,
        device="cpu",
    )
    assert found["config"]["verbalizer_bench"]["adapter"] == "verbalizer-llm"


def test_generation_arguments_are_reported_as_they_were(
    toys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], real_data: Path
) -> None:
    arguments = [
        *("--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]},dtype=float32"),
        *("--tasks", TASK, "--data", str(real_data), "--samples", json.dumps({TASK: [0, 3]})),
        *("--output_path", str(tmp_path), "--device", "cpu", "--gen_kwargs", "num_beams=1"),
        *("--use_cache", str(tmp_path / "cache")),
    ]
    assert main(["run", *arguments]) == 0
    text = capsys.readouterr().out
    assert ", protocol greedy, partial (" in text and "num_beams=1" in text
    assert "2 of 872 prompts were run: not the benchmark" in text
    assert main(["run", *arguments]) == 0
    text = capsys.readouterr().out
    assert "no prompt reached the model: the responses came from a cache" in text
    for changes in (["--apply_chat_template"], ["--model", "verbalizer-lvlm"]):
        more = [str(toys[1]) if c == str(toys[0]) else c for c in changes]
        if "--model" in more:
            more += ["--model_args", f"pretrained={toys[1]},dtype=float32"]
        assert main(["run", *arguments, *more]) == 0
        assert "came from a cache" not in capsys.readouterr().out


def test_config_file(toys: tuple[Path, Path], tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        f"model: verbalizer-llm\nmodel_args: {{pretrained: {toys[0]}, dtype: float32}}\n"
        f"tasks: [{TASK}]\noutput_path: {tmp_path}/out\nlimit: 1\ndevice: cpu\n"
    )
    assert main(["run", "--config", str(config), "--data", "sample"]) == 0
    assert len(find_runs([tmp_path / "out"])) == 1


def test_predict_only_has_no_summary(
    toys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]},dtype=float32"]
    rest = ["--data", "sample", "--limit", "1", "--output_path", str(tmp_path), "--device", "cpu"]
    assert main(["run", *model, "--tasks", TASK, *rest, "--predict_only"]) == 0
    assert "No summary: --predict_only scores nothing" in capsys.readouterr().out


def test_environment_names_the_data(tmp_path: Path) -> None:
    done = run("verbalizer-bench", "tasks", "check", VERBALIZER_BENCH_DATA="sample")
    assert (done.returncode, done.stdout) == (0, "108 tasks load and render; 2592 prompts\n")


GOOD = ("--tasks", TASK, "--output_path", "x", "--data", "sample")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--tasks", TASK], "run: --output_path is missing"),
        (["run", "--tasks", TASK, "--output_path", "x.json"], "give a folder, not a file"),
        (
            ["run", "--tasks", TASK, "--output_path", "x", "--data", "/gone"],
            "--data /gone: no such",
        ),
        (
            ["run", "--tasks", "x", "--output_path", "x", "--include_path", "/gone"],
            "/gone: no such",
        ),
        (
            ["run", "--tasks", TASK, "--output_path", "x", "--model", "verbalizer-llm"],
            "--model_args has no pretrained=…; verbalizer-llm needs a checkpoint",
        ),
        (
            ["run", "--tasks", TASK, "--output_path", "x", "--model", "verbalizer-llm"]
            + ["--model_args", "pretrained=/gone/model"],
            "--model_args pretrained=/gone/model: no such folder",
        ),
        (
            ["run", "--tasks", TASK, "--output_path", "x", "--gen_kwargs", "max_new_tokens=5"],
            "--gen_kwargs max_new_tokens: lm-eval gives way to the tasks' max_gen_toks",
        ),
        (["run", "--output_path", "x"], "run: --tasks is missing; give verbalizer"),
        (["run", "--tasks", "", "--output_path", "x"], "run: --tasks is missing; give verbalizer"),
        (["run", "--num_fewshots", "3"], "--num_fewshots (did you mean --num_fewshot?)"),
        (["run", "--tasks", TASK, "--limit", "abc"], "--limit/-L: invalid float value: 'abc'"),
        (["run", *GOOD, "--limit", "-3"], "--limit -3: give a count of documents"),
        (["run", *GOOD, "--num_fewshot", "-1"], "--num_fewshot -1: give a count"),
        (["run", *GOOD, "--batch_size", "foo"], "--batch_size foo: give a count of prompts"),
        (["run", *GOOD, "--gen_kwargs", "num_beems=3"], "num_beems=3: no argument of generate; di"),
        (["run", *GOOD, "--gen_kwargs", "stop=no"], "stop=no: lm-eval's name for it is until"),
        (["run", *GOOD, "--gen_kwargs", "num_beams=0"], "num_beams=0: give a count, at least 1"),
        (["run", *GOOD, "--gen_kwargs", "max_gen_toks=abc"], "max_gen_toks=abc: give a count"),
        (["run", *GOOD, "--model", "verbalizer-lm"], "did you mean verbalizer-llm?"),
        (["run", *GOOD, "--tasks", "verbalizer_sts2"], "did you mean verbalizer_sst2?"),
        (["run", *GOOD, "--data", "."], "sst2/validation.jsonl: no such file (nor .parquet)"),
        (["run", *GOOD, "--num_fewshot", "300"], "num_fewshot=300: train has 6 documents"),
        (["run", *GOOD, "--output_path", "/proc/out"], "/proc/out"),
        (["ls", "tasks", "--include_path", "/gone"], "--include_path /gone: no such folder"),
        (["tasks", "build", "."], ".: a folder, not a file; name the data set's YAML"),
        (["tasks", "biuld"], "No such command 'biuld'. Did you mean 'build'?"),
        (["report"], "Missing argument 'runs'; `verbalizer-bench report --help`"),
        (
            ["submit", "validate", "x", "--level", "two"],
            "'--level': Input should be a valid integer",
        ),
        (
            ["submit", "validate", "x", "--level", "two"],
            ", got 'two'; `verbalizer-bench submit val",
        ),
        (["report", "x", "-o"], "'-o' requires an argument; `verbalizer-bench report --help`"),
        (["tasks", "path", "--for", "x"], "for '--for': 'x' is not one of 'lm-eval', 'lmms'; `"),
        (["--version=3"], "'--version' does not take a value; `verbalizer-bench --help`"),
        (["report", __file__], "a file; give the folder that it is in"),
        (["tasks", "build", "/gone/_x.yaml"], "/gone/_x.yaml: no such file"),
        (["tasks", "check", "--data", "/gone"], "--data /gone: no such folder"),
        (["data", "verify", "hub"], "cannot load nyu-mll/glue from the hub"),
        (["data", "fetch", "/dev/null/x"], "cannot load nyu-mll/glue from the hub"),
        (["report", "/gone"], "/gone: no such folder; give the --output_path of a run"),
        (
            ["build", "data/format_oriented", "--data", "/gone", "--dry-run"],
            "--data /gone: no such",
        ),
        (
            ["compose", "--vision-tower", "/gone", "--llm", "/gone", "--connector", "linear"]
            + ["--format", "llama-2", "-o", "x"],
            "llm=/gone: cannot be read",
        ),
        (["leaderboard", "init", "/dev/null/x"], "Not a directory; give a folder, or"),
    ],
)
def test_usage_errors_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.startswith("verbalizer-bench: error: ") and message in error
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (0, "engin=generate", "engin=generate: neither verbalizer-llm nor this checkpoint has"),
        (0, "image=white", "image=white: neither verbalizer-llm nor this checkpoint has such"),
        (1, "engin=generate", "did you mean engine=?"),
        (0, "dtype=fp16", "dtype=fp16: one of auto, float32, float16"),
        (0, "device=cpu", "--model_args device=cpu: write --device cpu"),
        (0, "dtype=float32 --gen_kwargs foo=1", "generate fails with foo=1"),
        (0, "dtype=float32 --gen_kwargs until=3", "gen_kwargs until=3: give a text, or a list"),
        (0, "dtype=float32 --device meta", "device=meta: torch finds no meta devices here"),
        (0, "peft=/gone", "peft=/gone: adapter_config.json is not in it; give a LoRA folder"),
    ],
)
def test_wrong_model_arguments_are_one_line(
    toys: tuple[Path, Path],
    model: int,
    arguments: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = ("verbalizer-llm", "verbalizer-lvlm")[model]
    given = f"pretrained={toys[model]},{arguments}".split(" ")
    common = ["--tasks", TASK, "--output_path", str(tmp_path), "--data", "sample", "--limit", "1"]
    assert main(["run", *common, "--model", name, "--model_args", *given]) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.startswith("verbalizer-bench: error: ") and message in error


def test_checkpoints_of_another_kind_are_one_line(
    toys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--tasks", TASK, "--output_path", str(tmp_path), "--data", "sample"]
    for name, folder, message in (
        ("verbalizer-lvlm", toys[0], "this one is llama; use --model verbalizer-llm"),
        ("verbalizer-llm", toys[1], "this one is llava; use --model verbalizer-lvlm"),
        ("verbalizer-llm", tmp_path, "cannot be read"),
    ):
        assert main(["run", *common, "--model", name, "--model_args", f"pretrained={folder}"]) == 2
        assert message in capsys.readouterr().err.strip().split("\n")[-1]


def test_missing_chat_template_is_one_line(
    stories: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--tasks", TASK, "--output_path", str(tmp_path), "--data", "sample", "--limit", "1"]
    model = ["--model", "verbalizer-llm", "--model_args", f"pretrained={stories}"]
    assert main(["run", *common, *model, "--apply_chat_template"]) == 2
    assert "has no chat template; leave the option out" in capsys.readouterr().err


def test_help_has_a_short_name(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["-h"], ["report", "-h"]):
        with pytest.raises(SystemExit) as done:
            main(words)
        assert done.value.code == 0 and "-h, --help" in capsys.readouterr().out


def test_that_torchvision_is_not_there_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    """PIL is what we want; other lines of the same logger pass."""
    with pytest.raises(SystemExit):
        main(["--version"])
    log = logging.getLogger("transformers.utils.import_utils")
    said = "requires torchvision (not installed); falling back"
    assert said in Path(import_utils.__file__).read_text(encoding="utf-8")

    def passes(text: str) -> bool:
        return bool(log.filter(log.makeRecord(log.name, logging.WARNING, "", 1, text, (), None)))

    assert not passes(f"`CLIPImageProcessor` {said} to `CLIPImageProcessorPil`")
    assert passes("`CLIPModel` requires torch (not installed)")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0 and capsys.readouterr().out.startswith("verbalizer-bench 0.")


def test_unknown_tasks_and_images_are_one_line(
    toys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["run", "--output_path", str(tmp_path), "--data", "sample", "--device", "cpu"]
    model = ["--model", "verbalizer-lvlm", "--model_args", f"pretrained={toys[1]},image=withe"]
    assert main([*common, *model, "--tasks", TASK]) == 2
    assert "error: image=withe: neither white, gray" in capsys.readouterr().err


def test_user_tasks_run_beside_ours(
    toys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_set(tmp_path / "my_set")
    assert main(["tasks", "build", str(path)]) == 0
    assert (
        "wrote 12 tasks (8 documents; 0 rows of other classes left out)" in capsys.readouterr().out
    )
    arguments = [
        *("--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]},dtype=float32"),
        *("--include_path", str(path.parent), "--tasks", f"verbalizer_my_set,{TASK}"),
        *("--data", "sample", "--limit", "2", "--output_path", str(tmp_path / "out")),
        *("--device", "cpu", "--batch_size", "8", "--num_fewshot", "1"),
    ]
    assert main(["run", *arguments]) == 0
    text = capsys.readouterr().out
    assert "1 few-shot examples" in text
    assert "the means hold data sets that are not the suite's: my_set" in text
    assert "rows of my_set: files, not verified" in text
    (found,) = find_runs([tmp_path / "out"])
    assert len(found.tasks) == 13


def test_build_and_run_say_what_is_left_out_and_what_f1_cannot_see(
    toys: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = write_set(
        tmp_path, verbalizers={"neutral": [["\u80af\u5b9a", "\u5426\u5b9a"], ["x", "y"]]}
    )
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"remark": "r", "kind": "1"}\n{"remark": "s", "kind": 5}\n')
    assert main(["tasks", "build", str(path)]) == 0
    *_, first, second, near, others = capsys.readouterr().out.strip().split("\n")
    assert "label word '\u80af\u5b9a': its script has no spaces" in first
    assert "label word '\u5426\u5b9a'" in second
    assert (
        "1 rows are left out whose kind resembles a class" in near and "'1' (1; good is 1)" in near
    )
    assert others.endswith("1 rows of other classes are left out: 5 (1)")
    arguments = [
        *("--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]},dtype=float32"),
        *("--include_path", str(tmp_path), "--tasks", "verbalizer_my_set", "--limit", "1"),
        *("--data", "sample", "--output_path", str(tmp_path / "out"), "--device", "cpu"),
    ]
    assert main(["run", *arguments]) == 0
    assert caplog.messages.count(near) == caplog.messages.count(others) == 1


def test_a_prompt_that_cannot_be_rendered_is_said_when_tasks_are_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = write_set(tmp_path, doc_to_text="{{first}} {{second}} {{remark.x.y}}")
    assert main(["tasks", "build", str(yaml)]) == 2
    error = capsys.readouterr().err
    assert "doc_to_text cannot be rendered (UndefinedError: 'str object'" in error
    assert "{'label': 'bad', 'remark': 'remark 0 is bad'}; correct it" in error


def test_a_leaf_that_cannot_be_read_stops_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """lm-eval passes over it, and a tag would stand for eleven tasks."""
    path = write_set(tmp_path)
    assert main(["tasks", "build", str(path)]) == 0
    leaf = tmp_path / "verbalizer_my_set_neutral_foo_bar.yaml"
    text = leaf.read_text()
    for content, message in (
        (text.encode("utf-16"), "is not UTF-8"),
        ((text + "tag: []\n").encode(), "the key 'tag' stands twice"),
    ):
        leaf.write_bytes(content)
        for command in (["tasks", "check"], ["run", "--tasks", "verbalizer_my_set"]):
            more = ["--output_path", str(tmp_path / "out")] if command[0] == "run" else []
            assert main([*command, "--include_path", str(tmp_path), *more]) == 2
            error = capsys.readouterr().err.strip().split("\n")[-1]
            assert str(leaf) in error and message in error


def test_missing_packages_of_a_model_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "lm_eval.models.api_models.find_spec",
        lambda name: None if name == "tenacity" else find(name),
    )
    arguments = ["--model", "local-completions", "--model_args", "model=m,base_url=http://x/v1"]
    common = ["--tasks", TASK, "--output_path", str(tmp_path), "--data", "sample"]
    assert main(["run", *arguments, *common]) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert "error: Attempted to use an API model" in error
    assert "['tenacity'] are not installed" in error and "; the traceback is in " in error


def test_our_options_are_shown_before_lm_evals(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        harness("run", ["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert text.index("--data hub|sample|DIR") < text.index("--num_fewshot")


def test_validate_needs_no_index_of_lm_evals_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--tasks", "verbalizer"]) == 0
    assert "All tasks found and valid" in capsys.readouterr().out
    assert main(["validate", "--tasks", "verbalizer_sst2_*"]) == 0
    assert "'verbalizer_sst2_neutral_foo_bar'" in capsys.readouterr().out


def test_build_says_that_it_could_not_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_set(tmp_path, dataset_path="me/my_set", dataset_kwargs=None)
    assert main(["tasks", "build", str(path)]) == 0
    text = capsys.readouterr().out
    assert "wrote 12 tasks (NOT checked against its rows: my_set: cannot load me/my_set" in text
