"""A finished checkpoint is pushed without its states; what hinders that is said before training."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import pytest

from tests.conftest import REPOSITORY
from verbalizer_bench.trainers.output import hub
from verbalizer_bench.trainers.recipe import Recipe, read_recipe
from verbalizer_bench.trainers.train import train

TINY = REPOSITORY / "recipes" / "tiny"


class Hub(http.server.BaseHTTPRequestHandler):
    """Takes a repository and a commit of small files, as the hub does."""

    status: ClassVar[int] = 200
    repositories: ClassVar[list[dict[str, Any]]] = []
    files: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.status != 200:
            self.answer({"error": "You may not write here"}, self.status)
        elif self.path == "/api/repos/create":
            self.repositories.append(json.loads(body))
            self.answer({"url": "https://huggingface.co/me/tiny", "name": "me/tiny"})
        elif "/preupload/" in self.path:
            paths = [one["path"] for one in json.loads(body)["files"]]
            modes = [
                {"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths
            ]
            self.answer({"files": modes})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        else:
            assert "/commit/" in self.path, self.path
            lines = [json.loads(line) for line in body.splitlines()]
            self.files += [one["value"]["path"] for one in lines if one["key"] == "file"]
            commit = {"commitUrl": "https://huggingface.co/me/tiny/commit/1", "commitOid": "1" * 40}
            self.answer({**commit, "success": True})

    def do_GET(self) -> None:
        info = {"id": "me/tiny", "sha": "0" * 40, "siblings": [], "private": True}
        self.answer(info if self.status == 200 else {"error": "gone"}, self.status)

    def answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """Return a hub on the loopback that everything is pushed to, with a token."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(hub, "HfApi", lambda: huggingface_hub.HfApi(endpoint=endpoint))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    Hub.status, Hub.repositories, Hub.files = 200, [], []
    yield Hub
    server.shutdown()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def recipe(tmp_path: Path, cache: Path, *words: str) -> Recipe:
    base = [f"output={tmp_path / 'out'}", f"cache={cache}", "num_train_epochs=0.25"]
    return read_recipe(TINY / "sft.yaml", [*base, "push_to_hub=me/tiny", *words])


def test_checkpoint_and_card_are_pushed(tmp_path: Path, cache: Path, online: type[Hub]) -> None:
    train(recipe(tmp_path, cache, "save_steps=1"))
    # Its name in the hub's client changed.
    wanted = {"private": True, "visibility": "private"}
    assert wanted.items() & online.repositories[0].items()
    names = set(online.files)
    assert {"README.md", "config.json", "model.safetensors", "training.json"} <= names
    assert not any(name.startswith("state/") or name == "lock" for name in names)


def test_a_push_that_fails_costs_nothing(tmp_path: Path, cache: Path, online: type[Hub]) -> None:
    online.status = 403
    with pytest.raises(
        ConnectionError, match=r"is whole in .*`hf upload me/tiny .*/out \. --private --ex"
    ):
        train(recipe(tmp_path, cache))
    written = tmp_path / "out" / "model.safetensors"
    before = written.stat().st_mtime_ns
    online.status = 200
    train(recipe(tmp_path, cache, "resume=true", "hub_private_repo=false"))
    assert "model.safetensors" in online.files and written.stat().st_mtime_ns == before


def test_what_hinders_it_is_said_before_training(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE=1 keeps"):
        train(recipe(tmp_path, cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(ValueError, match="there is no token for the hub; `hf auth login`"):
        train(recipe(tmp_path, cache))
    with pytest.raises(ValueError, match=r"push_to_hub=me/t\.\.iny"):
        train(recipe(tmp_path, cache, "push_to_hub=me/t..iny"))
    with pytest.raises(ValueError, match="push_to_hub=tiny: owner/name"):
        recipe(tmp_path, cache, "push_to_hub=tiny")
    assert not (tmp_path / "out").exists()
