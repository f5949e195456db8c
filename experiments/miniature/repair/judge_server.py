"""The program that knows the scenes, as an OpenAI-compatible server on this machine.

    python -m verbalizer_bench.experiments.miniature.repair.judge_server data/miniature/images

It knows an image by its file's content, and reads question and answers between their tags
(`recipes/data/prompts.yaml`).
"""

import argparse
import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from verbalizer_bench.experiments.miniature.repair.judge import rate, read_question, statements
from verbalizer_bench.experiments.miniature.world.scenes import Scene, scenes
from verbalizer_bench.experiments.miniature.world.splits import SPLITS

_QUESTION = re.compile(r"<question>\s*(.*?)\s*</question>", re.DOTALL)
_ANSWER = re.compile(r"<(answer_\d+)>\n(.*?)\n</\1>", re.DOTALL)


def known_scenes(images: Path) -> dict[str, Scene]:
    """Return the scenes of a world by the sha256 of their images."""
    every = [scene for split in SPLITS for kind in scenes(split) for scene in kind]
    return {
        hashlib.sha256((images / f"{scene.name}.png").read_bytes()).hexdigest(): scene
        for scene in every
    }


def verdict(known: Mapping[str, Scene], messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the program says of the answers in a request.

    Raises:
        ValueError: The image is none of this world's, or the text has no question.
    """
    parts = {part["type"]: part for part in messages[-1]["content"] if isinstance(part, Mapping)}
    text = parts["text"]["text"] if "text" in parts else ""
    shown = parts["image_url"]["image_url"]["url"] if "image_url" in parts else ""
    image = base64.b64decode(shown.partition(",")[2])
    scene, asked = known.get(hashlib.sha256(image).hexdigest()), _QUESTION.search(text)
    if scene is None or asked is None:
        raise ValueError("an image of this world, and a question between its tags, are expected")
    return {
        name: {"reasons": _reasons(scene, asked[1], answer)}
        | rate(scene, asked[1], answer).model_dump()
        for name, answer in _ANSWER.findall(text)
    }


def _reasons(scene: Scene, question: str, answer: str) -> str:
    found = statements(scene, read_question(question), answer)
    told = [f"{one.kind} {' '.join((*one.about, one.value))}: {one.true}" for one in found]
    return f"{scene.name}: {'; '.join(told) or 'it states nothing of the scene'}."


class SceneJudge:
    """The server, while a `with` lasts.

    Attributes:
        url: Its address up to `/v1`.
    """

    def __init__(self, images: Path, port: int = 0) -> None:
        """Learn the scenes of a world's images; port 0 is any that is free."""
        known = known_scenes(images)

        class Handler(_Handler):
            scenes = known

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "SceneJudge":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        """Answer until Ctrl-C."""
        self._server.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body together
    scenes: Mapping[str, Scene]

    def do_POST(self) -> None:
        """Answer a request for a chat completion."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            content = json.dumps(verdict(self.scenes, asked["messages"]))
        except ValueError as error:
            self._send(400, {"error": {"message": str(error)}})
            return
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        answer = {"id": "0", "object": "chat.completion", "model": "scene-program"}
        self._send(200, {**answer, "choices": [choice], "usage": usage})

    def _send(self, status: int, value: Mapping[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the builders count what they ask."""


def main(argv: Sequence[str] | None = None) -> None:
    """Serve."""
    parser = argparse.ArgumentParser(
        "python -m verbalizer_bench.experiments.miniature.repair.judge_server"
    )
    parser.add_argument("images", type=Path, help="a world's images")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args(argv)
    judge = SceneJudge(args.images, args.port)
    print(f"{judge.url}: a program that knows the scenes of {args.images}", flush=True)
    judge.serve()


if __name__ == "__main__":
    main()
