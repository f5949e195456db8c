"""Runs of a served model: resumed, paid once, and never mixed with the paper's protocol."""

import json
import logging
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import comparable
from tests.helpers.clock import FAKE_KEY
from tests.helpers.endpoint_server import Server, prompt
from tests.helpers.kills import killed_at
from tests.helpers.runs import changed
from tests.helpers.served import completion, refusal
from verbalizer_bench.cli import main
from verbalizer_bench.leaderboard.reports.comparison import compare
from verbalizer_bench.leaderboard.reports.report import report
from verbalizer_bench.models.adapters.journal import journal_files
from verbalizer_bench.results.protocol import derive_protocol, facts, warnings
from verbalizer_bench.results.run import Run, load_run

TASK = "verbalizer_sst2_neutral_foo_bar"
PAPERS = {"image": {"mode": "white"}, "bos_counts": [1, 1], "dtype": "torch.float32"}


@pytest.fixture(autouse=True)
def closed_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what logging says of the streams of earlier tests, which lm-eval keeps."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


def words(body: dict[str, Any]) -> Any:
    """Answer by the prompt: a label word, one beam after another where beams are asked for."""
    first = "foo" if len(prompt(body)) % 2 else "bar"
    if n := body.get("n"):
        return completion(first, *(f"{first} {place}" for place in range(1, n)))
    return first


def arguments(server: Server, output: Path, *others: str, **model_args: Any) -> list[str]:
    given = {"model": "org/m", "base_url": server.url, "image": "white", "backoff": 0.02}
    return [
        *("run", "--model", "verbalizer-api", "--model_args", json.dumps(given | model_args)),
        *("--tasks", TASK, "--data", "sample", "--limit", "12", "--apply_chat_template"),
        *("--output_path", str(output), *others),
    ]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text.strip().split("\n")[-1]


