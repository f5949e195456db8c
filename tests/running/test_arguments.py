"""What `run` is given: names stay texts, a `--config` file is checked, whole option names only."""

import argparse
import codecs
import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval._cli import HarnessCLI

from verbalizer_bench.cli import main
from verbalizer_bench.models.adapters.journal import journal_files
from verbalizer_bench.results.run import find_runs
from verbalizer_bench.running.arguments import model_arguments, parse, unknown_option
from verbalizer_bench.running.harness import harness, register_models
from verbalizer_bench.running.options import check_model

TASK = "verbalizer_sst2_neutral_foo_bar"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("pretrained=1200", {"pretrained": "1200"}),
        ("pretrained=nan,revision=0012", {"pretrained": "nan", "revision": "0012"}),
        ("pretrained=1e5,max_length=20", {"pretrained": "1e5", "max_length": 20}),
        ("pretrained=None,tokenizer=None", {"pretrained": "None", "tokenizer": None}),
        ("pretrained=True,add_bos_token=True", {"pretrained": "True", "add_bos_token": True}),
        ("pretrained=[1],x=[1,2]", {"pretrained": "[1]", "x": [1, 2]}),
        ("pretrained=a=b", {"pretrained": "a=b"}),
        ("peft=7,image=0.5", {"peft": "7", "image": "0.5"}),
    ],
)
def test_names_of_things_stay_texts(text: str, parsed: dict[str, Any]) -> None:
    assert model_arguments(text) == parsed
    args = parse(HarnessCLI(), "run", ["--model_args", text])
    assert args.model_args == parsed
    args = parse(
        HarnessCLI(), "run", ["--model_args", "x=1", "--model_args", *text.split(",x")[:1]]
    )
    assert (
        args.model_args["x"] == 1
        and args.model_args.items() >= model_arguments(text.split(",x")[0]).items()
    )


def test_a_space_beside_a_key_is_refused_before_anything_is_read() -> None:
    """lm-eval takes it into the key, and a checkpoint's class fails on such a name."""
    line = "' dtype=float32': leave out the space beside dtype"
    with pytest.raises(ValueError, match=f"argument --model_args/-a: {line}"):
        parse(HarnessCLI(), "run", ["--model_args", "pretrained=DIR, dtype=float32"])
    with pytest.raises(ValueError, match="argument --gen_kwargs: 'num_beams =1': leave out"):
        parse(HarnessCLI(), "run", ["--gen_kwargs", "num_beams =1"])
    with pytest.raises(ValueError, match=line):
        model_arguments("pretrained=DIR, dtype=float32")
    args = parse(HarnessCLI(), "run", ["--model_args", '{"pretrained": "a, b", "n": 3}'])
    assert args.model_args == {"pretrained": "a, b", "n": 3}


def test_json_says_what_is_a_text() -> None:
    args = parse(HarnessCLI(), "run", ["--model_args", '{"pretrained": "1200", "n": 3}'])
    assert args.model_args == {"pretrained": "1200", "n": 3}
    with pytest.raises(ValueError, match="--model_args pretrained: 1200 is a int; put it between"):
        parse(HarnessCLI(), "run", ["--model_args", '{"pretrained": 1200}'])


