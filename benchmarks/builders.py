"""Calls a second of a build, as a share of what the server's delay and the slots allow.

python -m benchmarks.builders

The server is a process of its own on the loopback address, which answers every request alike after
a delay; the client stores each answer as a build does. A share of 1 means that no slot ever waits.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from verbalizer_bench.client.chat_client import ChatClient
from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.protocol import Request

RESULTS = Path(__file__).parent / "results"
REPETITIONS = 3
SLOTS = 16
CALLS = 160
DELAYS = (0.05, 0.1, 0.3, 0.6)
# At a delay of 0.3 s, a fast answer of a small model behind a network.
TARGET = 0.9

_ANSWER = json.dumps(
    {
        "model": "m",
        "choices": [{"message": {"content": "A boat."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3},
    }
).encode()
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def serve(pipe: Connection, delay: float) -> None:
    """Answer until the process is ended; send the port first."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = (line.lower() for line in head.split(b"\r\n"))
                lengths = (line for line in lines if line.startswith(b"content-length:"))
                await reader.readexactly(int(next(lengths).partition(b":")[2]))
                await asyncio.sleep(delay)
                writer.write(_HEAD % len(_ANSWER) + _ANSWER)

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def share(delay: float) -> float:
    """Return the calls a second of one run, as a share of `SLOTS / delay`."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs, delay), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{ours.recv()}/v1"
        endpoint = Endpoint("m", base_url=url, key_variable="", concurrency=SLOTS)
        with tempfile.TemporaryDirectory() as folder:
            seconds = asyncio.run(_ask(endpoint, Path(folder)))
    finally:
        server.terminate()
        server.join()
    return CALLS / seconds * delay / SLOTS


async def _ask(endpoint: Endpoint, folder: Path) -> float:
    async with ChatClient({"default": endpoint}, folder) as client:

        def ask(text: str) -> Any:
            return client.ask(Request("answer", ({"role": "user", "content": text},)))

        await asyncio.gather(*(ask(f"connection {number} is opened") for number in range(SLOTS)))
        began = time.monotonic()
        await asyncio.gather(*(ask(f"prompt {number}") for number in range(CALLS)))
        return time.monotonic() - began


def main() -> None:
    """Measure, and write results/builders.md."""
    shares = {delay: [share(delay) for _ in range(REPETITIONS)] for delay in DELAYS}
    machine = (
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, load "
        f"{os.getloadavg()[1]:.1f}"
    )
    lines = [
        f"| {delay:g} s | {median(one):.1%} | {min(one):.1%} to {max(one):.1%} |"
        for delay, one in shares.items()
    ]
    text = (
        f"# Building: {CALLS} calls, {SLOTS} at once\n\n{machine}; {REPETITIONS} repetitions.\n\n"
        "| the server's delay | share of slots / delay | range |\n|---|---:|---:|\n"
        + "\n".join(lines)
        + f"\n\nTarget: {TARGET:.0%} at 0.3 s.\n"
    )
    (RESULTS / "builders.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