def test_a_killed_run_goes_on_and_pays_for_nothing_twice(
    serve: Callable[..., Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("A_KEY", FAKE_KEY)
    whole = serve(words)
    given = {"key_variable": "A_KEY", "concurrency": 2}
    assert main(arguments(whole, tmp_path / "whole", **given)) == 0
    server = serve(words)
    output = tmp_path / "out"
    # After the first and in the middle; the requests under way when it is killed are lost.
    work = arguments(server, output, **given)
    assert killed_at(server, 2, lambda: main(work))
    assert killed_at(server, 5, lambda: main(["run", "--resume", str(output)]))
    assert main(["run", "--resume", str(output)]) == 0
    stored = (output / "calls.jsonl").read_text().splitlines()[1:]
    assert len(stored) == len({json.loads(line)["key"] for line in stored}) == 12
    # What was answered and stored was asked for once.
    assert len(server.requests) <= 12 + 2 * 2
    assert comparable(output)[0] == comparable(tmp_path / "whole")[0]
    run = load_run(output)
    assert run.record.served and run.record.served.reported == {"org/m-served": 12}
    assert {one.key for one in server.requests} == {FAKE_KEY}
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(FAKE_KEY.encode() in file.read_bytes() for file in files)
    # Resuming a finished run asks for nothing, and writes nothing a second time.
    before = len(server.requests)
    capsys.readouterr()
    assert main(["run", "--resume", str(output)]) == 0
    assert len(server.requests) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: --resume {output}: the run is finished")
    assert load_run(output).older == 0
    # A run's own folder is not the one that it was given.
    assert main(["run", "--resume", str(run.folder)]) == 2
    assert f"no journal in it, but one above; give {output}" in last_line(capsys)


def test_a_new_run_asks_anew(
    serve: Callable[..., Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another checkpoint may be served under the same name."""
    server = serve(words)
    for count in (12, 24):
        assert main(arguments(server, tmp_path)) == 0
        assert len(server.requests) == count
    names = sorted(file.name for file in tmp_path.glob("*.jsonl"))
    assert names == [
        *("calls.finished-1.jsonl", "calls.jsonl"),
        *("journal-0.finished-1.jsonl", "journal-0.jsonl"),
    ]
    assert main(["run", "--resume", str(tmp_path), *arguments(server, tmp_path, beams=2)[1:]]) == 2
    assert "the journal is of another model: protocol is 'greedy'" in last_line(capsys)


def test_a_spent_budget_says_how_to_go_on(
    serve: Callable[..., Server],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = serve(words)
    small = arguments(server, tmp_path, budget_tokens=5000, concurrency=1)
    assert main(small) == 2
    said = last_line(capsys)
    assert "stopped: budget.tokens=5,000" in said
    assert f"raise the budget and run the same command with --resume {tmp_path} to go on" in said
    paid = len(server.requests)
    assert 0 < paid < 12
    more = arguments(server, tmp_path, budget_tokens=10**6, concurrency=1)
    assert main([*more, "--resume", str(tmp_path)]) == 0
    assert len(server.requests) == 12
    assert caplog.text.count(f": {paid} of 12 replies are kept, {12 - paid} are left to do") == 1


def test_a_refused_request_says_how_to_go_on(
    serve: Callable[..., Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def answer(body: dict[str, Any]) -> Any:
        asked.append(1)
        return refusal(400, "maximum context length is 9") if len(asked) == 4 else words(body)

    server = serve(answer)
    assert main(arguments(server, tmp_path, concurrency=1)) == 2
    said = last_line(capsys)
    assert f"{TASK}, document 3: org/m at {server.url}: 400: maximum context length is 9" in said
    # What was under way besides is stored too.
    assert re.search(rf"; [34] responses are kept in {tmp_path}, --resume {tmp_path} goes on", said)
    assert main(["run", "--resume", str(tmp_path)]) == 0
    assert len(server.requests) == 13


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": ""}, "model_args model=: missing; give model=NAME as the server calls it"),
        ({"image": ""}, "model_args image=: missing, and nobody here can tell what is served"),
        ({"pretrained": "x"}, "model_args pretrained: no such argument; give model=NAME"),
        ({"api_key": FAKE_KEY}, "model_args api_key: no such argument; a key stands in an env"),
        ({"concurency": 3}, "model_args concurency: no such argument; did you mean concurrency=?"),
        ({"base_url": f"http://u:{FAKE_KEY}@h/v1"}, "base_url: it has more than an address"),
        ({"base_url": "localhost:8000"}, "base_url=localhost:8000: an address such as http://"),
        ({"key_variable": FAKE_KEY}, "key_variable: the name of an environment variable is exp"),
        ({"key_variable": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set"),
        ({"concurrency": 0}, "concurrency=0: at least 1"),
        ({"concurrency": "many"}, "concurrency='many': a whole number is expected"),
        ({"beams": 0}, "beams=0: at least 1"),
        ({"image": "x.png"}, "image=x.png: neither white, gray, black, noise, none nor a readable"),
        ({"parameters": {"temperature": 1}}, "parameters.temperature: verbalizer-api decodes gree"),
        ({"parameters": {"num_beams": 10}}, "parameters.num_beams: verbalizer-api decodes greedi"),
        ({"parameters": {"api_key": FAKE_KEY}}, "parameters.api_key: it cannot be set here; put"),
        ({"parameters": "x"}, "parameters: no JSON"),
        ({"parameters": [1]}, 'parameters: give a JSON object, such as {"seed": 1}'),
        ({"budget_money": 5.0}, "budget_money=5: give input_price and output_price"),
    ],
)
def test_a_wrong_argument_is_one_line(
    given: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Server(words) as server:
        assert main(arguments(server, tmp_path, **given)) == 2
    error = last_line(capsys)
    assert said in error and FAKE_KEY not in error
    # A key that was given is in no file either.
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(FAKE_KEY.encode() in file.read_bytes() for file in files)


def test_processes_and_devices_are_the_servers(
    serve: Callable[..., Server],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(arguments(serve(words), tmp_path, "--device", "cpu")) == 2
    assert "--device cpu: the model is the server's; leave it out" in last_line(capsys)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(arguments(serve(words), tmp_path)) == 2
    assert "one sends everything; run it without torchrun" in last_line(capsys)


@pytest.fixture(scope="module")
def runs(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Return runs on real rows: greedy, and with beams."""
    folder = tmp_path_factory.mktemp("served")
    made = {}
    with Server(words) as server:
        for name, beams in (("greedy", 1), ("vllm-beams", 10)):
            given = arguments(server, folder / name, "--data", str(real_data), beams=beams)
            assert main(given) == 0
            made[name] = load_run(folder / name)
    return made


def test_protocols(runs: dict[str, Run]) -> None:
    """The tasks ask for ten beams, and the results file says so: that is not what was done."""
    greedy, beams = runs["greedy"], runs["vllm-beams"]
    other = "served by another program, with its own template, precision and defaults"
    assert derive_protocol(greedy) == ("greedy", ("num_beams=1", other))
    assert derive_protocol(beams) == ("vllm-beams", (other, "vLLM's beam search"))
    paper = changed(greedy, {"verbalizer_bench": PAPERS})
    assert derive_protocol(paper) == ("paper", ())
    # lm-eval's own class has the same beams.
    stock = changed(greedy, {"model": "vllm", "verbalizer_bench": None})
    assert derive_protocol(stock) == ("vllm-beams", ("model class vllm", "vLLM's beam search"))
    record = greedy.results.config.verbalizer_bench
    assert record and record.served
    sent = {"temperature": 0, "seed": 1, "repetition_penalty": 1.0, "min_p": 0.1, "top_a": 2}
    served = record.served.model_copy(update={"parameters": [sent]})
    own = record.model_copy(update={"served": served})
    assert derive_protocol(changed(greedy, {"verbalizer_bench": own}))[1][2:] == ("sent top_a=2",)


def test_the_papers_protocol_is_not_mixed_with_a_servers(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    paper = changed(runs["greedy"], {"verbalizer_bench": PAPERS})
    everything = {"image", "template", "engine"}
    for run in runs.values():
        with pytest.raises(ValueError, match="differ in protocol: paper"):
            compare(paper, run, resamples=10, allowed=everything)
        (line,) = [one for one in str(report(paper, run)).split("\n") if one.startswith("Not to")]
        assert "differ in protocol: paper (" in line and "; in engine: our adapters against" in line
    with pytest.raises(ValueError, match=r"differ in protocol: greedy .* vllm-beams"):
        compare(runs["greedy"], runs["vllm-beams"], resamples=10, allowed=everything)
    # Greedy by our adapters is greedy, by another engine, which has to be said.
    local = {**PAPERS, "chat_template_sha256": "1" * 64}
    ours = changed(runs["greedy"], {"verbalizer_bench": local}, {"num_beams": 1})
    ours_again = changed(runs["greedy"])
    with pytest.raises(ValueError, match=r"differ in engine: our adapters .*, a served model"):
        compare(ours, ours_again, resamples=10)
    assert compare(ours, ours_again, resamples=10, allowed={"engine"}).pairs


def test_a_report_says_who_answered(runs: dict[str, Run]) -> None:
    (said,) = [text for text in facts(runs["vllm-beams"]) if text.startswith("served model org/m")]
    assert "the server calls it org/m-served (12 times)" not in said and "m-1 (12 times)" in said
    assert "use_beam_search=True, n=10" in said and "prompts as conversations" in said
    assert not any("came from a cache" in text for text in warnings(runs["greedy"]))


def test_a_run_of_a_served_model_is_no_submission(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--submitter", "x", "--licence", "CC0-1.0", "-o", str(tmp_path)]
    pack = ["submit", "pack", str(runs["greedy"].folder), *words]
    for claim in ([], ["--weights-sha256", "0" * 64]):
        assert main([*pack, *claim]) == 2
        assert "a run of a served model: nobody can say which weights" in last_line(capsys)


def test_shards_of_a_served_model_are_merged(
    serve: Callable[..., Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(words)
    assert main(arguments(server, tmp_path / "one")) == 0
    for number in (1, 2):
        shard = ["--shard", f"{number}/2"]
        assert main(arguments(server, tmp_path / str(number), *shard)) == 0
    parts = [str(tmp_path / "2"), str(tmp_path / "1")]
    assert main(["merge", *parts, "-o", str(tmp_path / "all")]) == 0
    assert comparable(tmp_path / "all") == comparable(tmp_path / "one")
    served = [load_run(tmp_path / name).record.served for name in ("one", "all")]
    assert served[0] and served[0] == served[1]
    # A shard with beams is of another run.
    assert main(arguments(server, tmp_path / "3", "--shard", "2/2", beams=2)) == 0
    capsys.readouterr()
    parts = [str(tmp_path / "1"), str(tmp_path / "3")]
    assert main(["merge", *parts, "-o", str(tmp_path / "mixed")]) == 2
    assert "is of another run than the first: fingerprint" in last_line(capsys)


def test_plain_lm_eval(serve: Callable[..., Server], tmp_path: Path) -> None:
    """It has no journal: `store` keeps what was paid for."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from verbalizer_bench.running.harness import register_models
    from verbalizer_bench.tasks.spec import TASKS_FOLDER

    register_models()
    server = serve(words)
    manager = TaskManager(
        include_path=str(TASKS_FOLDER), include_defaults=False, metadata={"data": "sample"}
    )
    for _ in range(2):
        found = simple_evaluate(
            model="verbalizer-api",
            model_args=f"model=m,base_url={server.url},image=none,store={tmp_path}",
            tasks=[TASK],
            task_manager=manager,
            limit=6,
            apply_chat_template=True,
            bootstrap_iters=0,
        )
        assert found and found["config"]["verbalizer_bench"]["served"]["protocol"] == "greedy"
        assert len(server.requests) == 6
    assert not journal_files(tmp_path)


def test_an_interrupted_run_says_what_is_stored(
    serve: Callable[..., Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(words)
    output = tmp_path / "out"

    def interrupt() -> None:
        if len(server.requests) == 5:
            signal.raise_signal(signal.SIGINT)

    # In a test the main thread is this one.
    server.watch = interrupt
    assert main(arguments(server, output, concurrency=1)) == 130
    said = last_line(capsys)
    assert "responses are kept in" in said and f"--resume {output}" in said
    assert main(["run", "--resume", str(output)]) == 0
    assert len(server.answered) == 12 and max(server.answered.values()) == 1


def test_responses_of_lm_evals_cache_are_unverified(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(words)
    for name in ("one", "two"):
        cache = ["--use_cache", str(tmp_path / "cache")]
        assert main(arguments(server, tmp_path / name, *cache)) == 0
    assert len(server.requests) == 12
    said = "no prompt reached the model: the responses came from a cache, unverified"
    assert [said in warnings(load_run(tmp_path / name)) for name in ("one", "two")] == [False, True]