@pytest.mark.parametrize(("name", "commit"), [("1200", None), ("nan", "1f2e3d")])
def test_a_checkpoint_and_an_output_that_are_called_by_a_number(
    name: str,
    commit: str | None,
    toys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In a folder without a repository, and in one that git cannot read and lm-eval can."""
    monkeypatch.chdir(tmp_path)
    if commit:
        heads = tmp_path / ".git" / "refs" / "heads"
        heads.mkdir(parents=True)
        (heads / "main").write_text(f"{commit}\n")
        (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    Path(name).symlink_to(toys[0])
    arguments = ["--model", "verbalizer-llm", "--model_args", f"pretrained={name},dtype=float32"]
    rest = ["--tasks", TASK, "--limit", "1", "--data", "sample", "--device", "cpu"]
    assert main(["run", *arguments, *rest, "--output_path", "2026"]) == 0
    (run,) = find_runs([tmp_path / "2026"])
    assert run.results.config.model_args["pretrained"] == name and run.name == name
    assert json.loads(run.file.read_text())["git_hash"] == commit
    assert "fatal" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--task", TASK], "unknown argument --task (did you mean --tasks?)"),
        (["--output", "x"], "unknown argument --output (did you mean --output_path?)"),
        (["--model_arg=pretrained=x"], "(did you mean --model_args?)"),
        (["--dat", "sample"], "(did you mean --data?)"),
    ],
)
def test_a_part_of_an_option_is_no_option(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--model", "hf", *arguments]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--seed", "x"], "--seed: 'x': x is not an integer or None"),
        (["--samples", "{"], "--samples/-E: '{': Invalid JSON: {. Hint: Use double quotes"),
        (["--samples", "gone.json"], "--samples gone.json: neither JSON nor a file of it"),
        (["--samples", "[1]"], "--samples [1]: give documents by task"),
        (["--samples", '{"x": ["1"]}'], "give documents by task, such as"),
        (["--samples", '{"x": []}'], "give documents by task, such as"),
        (["--model_args", "foo"], "--model_args/-a: expected `key=value`, got 'foo'"),
        (["--model_args", "pretrained=a,b"], "got 'b'; write values with commas or braces as JSON"),
        (["--gen_kwargs", "{bad"], "--gen_kwargs: Invalid JSON: {bad"),
        (["--metadata", "{bad"], "--metadata: Invalid JSON: {bad"),
        (["--gen_kwargs", "length_penalty=x"], "--gen_kwargs length_penalty=x: give a number"),
        (["--max_batch_size", "0"], "--max_batch_size 0: give a count of prompts"),
        (["--verbosity", "loud"], "--verbosity LOUD: give one of DEBUG, INFO, WARNING"),
        (["--limit", "nan"], "--limit nan: give a count of documents"),
        (["--check_integrity"], "--check_integrity: lm-eval's own tests are not in its package"),
        (["--cache_requests", "maybe"], "invalid value 'maybe' (choose from true, refresh"),
    ],
)
def test_a_wrong_value_says_why(
    option: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ["--model", "hf", "--tasks", TASK, "--output_path", str(tmp_path)]
    assert main(["run", *rest, *option]) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert message in error and "function" not in error


def test_samples_in_a_file(
    toys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "samples.json"
    file.write_bytes(codecs.BOM_UTF8 + json.dumps({TASK: [99]}).encode())
    model = ["--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]}"]
    rest = ["--tasks", TASK, "--data", "sample", "--output_path", str(tmp_path / "out")]
    assert main(["run", *model, *rest, "--samples", str(file)]) == 2
    assert "99: its documents are 0 to 23" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("report x --out y", "--out (did you mean --output?); `verbalizer-bench report --help`"),
        ("submit pack x --submiter y", "--submiter (did you mean --submitter?); `verbalizer-bench"),
        ("validate --task x", "validate: unknown argument --task (did you mean --tasks?)"),
        ("compare x --alow=image", "--alow (did you mean --allow?)"),
        ("train tiny/sft --dryrun", "--dryrun (did you mean --dry-run?)"),
        ("--foo", "unknown argument --foo; `verbalizer-bench --help`"),
        ("train", "Missing argument 'recipe';"),
    ],
)
def test_a_misspelt_option_is_said_before_what_is_missing(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    assert message in capsys.readouterr().err


def test_numbers_and_values_behind_a_letter_are_no_misspelt_options(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", "--output")
    words = ["-3", "-.5", "-", "-oDIR", "--output=-x", "- a note", "--", "--foo"]
    assert unknown_option(parser, words) is None
    assert unknown_option(parser, ["-x"]) == "unknown argument -x"


@pytest.mark.parametrize("command", ["run", "ls", "validate"])
def test_help_is_ours_and_its_links_are_whole(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        harness(command, ["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: verbalizer-bench {command}" in text
    assert "bench" + "uation" not in text and "lm-eval run" not in text
    assert f"\n  verbalizer-bench {command} " in text and "hellaswag" not in text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("dato: sample", "dato='sample': no option of a file"),
        ("task: [x]", "task=['x']: no option of a file; did you mean tasks?"),
        ("resume: out", "resume='out': no option of a file"),
        ("num_fewshot: 1.5", "num_fewshot: 1.5: a whole number is needed"),
        ("apply_chat_template: 3", "true, false or a template's name is needed"),
        ("output_path: 1200", "output_path: 1200: YAML read it as int; quote it"),
        ("model_args: {pretrained: 1200}", "model_args pretrained: 1200 is a int; quote it"),
        ("model_args: [x]", "model_args: ['x']: a block of keys is needed"),
        ("tasks: [1]", "tasks: [1]: names are needed; quote them"),
        ("limit: many", "limit: 'many': a number is needed"),
        ("model: hf\nmodel: verbalizer-llm", "the key 'model' stands twice; remove one"),
        ("- model", "options and values are expected, got list"),
        ("{", "not valid YAML"),
        ("data: /gone", "--data /gone: no such folder"),
        ("shard: 5/4", "--shard 5/4: give the shard"),
    ],
)
def test_wrong_config_files_are_one_line(
    lines: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(lines)
    rest = ["--output_path", str(tmp_path / "out")] if "output_path" not in lines else []
    rest += ["--tasks", TASK] if "tasks" not in lines else []
    if "model" not in lines:
        rest += ["--model", "verbalizer-llm", "--model_args", "pretrained=a/b"]
    assert main(["run", "--config", str(file), *rest]) == 2
    assert message in capsys.readouterr().err.strip().split("\n")[-1]


def test_a_config_file_may_hold_all_and_the_record_is_the_whole_command(
    toys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a byte order mark; the chat template of the file binds the journal as the flag does."""
    file = tmp_path / "run.yaml"
    out = tmp_path / "out"
    text = (
        f"model: verbalizer-llm\nmodel_args: 'pretrained={toys[0]},dtype=float32'\n"
        f"tasks: {TASK}\noutput_path: {out}\nlimit: 1\ndevice: cpu\nseed: 7\n"
        "data: sample\napply_chat_template: true\nsystem_instruction: Be brief.\n"
    )
    file.write_bytes(codecs.BOM_UTF8 + text.encode())
    monkeypatch.setenv("VERBALIZER_BENCH_DATA", "/gone")
    assert main(["run", "--config", str(file)]) == 0
    (run,) = find_runs([out])
    assert run.tasks[0].source == "sample"
    assert run.results.config.random_seed == 7
    header = json.loads(journal_files(out)[0].read_text().split("\n")[0])
    assert header["protocol"]["apply_chat_template"] is True
    assert header["protocol"]["system_instruction"] == "Be brief."
    record = json.loads((run.folder / "run.json").read_text())
    assert record["command"] == ["verbalizer-bench", "run", "--config", str(file)]


def test_the_record_says_where_the_rows_were(
    toys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ["--model", "verbalizer-llm", "--model_args", f"pretrained={toys[0]},dtype=float32"]
    rest = [*model, "--tasks", TASK, "--limit", "1", "--device", "cpu"]
    commands = []
    for folder, source, variable in (
        ("a", ["--data", "sample"], "/gone"),
        ("b", [], "sample"),
        ("c", ["--metadata", "data=sample"], "/gone"),
    ):
        monkeypatch.setenv("VERBALIZER_BENCH_DATA", variable)
        out = ["--output_path", str(tmp_path / folder)]
        assert main(["run", *rest, *out, *source]) == 0
        (run,) = find_runs([tmp_path / folder])
        commands.append(json.loads((run.folder / "run.json").read_text())["command"])
    ends = [command[command.index("--output_path") + 2 :] for command in commands]
    assert ends == [
        ["--data", "sample"],
        ["--data", "sample"],
        ["--metadata", "data=sample", "--data", "sample"],
    ]
    monkeypatch.delenv("VERBALIZER_BENCH_DATA")
    commands[1][commands[1].index("--output_path") + 1] = str(tmp_path / "again")
    assert main(commands[1][1:]) == 0


def test_only_our_adapters_leave_a_journal_and_a_finished_one_is_kept(
    toys: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def run(model: str, *more: str) -> int:
        arguments = ["--model", model, "--model_args", f"pretrained={toys[0]},dtype=float32"]
        rest = ["--tasks", TASK, "--data", "sample", "--device", "cpu", "--limit", "1", *more]
        return main(["run", *arguments, *rest, "--output_path", str(tmp_path / model)])

    assert run("hf") == 0
    assert not journal_files(tmp_path / "hf")
    ours = tmp_path / "verbalizer-llm"
    assert run("verbalizer-llm") == 0
    first = (ours / "journal-0.jsonl").read_bytes()
    for number in (1, 2):
        assert run("verbalizer-llm", "--gen_kwargs", f"num_beams={number}") == 0
        assert f"is kept as journal-0.finished-{number}.jsonl" in caplog.text
    assert (ours / "journal-0.finished-1.jsonl").read_bytes() == first
    assert [file.name for file in journal_files(ours)] == ["journal-0.jsonl"]


@pytest.mark.parametrize(("name", "passes"), [("m.gguf", True), ("n.gguf", False), ("m", False)])
def test_a_gguf_in_place_of_its_folder_is_left_to_the_adapter(
    tmp_path: Path, name: str, passes: bool
) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    given = {"model": "verbalizer-llm", "model_args": {"pretrained": str(tmp_path / name)}}
    args = argparse.Namespace(tasks="x", output_path=str(tmp_path), device=None, **given)
    args.gen_kwargs = args.limit = args.num_fewshot = None
    register_models()
    if passes:
        check_model(args)
        return
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_model(args)


def test_a_file_in_place_of_a_checkpoint_is_not_asked_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A relative path with one slash, as a hub id has."""
    monkeypatch.chdir(tmp_path)
    Path("toy").mkdir()
    Path("toy/config.json").write_text("{}")
    given = ["--model", "verbalizer-llm", "--model_args", "pretrained=toy/config.json"]
    assert main(["run", *given, "--tasks", TASK, "--output_path", "out"]) == 2
    assert "pretrained=toy/config.json: a file; give the folder" in capsys.readouterr().err
