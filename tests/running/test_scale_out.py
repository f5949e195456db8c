"""Shards and ranks give what one process gives, and each prompt is asked once."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, comparable
from verbalizer_bench.cli import main
from verbalizer_bench.models.adapters.journal import journal_files

RUN = (
    *(
        "--tasks",
        "verbalizer_sst2,verbalizer_mrpc_neutral_*",
        "--data",
        "sample",
        "--device",
        "cpu",
    ),
    *("--limit", "5"),
)


def arguments(toys: tuple[Path, Path], output: Path, name: str = "verbalizer-llm") -> list[str]:
    folder = toys[name == "verbalizer-lvlm"]
    model = ["--model", name, "--model_args", f"pretrained={folder},dtype=float32"]
    return ["run", *model, *RUN, "--output_path", str(output)]


@pytest.fixture(scope="module")
def one(toys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("one")
    assert main(arguments(toys, output)) == 0
    return output


@pytest.fixture(scope="module")
def shards(toys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("shards")
    outputs = [folder / str(number) for number in (1, 2, 3)]
    for number, output in enumerate(outputs, start=1):
        assert main([*arguments(toys, output), "--shard", f"{number}/3"]) == 0
    return outputs


def keys(output: Path) -> list[list[str]]:
    return [
        [json.loads(line)["key"] for line in file.read_text().splitlines() if '"key"' in line]
        for file in journal_files(output)
    ]


def endings(output: Path) -> dict[str, int]:
    (results,) = output.rglob("results_*.json")
    counts: dict[str, int] = json.loads(results.read_text())["config"]["verbalizer_bench"][
        "endings"
    ]
    return counts


def test_merged_shards(
    one: Path, shards: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", *map(str, [shards[2], *shards[:2]]), "-o", str(tmp_path)]) == 0
    assert comparable(tmp_path) == comparable(one)
    parts = [key for shard in shards for key in keys(shard)[0]]
    assert sorted(parts) == sorted(keys(one)[0])
    text = capsys.readouterr().out
    assert "\nllama, protocol toy, partial (" in text and "shard 1" not in text
    (results,) = tmp_path.rglob("results_*.json")
    record = json.loads(results.read_text())["config"]["verbalizer_bench"]
    assert record["engine"] == {"shared_prefix": 90} and record["world_size"] == 3
    assert record["endings"] == endings(one) and sum(endings(one).values()) == 90


def test_a_shard_says_that_it_is_one(
    shards: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(shards[0])]) == 0
    assert "shard 1/3 of a run; `verbalizer-bench merge` puts them together" in (
        capsys.readouterr().out
    )


def test_ranks_of_torchrun(one: Path, toys: tuple[Path, Path], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
        + ["-m", "verbalizer_bench", *arguments(toys, tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert comparable(tmp_path) == comparable(one)
    first, second = keys(tmp_path)
    assert not set(first) & set(second)
    assert sorted(first + second) == sorted(keys(one)[0])
    (results,) = tmp_path.rglob("results_*.json")
    record = json.loads(results.read_text())["config"]["verbalizer_bench"]
    assert record["responses_by_rank"] == [54, 36] and record["engine"] == {"shared_prefix": 90}
    assert record["endings"] == endings(one)
    # The second rank's would count to 36.
    assert re.findall(r"Generating: (\d+) of (\d+), took ", done.stderr) == [("54", "54")]


def test_layers_over_devices_still_work(one: Path, toys: tuple[Path, Path], tmp_path: Path) -> None:
    command = arguments(toys, tmp_path)
    command[command.index("--model_args") + 1] += ",parallelize=True"
    assert main([*command, "--batch_size", "15"]) == 0
    assert comparable(tmp_path) == comparable(one)


def test_what_cannot_be_merged(
    one: Path,
    shards: list[Path],
    toys: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def third(name: str, *options: str, model_args: str = "") -> Path:
        command = [*arguments(toys, tmp_path / name), "--shard", "3/3", *options]
        command[command.index("--model_args") + 1] += model_args
        assert main(command) == 0
        return tmp_path / name

    fewer = third("fewer")
    (rows,) = fewer.rglob("samples_verbalizer_sst2_neutral_foo_bar_2*.jsonl")
    rows.write_text("")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "results_2026.json").write_text("{}")
    full = tmp_path / "out" / "__".join(["", *toys[0].parts[1:]])
    for folders, message in (
        (shards[:2], "shard 1/3, but 2 folders were given"),
        ([shards[0], shards[0], shards[1]], "are both shard 1/3"),
        ([*shards[:2], one], "not a shard; run it with --shard I/N"),
        ([*shards[:2], third("beams", "--gen_kwargs", "num_beams=2")], "the settings of verbal"),
        ([*shards[:2], third("bos", model_args=",add_bos_token=False")], "fingerprint is"),
        ([*shards[:2], third("chat", "--apply_chat_template")], "chat_template_sha256 is"),
        ([*shards[:2], fewer], ": the documents are not one run's, every 3-th"),
        ([*shards[:2], tmp_path / "gone"], "gone: no such folder; give a run's folder"),
        ([*shards[:2], broken], "results_2026.json: not as a run writes it: results"),
        (shards, "is not empty; give another -o"),
    ):
        if message.startswith("is not empty"):
            full.mkdir(parents=True)
            (full / "x").touch()
        assert main(["merge", *map(str, folders), "-o", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err.strip().split("\n")[-1]


def test_responses_without_scores_are_merged(
    toys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in "12":
        command = [*arguments(toys, tmp_path / number), "--shard", f"{number}/2"]
        assert main([*command, "--predict_only"]) == 0
    folders = [str(tmp_path / number) for number in "12"]
    assert main(["merge", *folders, "-o", str(tmp_path / "all")]) == 0
    assert re.search(
        r"No summary: .*samples_.*, line 1: --predict_only scores nothing", capsys.readouterr().out
    )
    (rows,) = (tmp_path / "all").rglob("samples_verbalizer_sst2_neutral_foo_bar_2*.jsonl")
    assert [json.loads(line)["doc_id"] for line in rows.read_text().splitlines()] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--shard", "4/3"], "--shard 4/3: give the shard and their count, such as 1/4"),
        (["--shard", "a"], "--shard a: give the shard"),
        (["--shard", "6/6"], "no document is left for shard 6 of 6"),
        (["--resume", "/gone"], "--resume /gone: no such folder; give the --output_path of"),
        (["--resume", "/"], "--resume /: no journal in it; start the run with its full command"),
        (["--shard", "1/2", "--model", "hf"], "--model hf: one of verbalizer-llm"),
        (["--resume", "out", "--model", "hf"], "--resume out: --model hf keeps no journal"),
        (["--shard", "1/2", "--tasks", "hellaswag"], "hellaswag is no verbalizer task"),
        (["--samples", '{"verbalizer_sst2_natural_1_0": [99]}', "--limit", "1"], "--samples"),
        (["--samples", '{"typo": [1]}', "--limit", "1"], "typo is none of the tasks that are run"),
    ],
)
def test_wrong_options(
    extra: list[str],
    message: str,
    toys: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*arguments(toys, tmp_path), *extra]) == 2
    assert message in capsys.readouterr().err.strip().split("\n")[-1]
    if "--resume" in extra:
        assert main(["run", "--resume", "/gone"]) == 2 and not Path("/gone").exists()
        assert main(["run", "--resume", "out", "--limit", "3"]) == 2
        assert "give it alone, or with the whole command" in capsys.readouterr().err


def test_resume_takes_no_other_data(
    toys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(toys, tmp_path)) == 0
    assert main(["run", "--resume", str(tmp_path), "--shard", "1/2"]) == 2
    assert "another protocol: shard is None there and '1/2' here" in capsys.readouterr().err
