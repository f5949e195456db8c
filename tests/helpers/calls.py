"""Calls of an endpoint."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.helpers.endpoint_server import Server
from verbalizer_bench.builders.pipeline.prompts import PromptTemplates
from verbalizer_bench.client.budget import UsageTotals
from verbalizer_bench.client.chat_client import ChatClient
from verbalizer_bench.client.endpoint import Endpoint
from verbalizer_bench.client.protocol import Reply, Request

PROMPTS = PromptTemplates(
    "1", failures={"other": "Not so: {detail}.", "format": "Form: {detail}.", "empty": "Nothing!"}
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"word": {"type": "string"}},
    "required": ["word"],
    "additionalProperties": False,
}


def endpoint(server: Server, **changes: Any) -> Endpoint:
    values: dict[str, Any] = {"model": "m", "base_url": server.url, "backoff": 0.02}
    return Endpoint(**(values | changes))


def request(text: str, **changes: Any) -> Request:
    return Request("question", ({"role": "user", "content": text},), **changes)


def requests(count: int) -> list[Request]:
    return [request(f"prompt {number}") for number in range(count)]


async def ask(client: ChatClient, wanted: Sequence[Request]) -> list[Reply]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.ask(one)) for one in wanted]
    return [task.result() for task in tasks]


def ask_all(
    folder: Path, wanted: Sequence[Request], asked: Endpoint, **others: Any
) -> tuple[list[Reply], UsageTotals]:
    async def run() -> tuple[list[Reply], UsageTotals]:
        async with ChatClient({"default": asked}, folder, **others) as client:
            return await ask(client, wanted), client.usage

    return asyncio.run(run())


async def has_come(server: Server, count: int) -> None:
    """Wait until so many requests have come."""
    while len(server.requests) < count:
        await asyncio.sleep(0.001)
