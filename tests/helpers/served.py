"""Ask a served model as lm-eval does, and answer as one that says more than text."""

from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web
from lm_eval.api.instance import Instance

from tests.helpers.asking import PAPER
from tests.helpers.endpoint_server import Server
from verbalizer_bench.models.served.adapter import VerbalizerAPI


def api(server: Server, **changes: Any) -> VerbalizerAPI:
    arguments: dict[str, Any] = {"model": "m", "base_url": server.url, "image": "none"}
    return VerbalizerAPI(**(arguments | {"backoff": 0.02} | changes))


def asked(prompts: Sequence[Any], **changes: Any) -> list[Instance]:
    """Return requests of our tasks; a prompt can be a pair of a text and its images."""
    pairs = [one if isinstance(one, tuple) else (one,) for one in prompts]
    return [
        Instance(
            request_type="generate_until",
            doc={},
            arguments=(text, PAPER | changes, *({"visual": images} for images in visuals)),
            idx=0,
            metadata=("task", number, 1),
        )
        for number, (text, *visuals) in enumerate(pairs)
    ]


def scored(pairs: Sequence[tuple[str, str]]) -> list[Instance]:
    return [
        Instance(
            request_type="loglikelihood",
            doc={},
            arguments=pair,
            idx=0,
            metadata=("task", number, 1),
        )
        for number, pair in enumerate(pairs)
    ]


def completion(*texts: str | None, **changes: Any) -> web.Response:
    """Return a completion with a choice a text; `changes` are of choices, messages and the rest."""
    message = changes.pop("message", {})
    choice = {"finish_reason": "stop", **changes.pop("choice", {})}
    choices = [
        {"index": n, "message": {"role": "assistant", "content": text, **message}, **choice}
        for n, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return web.json_response({"model": "m-1", "choices": choices, "usage": usage, **changes})


def refusal(status: int, message: str, **error: Any) -> web.Response:
    return web.json_response({"error": {"message": message, **error}}, status=status)


def repeated(response: web.Response) -> Callable[[dict[str, Any]], web.Response]:
    """Return what answers with the same each time: a response can be sent once."""
    data, status = response.body, response.status
    assert isinstance(data, bytes)
    return lambda body: web.Response(body=data, status=status, content_type="application/json")


def likely(**logprobs: float) -> web.Response:
    """Return a completion of one token with the log probabilities of these."""
    top = [{"token": token, "logprob": value} for token, value in logprobs.items()]
    content = [{"token": top[0]["token"], "logprob": top[0]["logprob"], "top_logprobs": top}]
    return completion(str(top[0]["token"]), choice={"logprobs": {"content": content}})
