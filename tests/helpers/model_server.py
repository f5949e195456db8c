"""A real model server on this machine: `transformers serve`."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path


def missing_package() -> str | None:
    """Return what has to be installed for the server, and how; None if nothing."""
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    return f"{missing[0]} is not installed: pip install '.[serving]'" if missing else None


def needs_server() -> None:
    """Skip a test where the server cannot run."""
    import pytest

    if reason := missing_package():
        pytest.skip(reason)


@contextmanager
def serving(log: Path) -> Iterator[str]:
    """Run `transformers serve` on the CPU and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", code, "serve", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with log.open("w") as out:
        server = subprocess.Popen(
            [*command, "--device", "cpu"], stdout=out, stderr=out, env=environment
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(f"{address}/health", server, log)
        yield f"{address}/v1"
    finally:
        server.terminate()
        server.wait(30)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(log.read_text()[-2000:])
