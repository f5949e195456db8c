import io
import json
import math
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import write_set
from tests.helpers.echo import write_run
from tests.helpers.runs import changed
from verbalizer_bench.cli import main
from verbalizer_bench.leaderboard.pages.figures import whiskers
from verbalizer_bench.leaderboard.reports.gathering import report_of
from verbalizer_bench.leaderboard.reports.report import report
from verbalizer_bench.results.contrast import same_weights
from verbalizer_bench.results.protocol import derive_protocol, facts, is_partial, warnings
from verbalizer_bench.results.run import Run, called, find_runs, read_run
from verbalizer_bench.results.statistics import Interval


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for answer in ("foo", "foo bar"):
        write_run(folder, answer, ["verbalizer"])
    return folder


def test_report_of_two_runs(two_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(two_runs), "-o", str(two_runs / "report")]) == 0
    text = capsys.readouterr().out
    # Two of six neutral verbalizers have foo and bar, and under one or the other each document is
    # foo's: the mean is 1/6, and no document differs from another. 3.69 of 216 documents could:
    # 1.7 %, of which a sixth is lost or five sixths are won.
    assert "| foo     | toy      | 0.0 [0.0, 1.7] | 16.7 [16.4, 18.1] |" in text
    assert "| foo bar | toy      | 0.0 [0.0, 1.7] | 22.2 [21.8, 23.6] |" in text
    assert "where fewer than 15 documents differ" in text
    assert "All is the mean of the three label types" in text
    for name in ("report.md", "scores.png", "scores.svg"):
        assert (two_runs / "report" / name).stat().st_size > 500
    assert "![F1 by label type](scores.png)" in (two_runs / "report" / "report.md").read_text()
    summary = json.loads((two_runs / "foo" / "summary.json").read_text())
    assert summary["protocol"] == "toy"
    assert summary["label_types"]["neutral"]["f1"]["mean"] == pytest.approx(1 / 6)
    assert summary["label_types"]["All"]["f1"]["mean"] == pytest.approx(1 / 18)
    assert summary["label_types"]["neutral"]["outcomes"]["flipped"] == pytest.approx(1 / 6)
    assert len(summary["tasks"]) == 108


def test_a_report_is_a_table_for_notebooks_and_pandas(two_runs: Path) -> None:
    runs = find_runs([two_runs])
    before = sorted(two_runs.rglob("*"))
    found = report(*runs)
    frame = found.to_frame()
    assert list(frame["model"].unique()) == ["foo", "foo bar"] and len(frame) == 8
    neutral = frame[(frame["model"] == "foo") & (frame["label_type"] == "neutral")].iloc[0]
    assert neutral["f1"] == neutral["follows"] == pytest.approx(1 / 6)
    assert neutral["low"] < neutral["f1"] < neutral["high"]
    assert found._repr_html_().count("<tr>") == 9 and "<td>0.167</td>" in found._repr_html_()
    assert str(found).startswith("| Model ") and sorted(two_runs.rglob("*")) == before


def test_the_figure_is_the_same_every_time(two_runs: Path) -> None:
    files = []
    for name in ("one", "two"):
        assert main(["report", str(two_runs), "-o", str(two_runs / name)]) == 0
        files.append((two_runs / name / "scores.svg").read_bytes())
    assert files[0] == files[1]


def test_a_bar_without_interval_has_no_whisker() -> None:
    below, above = whiskers([Interval(0.5, 0.4, 0.75), Interval(1 / 3, None, None)])
    assert below[0] == pytest.approx(10) and above[0] == pytest.approx(25)
    assert math.isnan(below[1]) and math.isnan(above[1])


