"""Ctrl-C and `kill` in the middle of a build: one line with what is stored, and it goes on."""

import os
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.builder import Model
from tests.builders.recipes import instructions, real_data, write_recipe
from tests.builders.server import Server
from verbalizer_bench.cli import main


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
    command = shlex.join(["verbalizer-bench", *words])
    assert line == (
        f"verbalizer-bench: {word}: {count} responses are stored in {stored}; `{command}` goes on, "
        "and asks for none twice"
    )
    assert count
    before = stored.read_bytes()
    assert main(shlex.split(re.findall("`(.*)`", line)[0])[1:]) == 0
    assert stored.read_bytes().startswith(before)
