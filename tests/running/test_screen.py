"""What stands on the terminal of a run, and that nothing of what does not is lost."""

import json
import logging
from pathlib import Path

import pytest

import verbalizer_bench as vb
from tests.conftest import write_set
from verbalizer_bench.cli import main
from verbalizer_bench.models.adapters.log_lines import Terminal

TASK = "verbalizer_sst2_neutral_foo_bar"
# A task of lm-eval's kind, with a group round it.
OTHER = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{remark}}}}"
doc_to_target: "{{{{kind}}}}"
generation_kwargs: {{max_gen_toks: 2, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two tasks that are none of ours, in a group."""
    folder = tmp_path_factory.mktemp("others")
    rows = write_set(folder / "rows").parent / "rows.jsonl"
    (folder / "rows" / "_my_set.yaml").unlink()
    for name in ("other_one", "other_two"):
        (folder / f"{name}.yaml").write_text(OTHER.format(name=name, rows=rows))
    group = "group: other_all\ntask: [other_one, other_two]\n"
    means = "aggregate_metric_list: [{metric: exact_match}]\n"
    (folder / "all.yaml").write_text(group + means)
    return folder


def command(toys: tuple[Path, Path], output: Path, tasks: str = TASK, **options: str) -> list[str]:
    words = ["run", "--model", "verbalizer-llm", "--output_path", str(output), "--tasks", tasks]
    words += ["--model_args", f"pretrained={toys[0]},dtype=float32", "--data", "sample"]
    given = {"limit": "3", **options}
    return [*words, *(word for key, value in given.items() for word in (f"--{key}", value))]


def test_a_run_says_what_it_does_and_no_more(
    toys: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(command(toys, tmp_path)) == 0
    shown = capfd.readouterr()
    lines = shown.err.splitlines()
    expected = [
        ("verbalizer-bench ", f"; all log lines: {tmp_path}/run.log"),
        (f"tasks: {TASK} (1 of verbalizer-bench's)", ""),
        ("rows: made samples, which test the software: ", "(sst2: sample, verified)"),
        ("prompts: 3 of 24 (--limit 3: not the benchmark); zero-shot; no chat template; ", ""),
        (f"model: {toys[0]}, asked by verbalizer-llm", ""),
        ("loaded: LlamaForCausalLM, ", " thousand parameters, float32 on cpu"),
        ("Generating: 3 responses", ""),
        ("engine: shared_prefix: it agrees with a plain forward pass here", ""),
    ]
    for line, (start, end) in zip(lines, expected, strict=False):
        assert line.startswith(start) and line.endswith(end), lines
    assert lines[-1].startswith("Generating: 3 of 3, took ") and len(lines) <= 10
    assert "10 beams, up to 15 new tokens" in lines[3]
    assert "|Version|Filter|" not in shown.out
    kept = (tmp_path / "run.log").read_text()
    for text in ("--limit SHOULD ONLY", "Initializing verbalizer-llm", "|Version|Filter|"):
        assert text in kept
    assert kept.count("engine: shared_prefix") == 1


def test_verbose_shows_what_lm_eval_says(
    toys: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(toys, tmp_path), "--verbose"]) == 0
    shown = capfd.readouterr()
    assert "Initializing verbalizer-llm" in shown.err and "--limit SHOULD ONLY" in shown.err
    assert shown.out.count("|Version|Filter|") == 1 and "prompts: 3 of 24" in shown.err
    assert "Initializing verbalizer-llm" in (tmp_path / "run.log").read_text()


def test_lm_evals_table_is_there_for_its_own_tasks(
    toys: tuple[Path, Path], others: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = command(toys, tmp_path, f"{TASK},other_all", include_path=str(others))
    assert main(asked) == 0
    shown = capfd.readouterr()
    assert f"tasks: {TASK},other_all (1 of verbalizer-bench's and 1 of lm-eval's)" in shown.err
    table = shown.out[: shown.out.index(", protocol toy, partial")]
    assert table.count("other_one") == 1 and "other_all" in table and "verbalizer" not in table
    assert "Building contexts" not in shown.err


def test_a_chosen_level_is_lm_evals(
    toys: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(command(toys, tmp_path, verbosity="ERROR")) == 0
    shown = capfd.readouterr()
    assert "engine:" not in shown.err and "tasks: " in shown.err
    assert "|Version|Filter|" not in shown.out


def test_a_warning_is_a_line_for_readers(
    toys: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_set(tmp_path / "my_set")
    with path.with_name("rows.jsonl").open("a") as rows:
        rows.write('{"remark": "odd", "kind": "1"}\n')
    assert main(["tasks", "build", str(path)]) == 0
    capfd.readouterr()
    asked = command(toys, tmp_path / "out", "verbalizer_my_set", include_path=str(path.parent))
    assert main(asked) == 0
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line[:4].lower() == "warn"]
    assert line.startswith("warning: ") and "1 rows are left out whose kind resembles a" in line


def test_examples_that_a_yaml_asks_for_are_named(
    toys: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_set(tmp_path / "my_set", num_fewshot=2)
    assert main(["tasks", "build", str(path)]) == 0
    options = {"include_path": str(path.parent), "limit": "1"}
    assert main(command(toys, tmp_path / "out", "verbalizer_my_set", **options)) == 0
    said = capfd.readouterr().err
    assert "rows: files of their own (my_set: files, not verified" in said
    assert "; 2 examples before each; no chat template; " in said
    path.write_text(path.read_text().replace("num_fewshot: 2", "num_fewshot: 8"))
    assert main(command(toys, tmp_path / "more", "verbalizer_my_set", **options)) == 2
    error = capfd.readouterr().err
    assert "num_fewshot=8: test has 8 documents to draw from" in error and "loaded:" not in error
    path.write_text(path.read_text().replace("num_fewshot: 8", "num_fewshot: 0"))
    asked = command(toys, tmp_path / "more", "verbalizer_my_set", num_fewshot="3", **options)
    assert main(asked) == 2
    assert "--num_fewshot 3: verbalizer_my_set_" in (error := capfd.readouterr().err)
    assert error.endswith("num_fewshot: 0 in its YAML, which lm-eval keeps to; take it out there\n")


def test_python_says_no_more_than_how_far_it_is(
    toys: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = vb.evaluate(
        *("verbalizer-llm", {"pretrained": str(toys[0]), "dtype": "float32"}),
        **{"output": tmp_path, "tasks": TASK, "data": "sample", "limit": 2},
    )
    shown = capfd.readouterr()
    assert not shown.out and shown.err.splitlines()[0] == "Generating: 2 responses"
    assert len(shown.err.splitlines()) <= 3
    assert json.loads((run.folder / "run.json").read_text())["engine"] == {"shared_prefix": 2}
    assert "Initializing" in (tmp_path / "run.log").read_text()
    for name in ("lm_eval", "verbalizer_bench"):
        left = logging.getLogger(name).handlers
        assert not any(isinstance(one, Terminal | logging.FileHandler) for one in left)
