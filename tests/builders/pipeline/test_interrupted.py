"""Ctrl-C and `kill` in the middle of a build: one line with what is stored, and it goes on."""

import asyncio
import os
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.builder import Model
from tests.helpers.data_recipes import instructions, real_data, write_recipe
from tests.helpers.endpoint_server import Server
from verbalizer_bench import build_data
from verbalizer_bench.builders.build import Built
from verbalizer_bench.cli import main
from verbalizer_bench.client import chat_client
from verbalizer_bench.errors import Interrupted


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_an_interrupted_build_says_how_much_is_stored_and_goes_on(
    number: int,
    code: int,
    word: str,
    serve: Callable[..., Server],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real_data()
    server = serve(Model(instructions()), delay=0.01)
    file = write_recipe(tmp_path)
    words = ["build", str(file), "--limit", "8", f"endpoints.default.base_url={server.url}"]

    def stop() -> None:
        if len(server.requests) >= 12:
            server.watch = None
            os.kill(os.getpid(), number)

    server.watch = stop
    assert main(words) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    line = error.strip().split("\n")[-1]
    stored = tmp_path / "data" / "format_oriented" / "calls.jsonl"
    count = stored.read_bytes().count(b"\n") - 1
    command = shlex.join(["verbalizer-bench", *words[:2], words[4], "limit=8"])
    assert line == (
        f"verbalizer-bench: {word}: {count} responses are stored in {stored}; `{command}` goes on, "
        "and asks for none twice"
    )
    assert count
    before = stored.read_bytes()
    assert main(shlex.split(re.findall("`(.*)`", line)[0])[1:]) == 0
    assert stored.read_bytes().startswith(before)


def test_a_build_in_a_notebook_whose_loop_runs_stops_at_ctrl_c_and_goes_on(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    real_data()
    server = serve(Model(instructions()), delay=0.01)
    file = write_recipe(tmp_path)
    words = ["limit=8", f"endpoints.default.base_url={server.url}"]

    def stop() -> None:
        if len(server.requests) >= 12:
            server.watch = None
            os.kill(os.getpid(), signal.SIGINT)

    async def cell() -> Built:
        return build_data(file, *words)

    server.watch = stop
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(Interrupted, match="responses are stored"):
            loop.run_until_complete(cell())
        stopped = len(server.requests)
        assert stopped < 12 + 16, "calls went on behind the interrupt"
        built = loop.run_until_complete(cell())
    finally:
        loop.close()
        signal.signal(signal.SIGINT, handler)
    assert built.sets and len(server.requests) > stopped


def test_a_second_ctrl_c_waits_for_nobody(
    serve: Callable[..., Server],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server answers three and nobody else; the build says that it waits, and is told again."""
    real_data()
    server = serve(Model(instructions()))
    server.gate = lambda asked: asked in server.requests[:3]
    words = [
        "build",
        str(write_recipe(tmp_path)),
        "--limit",
        "8",
        "endpoints.default.concurrency=4",
    ]
    words.append(f"endpoints.default.base_url={server.url}")
    said: list[str] = []

    def stop() -> None:
        if len(server.requests) == 7:
            os.kill(os.getpid(), signal.SIGINT)

    def warning(text: str, *values: object) -> None:
        said.append(text % values)
        os.kill(os.getpid(), signal.SIGINT)

    server.watch = stop
    monkeypatch.setattr(chat_client.log, "warning", warning)
    assert main(words) == 130
    (waiting,) = said
    # Four are held back; the others may be on their way to the disk.
    assert re.fullmatch(r"waiting for [4-7] calls .*, to store them; Ctrl-C drops them", waiting)
    line = capsys.readouterr().err.strip().split("\n")[-1]
    assert line.startswith("verbalizer-bench: interrupted: ") and "goes on" in line
    server.gate = server.watch = None
    assert main(words) == 0