@pytest.fixture(scope="module")
def real_run(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("real")
    return read_run(write_run(folder, "foo", ["verbalizer"], str(real_data), limit=4))


OURS = {"verbalizer_bench": {"image": {"mode": "white"}, "bos_counts": [1, 1]}}


def test_protocols(real_run: Run, two_runs: Path) -> None:
    assert derive_protocol(real_run).name == "stock-beams"
    assert derive_protocol(changed(real_run, OURS)) == ("paper", ())
    assert derive_protocol(changed(real_run, OURS, {"num_beams": 1})).name == "greedy"
    assert derive_protocol(changed(real_run, {"model": "vllm"})).name == "vllm-beams"
    gray = {"verbalizer_bench": {"image": {"mode": "gray"}, "bos_counts": [0, 2]}}
    assert derive_protocol(changed(real_run, gray)) == (
        "other",
        ("image=gray", "prompts without BOS", "up to 2 BOS tokens at the start of a prompt"),
    )
    penalty = OURS["verbalizer_bench"] | {"generation_config": {"repetition_penalty": 1.05}}
    assert derive_protocol(changed(real_run, {"verbalizer_bench": penalty})) == (
        "other",
        ("the checkpoint sets repetition_penalty=1.05",),
    )
    # Of a checkpoint's settings the harmless ones are known; all others are differences.
    for own, name in (
        ({"temperature": 0.6, "top_p": 0.9, "pad_token_id": 0, "num_beams": 4}, "paper"),
        ({"min_length": 0, "a_later_setting": 1}, "other"),
    ):
        record = OURS["verbalizer_bench"] | {"generation_config": own}
        assert derive_protocol(changed(real_run, {"verbalizer_bench": record})).name == name
    longer = derive_protocol(changed(real_run, OURS, {"max_gen_toks": 20, "top_k": 5}))
    assert longer == ("other", ("max_gen_toks=20", "top_k=5"))
    assert derive_protocol(find_runs([two_runs])[0]).name == "toy"


def test_runs_of_different_protocols_are_not_compared(
    real_run: Run, two_runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    paths = [str(real_run.folder), str(two_runs / "foo")]
    assert main(["report", *paths, "-o", str(tmp_path)]) == 0
    (line,) = [one for one in capsys.readouterr().out.split("\n") if one.startswith("Not to")]
    told = r"stock-beams \(without that\) against toy \(made data \(sample\)\)"
    names = r"foo \(real\d+\) and foo \(runs\d+\)"
    assert re.fullmatch(rf"Not to be compared: {names} differ in protocol: {told}\.", line)


def test_any_two_runs_that_were_not_asked_alike_are_named(two_runs: Path) -> None:
    run = read_run(two_runs / "foo")

    def of(name: str, dtype: str, **record: object) -> Run:
        table = {"bos_counts": [1, 1], "dtype": f"torch.{dtype}", "fingerprint": {"weights": name}}
        return replace(changed(run, {"verbalizer_bench": table | record}), name=name)

    served = of(
        "api", "float32", served={"address": "http://a", "model": "m", "protocol": "greedy"}
    )
    half = [of(name, "bfloat16") for name in ("b", "c")]
    whole = of("f", "float32")
    lines = [part for part in str(report(half[0], served, whole, half[1])).split("\n\n")]
    lines = [line for line in lines if line.startswith("Not to be compared")]
    assert "Not to be compared: b, c and f differ in precision: bfloat16 against float32." in lines
    # api with b and c, in precision and engine, and api with f, in the engine.
    assert len(lines) == 3


def test_warnings_say_what_a_reader_must_know(real_run: Run) -> None:
    text = "\n".join(warnings(real_run))
    assert "stock-beams: lm-eval's own stop criterion ends beams early" in text
    assert "432 of 89160 prompts were run (--limit 4): not the benchmark" in text
    assert "rows of qqp: quora_bimpm, verified" in text
    verified = "rows of emotion, fp, mrpc, rte, sick, snli, sst2, subj: snapshot, verified"
    assert verified in facts(real_run) and "snapshot" not in text
    record = OURS["verbalizer_bench"] | {"truncated_prompts": 3, "escaped_prompts": 1}
    record |= {"special_tokens": {"</s>": 2}, "unknown_prompts": 4}
    run = changed(real_run, {"verbalizer_bench": record})
    text = "\n".join(warnings(run))
    assert "1 prompts held a literal image token" in text and "stock-beams" not in text
    assert "4 prompts held text that the tokenizer does not know: the model sees" in text
    assert "2 prompts held '</s>' in their text, which the model reads as a special" in text
    assert derive_protocol(run) == ("other", ("3 prompts did not fit and lost text at the left",))


def test_that_prompts_were_cut_may_be_why_responses_are_the_same(real_run: Run) -> None:
    for cut, why in ((0, "the prompts do not matter"), (3, "3 prompts did not fit its context")):
        record = OURS["verbalizer_bench"] | {"truncated_prompts": cut}
        tasks = tuple(replace(task, common=("foo", len(task.doc_ids))) for task in real_run.tasks)
        run = replace(changed(real_run, {"verbalizer_bench": record}), tasks=tasks)
        (line,) = [text for text in warnings(run) if "are the same text, 'foo': " in text]
        assert f"'foo': {why}" in line


def test_a_part_of_the_suite_says_so(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, "foo", ["verbalizer_sst2"]))
    assert "12 of the suite's 108 tasks were run" in warnings(run)


def test_a_set_of_ones_own_is_a_protocol_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no part of the suite, so that nothing of the suite is missing from it."""
    path = write_set(tmp_path / "my_set")
    assert main(["tasks", "build", str(path)]) == 0
    folder = write_run(tmp_path, "foo", ["verbalizer_my_set"], include=str(path.parent))
    run = changed(read_run(folder), OURS)
    assert derive_protocol(run) == ("own-set", ("data sets that are not the suite's: my_set",))
    assert not is_partial(run)
    assert warnings(run)[0] == "rows of my_set: files, not verified (no entry in the manifest)"
    assert not any("suite" in text for text in warnings(run))
    greedy = derive_protocol(changed(run, {}, {"num_beams": 1}))
    assert greedy.name == "own-set" and "num_beams=1" in greedy.differences
    assert main(["report", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "| own-set  |" in text and " 108" not in text and "partial" not in text
    assert main(["submit", "pack", str(folder), "--submitter", "x", "--licence", "CC0-1.0"]) == 2
    assert "is not the suite's; run the suite alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("checkpoints/lora-a/adapter", "lora-a"),
        ("lora-a/adapter", "lora-a"),
        ("/checkpoints/lora-a/adapter/", "lora-a"),
        ("out/state/checkpoint-500", "state/checkpoint-500"),
        ("/a/b/llama", "llama"),
        ("org/llama", "org/llama"),
        ("adapter", "adapter"),
    ],
)
def test_an_adapter_is_called_by_its_training(tmp_path: Path, path: str, name: str) -> None:
    folder = write_run(tmp_path, "foo", ["verbalizer_sst2_neutral_foo_bar"])
    (file,) = folder.glob("results_*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_name": path}))
    assert read_run(folder).name == name


def test_a_gguf_is_called_by_its_folder_and_its_file(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "foo", ["verbalizer_sst2_neutral_foo_bar"])
    (file,) = folder.glob("results_*.json")
    table = json.loads(file.read_text()) | {"model_name": "/models/llama"}
    runs = []
    for given in (
        {"pretrained": "/models/llama", "gguf_file": "llama-Q4_1.gguf"},
        "pretrained=/models/llama,gguf_file=more/llama-Q8_0.gguf",
    ):
        file.write_text(json.dumps(table | {"config": table["config"] | {"model_args": given}}))
        runs.append(read_run(folder))
    assert [run.name for run in runs] == ["llama (llama-Q4_1.gguf)", "llama (llama-Q8_0.gguf)"]
    # A submission's model is the repository, and its files' hash says which.
    assert {called(run.results) for run in runs} == {"llama"}
    assert not same_weights(*runs) and same_weights(runs[0], runs[0])


def test_paths_that_are_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"verbalizer-bench: error: {tmp_path}: no results_*.json at or below it; "
        "give the --output_path of a run\n"
    )
    journal = tmp_path / "journal-0.jsonl"
    for no_run in ("", '{"journal": 1, "command": []}\n', '{"mood": "good"}\n'):
        journal.write_text(no_run)
        with pytest.raises(FileNotFoundError, match="give the --output_path of a run"):
            find_runs([tmp_path])
    journal.write_text('{"journal": 1, "command": ["--model", "verbalizer-llm"]}\n')
    with pytest.raises(FileNotFoundError, match=f"not finished; .* run --resume {tmp_path}` goes"):
        find_runs([tmp_path])
    (tmp_path / "results_x.json").write_text("{}")
    with pytest.raises(ValueError, match="not as a run writes it: results: Field required"):
        read_run(tmp_path)


def test_a_run_that_was_not_finished_is_named(
    two_runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(two_runs / "foo", tmp_path / "foo")
    (tmp_path / "half").mkdir()
    command = '{"journal": 1, "command": ["--model", "verbalizer-llm"]}\n'
    (tmp_path / "half" / "journal-0.jsonl").write_text(command)
    (tmp_path / "foo" / "journal-0.jsonl").write_text(
        command + '{"journal": 1, "finished": true}\n'
    )
    assert report_of([tmp_path]).runs and len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{tmp_path}/half: its latest run was not finished, it is")
    caplog.clear()
    (tmp_path / "foo" / "journal-0.jsonl").write_text(command)
    find_runs([tmp_path / "foo"])
    (told,) = caplog.messages
    assert "the results are of an earlier one" in told and f"--resume {tmp_path}/foo`" in told
    caplog.clear()
    # Another run's output folder in that of the unfinished one.
    shutil.copytree(two_runs / "foo", tmp_path / "half" / "another" / "foo")
    find_runs([tmp_path / "half"])
    (told,) = caplog.messages
    assert "it is left out" in told
    caplog.clear()
    (tmp_path / "half" / "journal-0.jsonl").write_text(f'{command}{{"key"\n')
    find_runs([tmp_path / "half"])
    (told,) = caplog.messages
    assert f"{tmp_path}/half: whether its latest run was finished is not known: " in told
    assert "journal-0.jsonl, line 2: not JSON" in told


def test_a_letter_that_the_terminal_lacks_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path, "foo", ["verbalizer_sst2_neutral_foo_bar"])
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["report", str(folder), "-o", str(tmp_path / "ü∂")]) == 0
    terminal.flush()
    said = terminal.buffer.getvalue().decode("latin-1")  # type: ignore[attr-defined]
    assert f"Wrote {tmp_path}/ü\\u2202/report.html" in said


def test_damaged_runs_are_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "foo", ["verbalizer_sst2_neutral_foo_bar"])
    (samples,) = folder.glob("samples_*")
    rows = samples.read_text()
    samples.write_text(rows + rows.split("\n")[0] + "\n")
    with pytest.raises(ValueError, match=r"\.jsonl, line 25: document 0 stands there twice"):
        read_run(folder)
    samples.write_text(rows[:-20])
    with pytest.raises(ValueError, match=r"\.jsonl, line 24: not JSON"):
        read_run(folder)
    # A copy that ended between two lines reads well, and its mean would be another.
    samples.write_text("".join(rows.splitlines(keepends=True)[:-3]))
    with pytest.raises(
        ValueError, match=r"\.jsonl: 21 of the 24 responses that the run's .* counts"
    ):
        read_run(folder)
    samples.unlink()
    with pytest.raises(FileNotFoundError, match="run lm_eval with --log_samples"):
        read_run(folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("results_*", b"{", "{é".encode("latin-1"), "byte 0xe9 is not UTF-8"),
        ("results_*", b"{", b"\xff\xfe{", "UTF-16 or UTF-32; save the file as UTF-8"),
        ("results_*", b'"source"', b'"sauce"', "foo_bar.metadata.source: Field required"),
        ("results_*", b'"neutral"', b'"neuter"', "verbalizer.type: Input should be 'natural', "),
        ("results_*", b'"n-samples"', b'"samples"', "n-samples: Field required"),
        ("results_*", b'"generation_kwargs"', b'"kwargs"', "generation_kwargs is missing"),
        ("samples_*", b'"doc_id": 0', b'"doc_id": NaN', "line 1: not as a run writes it: doc_id: "),
        ("samples_*", b'"doc_id": 0', b'"doc_id": "0"', "should be a valid integer, got '0'"),
        ("samples_*", b'"filtered_resps": [', b'"filtered_resps": [3, ', "of str, got 3"),
        ("samples_*", b'"f1": 1.0', b'"f1": NaN', "f1: Input should be a finite number, got nan"),
        ("samples_*", b'"f1": 1.0', b'"f1": "1"', "f1: Input should be a valid number, got '1'"),
        ("samples_*", b'"f1": 1.0', b'"f1": 2', "f1: Input should be less than or equal to 1"),
        ("samples_*", b'"target"', b'"aim"', "line 1: not as a run writes it: target: Field"),
        ("run.json", b"", b"", "run.json: not JSON (Expecting value, character 1); cut off? "),
        ("run.json", b"", b"[]", "run.json: keys and values are needed, got '[]'"),
    ],
)
def test_records_that_somebody_has_edited_are_one_line(
    file: str, old: bytes, new: bytes, message: str, tmp_path: Path
) -> None:
    folder = write_run(tmp_path, "foo", ["verbalizer_sst2_neutral_foo_bar"], limit=4)
    (path,) = list(folder.glob(file)) or [folder / file]
    path.write_bytes(path.read_bytes().replace(old, new, 1) if old else new)
    with pytest.raises(ValueError) as error:
        report(read_run(folder)).write(tmp_path / "report")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_newest_results_are_read_and_older_ones_named(tmp_path: Path) -> None:
    for _ in range(2):
        folder = write_run(tmp_path, "foo", ["verbalizer_sst2_neutral_foo_bar"])
    assert any("not read: older results in" in warning for warning in warnings(read_run(folder)))
