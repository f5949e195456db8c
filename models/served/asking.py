"""Send the requests of a run: what is stored is taken, one is asked alone, then all others."""

import asyncio
import itertools
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from verbalizer_bench.client.chat_client import CallFailed, ChatClient
from verbalizer_bench.client.protocol import Reply, Request
from verbalizer_bench.models.served.payload import DIALECTS, Dialect
from verbalizer_bench.models.served.settings import ServedSettings

log = logging.getLogger(__name__)
# What a server answers to a request that it does not take.
REFUSED = (400, 413, 422)
# Seconds between two looks at the client's status.
_INTERVAL = 0.5


@dataclass(frozen=True)
class Call:
    """What is asked for one of lm-eval's requests.

    Attributes:
        place: The request's.
        where: What its errors call it.
        messages: The conversation.
        parameters: Of the decoding, in a dialect.
    """

    place: int
    where: str
    messages: tuple[Mapping[str, Any], ...]
    parameters: Callable[[Dialect], dict[str, Any]]


class Unanswered(Exception):
    """A call has no reply.

    Attributes:
        status: HTTP's, if there was one.
    """

    def __init__(self, where: str, role: str, error: CallFailed) -> None:
        super().__init__(f"{where}: {str(error).removeprefix(f'{role}: ')}")
        self.status = error.status


class Asker:
    """Turn calls into the client's requests, in the dialect that the server takes.

    Attributes:
        dialect: What the server takes, as far as it is known.
        sent: Parameters of requests that have a reply, by the role that names them.
    """

    def __init__(self, client: ChatClient, settings: ServedSettings, dialect: Dialect) -> None:
        """Take a client that is open."""
        self._client, self._settings, self.dialect = client, settings, dialect
        self.sent: dict[str, dict[str, Any]] = {}
        self._roles: dict[str, str] = {}

    def stored(self, call: Call) -> Reply | None:
        """Return the stored reply to a call, in whatever dialect it was asked; None without one."""
        for dialect in dict.fromkeys((self.dialect, *DIALECTS)):
            request = self._request(call, dialect)
            if reply := self._client.stored(request):
                self.dialect = dialect
                self._note(request)
                return reply
        return None

    async def ask(self, call: Call) -> Reply:
        """Return the reply to a call.

        Raises:
            Unanswered: The server gives none.
            BudgetExceeded: The call may cost more than is left.
        """
        while True:
            dialect = self.dialect
            request = self._request(call, dialect)
            try:
                reply = await self._client.ask(request)
            except CallFailed as error:
                if not self._understood(dialect, error):
                    raise Unanswered(call.where, request.role, error) from error
                continue
            self._note(request)
            return reply

    def _request(self, call: Call, dialect: Dialect) -> Request:
        """Return a call as a request whose role names its parameters."""
        endpoint = self._settings.endpoint_with(call.parameters(dialect))
        parameters = json.dumps(endpoint.parameters, sort_keys=True)
        role = self._roles.setdefault(parameters, f"asked-{len(self._roles) + 1}")
        self._client.endpoints[role] = endpoint
        return Request(role, call.messages)

    def _note(self, request: Request) -> None:
        self.sent[request.role] = self._client.endpoints[request.role].parameters

    def _understood(self, dialect: Dialect, error: CallFailed) -> bool:
        """Return whether a refusal named a parameter that can be left out or renamed."""
        if error.status not in REFUSED:
            return False
        if self.dialect != dialect:
            return True
        weaker = dialect.without(str(error))
        if weaker is None:
            return False
        what = "stop strings are left out, and cut here"
        if weaker.limit != dialect.limit:
            what = f"{weaker.limit} is sent in place of {dialect.limit}"
        log.warning("%s: %s (%s)", self._settings.model, what, error)
        self.dialect = weaker
        return True


async def ask_all(
    asker: Asker, calls: Iterable[Call], take: Callable[[Call, Reply], None], workers: int
) -> None:
    """Ask the first call alone, which says whether the server can be asked so, then all others.

    Args:
        asker: Asks them.
        calls: What is asked.
        take: Gets each reply as it comes.
        workers: How many are asked at once.

    Raises:
        Unanswered: A call has no reply; no further one is sent.
        BudgetExceeded: The next call may cost more than is left.
        ValueError: What `take` raises.
    """
    waiting = iter(calls)

    async def work(calls: Iterable[Call]) -> None:
        for call in calls:
            take(call, await asker.ask(call))

    await work(itertools.islice(waiting, 1))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work(waiting))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def watch(client: ChatClient, bar: Any) -> None:
    """Show on a progress bar what calls wait for, whenever that changes, until cancelled."""
    shown = ""
    while True:
        kind = re.sub(r"\d+", "", client.status)
        bar.set_postfix_str(client.status, refresh=kind != shown)
        shown = kind
        await asyncio.sleep(_INTERVAL)
