"""A hub's data set as records, against a server that answers as the hub does, and without it.

`datasets` refuses even the loopback where HF_HUB_OFFLINE is set, so a process of its own reads.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.hub_server import MAIN, Hub, parquet_bytes
from tests.helpers.training_records import conversation
from verbalizer_bench.cli import main
from verbalizer_bench.io import hub_records

ROWS = [conversation("Say", f"a{n}") for n in range(4)]
READER = """
import json, sys
from pathlib import Path

from verbalizer_bench.io.conversation_files import read_files
from verbalizer_bench.io.record_files import record_name, records_sha256

for name in sys.argv[1:]:
    try:
        path = Path(name)
        ids = [record.id for _, record in read_files([path])]
        print(json.dumps([record_name(path), records_sha256(path), ids]))
    except (OSError, ValueError) as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""
CARD = """---
configs:
- config_name: one
  data_files: [{split: train, path: one/*.jsonl}]
- config_name: two
  data_files: [{split: train, path: two/*.parquet}]
---
"""


def read(home: Path, *names: str, **environment: str) -> list[Any]:
    """Return what a process reads: name, hash and ids of each, or the error."""
    unset = {"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"}
    kept = {key: value for key, value in os.environ.items() if key not in unset}
    kept |= {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", READER, *names]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """Return the home of a cache that was filled from a hub, the hub's address, and what was read.

    The hub does not listen any more.
    """
    home, hub = tmp_path_factory.mktemp("home"), Hub()
    shards = {
        f"data/train-{n:05}-of-00002.parquet": parquet_bytes(ROWS[2 * n : 2 * n + 2])
        for n in range(2)
    }
    hub.files["me/plain"] = shards | {"data/test-00000-of-00001.parquet": parquet_bytes(ROWS[:1])}
    hub.files["me/configs"] = {
        "README.md": CARD.encode(),
        "one/a.jsonl": "".join(f"{json.dumps(row)}\n" for row in ROWS[:3]).encode(),
        "two/b.parquet": parquet_bytes(ROWS[3:]),
    }
    names = [
        *("hub:me/plain", f"hub:me/plain@{MAIN}/test", "hub:me/configs:one/train"),
        *("hub:me/configs", "hub:me/configs:three", "hub:me/none", "hub:me/plain/dev"),
    ]
    with hub.serving():
        found = read(home, *names, HF_ENDPOINT=hub.url)
    return home, hub.url, dict(zip(names, found, strict=True))


def test_names_are_resolved_and_pinned(online: tuple[Path, str, dict[str, Any]]) -> None:
    found = online[2]
    name, _, ids = found["hub:me/plain"]
    assert name == f"hub:me/plain@{MAIN}/train" and ids == [row["id"] for row in ROWS]
    name, _, ids = found[f"hub:me/plain@{MAIN}/test"]
    assert name == f"hub:me/plain@{MAIN}/test" and ids == ["id-a0"]
    name, _, ids = found["hub:me/configs:one/train"]
    assert name == f"hub:me/configs:one@{MAIN}/train" and ids == ["id-a0", "id-a1", "id-a2"]


def test_what_the_hub_has_not_is_one_line(online: tuple[Path, str, dict[str, Any]]) -> None:
    found = online[2]
    assert found["hub:me/plain/dev"] == (
        "ValueError: hub:me/plain/dev: no split dev; there are test, train"
    )
    for name in ("hub:me/configs", "hub:me/configs:three"):
        assert found[name].startswith(f"ValueError: {name}: ")
        assert "one" in found[name] and "two" in found[name] and "\n" not in found[name]
    assert "hf download --repo-type dataset me/none" in found["hub:me/none"]


def test_the_cache_is_read_without_a_network(online: tuple[Path, str, dict[str, Any]]) -> None:
    home, url, found = online
    names = ["hub:me/plain", f"hub:me/plain@{MAIN}/test", "hub:me/configs:one/train"]
    *read_again, lacking = read(home, *names, "hub:me/configs:two", HF_HUB_OFFLINE="1")
    assert read_again == [found[name] for name in names]
    assert lacking.startswith("ConnectionError: hub:me/configs:two: cannot be had from the hub")
    (away,) = read(home, "hub:me/plain", HF_ENDPOINT=url)
    assert away.startswith("ConnectionError: ") and "HF_HUB_OFFLINE=1 reads" in away


def test_a_recipe_trains_on_it_and_records_the_commit(
    online: tuple[Path, str, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(online[0] / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub_records.resolved.cache_clear()
    words = ["data=hub:me/plain", f"output={tmp_path / 'out'}", f"cache={tmp_path / 'cache'}"]
    words += [
        "global_batch_size=4",
        "per_device_batch_size=4",
        "warmup_ratio=0",
        "num_train_epochs=1",
    ]
    assert main(["validate-data", "tiny/sft", *words]) == 0
    assert "4; usable 4: 4 text" in capsys.readouterr().out
    assert main(["train", str(REPOSITORY / "recipes/tiny/sft.yaml"), *words]) == 0
    (one,) = json.loads((tmp_path / "out" / "training.json").read_text())["data"]
    name, sha256, _ = online[2]["hub:me/plain"]
    assert (one["file"], one["sha256"]) == (name, sha256)
    recipe = str(tmp_path / "out" / "recipe.yaml")
    # Its data set has moved on since: the commit that it was can be given.
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    del record["seconds"]
    record["data"][0] |= {"file": f"hub:me/plain@{'b' * 40}/train", "sha256": "b"}
    (tmp_path / "out" / "training.json").write_text(json.dumps(record))
    (tmp_path / "out" / "state" / "checkpoint-1").mkdir(parents=True)
    for given in ("hub:me/plain", name):
        assert main(["train", recipe, "resume=true", f"data={given}"]) == 2
        said = capsys.readouterr().err
        assert f"it was started with data hub:me/plain@{'b' * 40}/train, now {name}; put" in said
    assert main(["train", recipe, "resume=true", "data=hub:me/other"]) == 2
    assert "it was started with data=['hub:me/plain'], not ['hub:me/other']" in (
        capsys.readouterr().err
    )
    hub_records.resolved.cache_clear()


@pytest.mark.parametrize("name", ["hub:", "hub:me", "hub:me/a/b/c", "hub:me/a:b:c", "hub:me/a@"])
def test_a_name_of_no_form_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"give hub:owner/name, with :configuration, @revision"):
        hub_records.resolved(Path(name))
