"""The hub's loaders against a server on the loopback that answers as the hub does.

`datasets` refuses even the loopback where HF_HUB_OFFLINE is set, so a worker process loads: it
takes a command a line and answers in JSON.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.hub_server import (
    PHRASEBANK,
    PINNED,
    SPLITS_READ,
    TIMEOUT,
    Answer,
    Ask,
    Hub,
    Row,
    by_hash,
    expected,
    hub_rows,
    revision_of,
    spec_of,
)
from verbalizer_bench.tasks import data
from verbalizer_bench.tasks.spec import DATASETS

WORKER = """
import dataclasses, json, os, sys, time, traceback
from pathlib import Path

from verbalizer_bench.tasks import data, fetch, suite

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
SLEEP = time.sleep
time.sleep = lambda seconds: SLEEP(min(seconds, 0.01))
ENDPOINT = os.environ["HF_ENDPOINT"]


def read_dataset(path):
    spec, verbalizers = suite.read_dataset(path)
    if archive := spec.archive:
        url = archive.url.replace("https://zenodo.org/", ENDPOINT + "/")
        archive = dataclasses.replace(archive, url=url)
    return dataclasses.replace(spec, archive=archive), verbalizers


def spec_of(name):
    return read_dataset(suite.suite_files()[name])[0]


def documents(name, source):
    test = data.test_documents(spec_of(name), source)
    pool = data.fewshot_documents(spec_of(name), source)
    return {"test": dataclasses.asdict(test), "fewshot": dataclasses.asdict(pool)}


def rows(name, split):
    return data.read_rows(spec_of(name), split, "hub")


def rows_at(name, split, revision):
    spec = spec_of(name)
    kwargs = {**spec.loader.kwargs, "revision": revision}
    spec = dataclasses.replace(spec, loader=dataclasses.replace(spec.loader, kwargs=kwargs))
    return data.read_rows(spec, split, "hub")


def fetched(folder):
    return list(fetch.fetch(Path(folder)))


fetch.suite_datasets = lambda: {
    name: read_dataset(path) for name, path in suite.suite_files().items()
}
for line in sys.stdin:
    command, *arguments = json.loads(line)
    try:
        answer = {"value": globals()[command](*arguments)}
    except Exception as error:
        answer = {"type": type(error).__name__, "message": str(error)}
        traceback.print_exc()
    print(json.dumps(answer), file=ANSWERS, flush=True)
"""


@contextlib.contextmanager
def worker(url: str, folder: Path) -> Iterator[Ask]:
    """Start the process that loads; yield a function that has it run one command."""
    unset = {
        *("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "VERBALIZER_BENCH_DATA", "HF_TOKEN"),
        *("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_XET_CACHE"),
    }
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"HF_ENDPOINT": url, "HF_HOME": str(folder / "home"), "NO_PROXY": "127.0.0.1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    with (
        (folder / "worker.log").open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            cwd=folder,
        ) as process,
    ):
        assert process.stdin and process.stdout
        stdin, stdout = process.stdin, process.stdout
        watchdog = threading.Timer(TIMEOUT, process.kill)
        watchdog.start()

        def ask(*command: str) -> Answer:
            print(json.dumps(command), file=stdin, flush=True)
            line = stdout.readline()
            assert line, (folder / "worker.log").read_text()[-4000:]
            answer: Answer = json.loads(line)
            return answer

        try:
            yield ask
        finally:
            watchdog.cancel()
            process.kill()


@dataclasses.dataclass(frozen=True)
class Session:
    """A hub that serves, and a worker that reads from it."""

    hub: Hub
    ask: Ask

    def value(self, *command: str) -> Any:
        answer = self.ask(*command)
        assert "value" in answer, answer
        return answer["value"]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with (
        Hub() as hub,
        hub.serving(),
        worker(hub.url, tmp_path_factory.mktemp("hub")) as ask,
    ):
        yield Session(hub, ask)


@pytest.fixture(scope="module", params=[404, 500, None], ids=["404", "500", "gone"])
def broken(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ask]:
    """Return a worker whose hub answers all requests with an error, or does not listen."""
    with Hub() as hub, worker(hub.url, tmp_path_factory.mktemp("broken")) as ask:
        hub.fault = request.param
        with hub.serving() if hub.fault else contextlib.nullcontext():
            yield ask


@pytest.fixture(scope="module")
def fetched(session: Session, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a folder that `fetch` has filled, and the lines that it gave."""
    folder = tmp_path_factory.mktemp("fetched") / "data"
    return folder, session.value("fetched", str(folder))


def assert_names_the_way_out(answer: Answer, name: str) -> None:
    assert answer.get("type") == "ConnectionError", answer
    assert answer["message"].startswith(f"{name}: ")
    assert spec_of(name).loader.path in answer["message"]
    assert "--data sample" in answer["message"]
    assert "\n" not in answer["message"]


def stored(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


def rows_in(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]


@pytest.mark.parametrize("name", DATASETS)
def test_documents(name: str, session: Session) -> None:
    documents = session.value("documents", name, "hub")
    test, train = SPLITS_READ[name]
    docs = expected(name, test)
    if spec_of(name).sample is not None:
        docs = by_hash(docs)
    rows = {split: hub_rows(name, split) for split in SPLITS_READ[name]}
    for kind, split, wanted in (("test", test, docs), ("fewshot", train, expected(name, train))):
        left_out = documents[kind].pop("left_out")
        assert documents[kind] == {"docs": wanted, "split": split, "source": "hub"}
        assert not any(label["resembles"] for label in left_out)
        others = len(rows[split]) - len(expected(name, split))
        assert sum(label["rows"] for label in left_out) == others
    assert {doc["label"] for doc in docs} == set(spec_of(name).classes)


@pytest.mark.parametrize("name", DATASETS)
def test_rows_have_all_classes_and_the_text_as_it_is(name: str, session: Session) -> None:
    for split in SPLITS_READ[name]:
        assert session.value("rows", name, split) == hub_rows(name, split)


def test_phrasebank_is_latin_1_and_splits_at_the_last_at(session: Session) -> None:
    sentences = [row["sentence"].strip() for row in session.value("rows", "fp", "train")]
    assert sentences[1] == "Write to ir@café-pörssi.fi by Friday ."
    assert sentences[2] == "The company is based in Åbo \x85 ."


def test_sick_keeps_the_split(session: Session) -> None:
    ids = {
        split: [row["id"] for row in session.value("rows", "sick", split)]
        for split in ("train", "validation", "test")
    }
    assert ids == {"train": ["2", "5"], "validation": ["6"], "test": ["1", "3", "4"]}


def test_sick_is_read_from_a_server_that_knows_no_ranges(tmp_path: Path) -> None:
    with Hub() as hub, hub.serving(), worker(hub.url, tmp_path) as ask:
        hub.ranges = False
        assert ask("rows", "sick", "test") == {"value": hub_rows("sick", "test")}


@pytest.mark.parametrize("name", PINNED)
def test_the_pinned_revision_is_asked_for(name: str, session: Session) -> None:
    session.value("documents", name, "hub")
    repository = f"datasets/{spec_of(name).loader.path}/"
    asked = [line for line in session.hub.log if repository in line]
    assert asked
    assert re.fullmatch("[0-9a-f]{40}", revision_of(name))
    assert {line.partition(repository)[2].split("/")[1] for line in asked} == {revision_of(name)}


def test_another_revision_in_the_cache_is_no_substitute(tmp_path: Path) -> None:
    """Without the hub, `datasets` takes what the cache has of a repository, of any revision."""
    other = "b" * 40
    with Hub() as hub, worker(hub.url, tmp_path) as ask:
        hub.commits["nyu-mll/glue"] = other
        with hub.serving():
            assert ask("rows_at", "sst2", "validation", other).keys() == {"value"}
        assert ask("rows_at", "sst2", "validation", other).keys() == {"value"}
        assert_names_the_way_out(ask("rows", "sst2", "validation"), "sst2")


def test_fetch_writes_the_layout(fetched: tuple[Path, list[str]]) -> None:
    folder, lines = fetched
    files = {f"{name}/{split}.jsonl" for name in DATASETS for split in SPLITS_READ[name]}
    assert set(stored(folder)) == {*files, "sources.yaml"}
    assert len(lines) == len(files)
    sources = yaml.safe_load((folder / "sources.yaml").read_text())
    assert sources == {name: {"source": "hub"} for name in DATASETS}
    for name in DATASETS:
        for split in SPLITS_READ[name]:
            rows = hub_rows(name, split)
            assert rows_in(folder / name / f"{split}.jsonl") == rows
            assert f"{folder / name / split}.jsonl: {len(rows)} rows" in lines


@pytest.mark.parametrize("name", DATASETS)
def test_fetched_documents_are_those_of_the_hub(
    name: str, session: Session, fetched: tuple[Path, list[str]]
) -> None:
    spec, folder = spec_of(name), str(fetched[0])
    here = {
        "test": dataclasses.asdict(data.test_documents(spec, folder)),
        "fewshot": dataclasses.asdict(data.fewshot_documents(spec, folder)),
    }
    assert json.loads(json.dumps(here)) == session.value("documents", name, "hub")


def test_a_second_fetch_downloads_nothing(
    session: Session, fetched: tuple[Path, list[str]]
) -> None:
    folder, lines = fetched
    before, requests = stored(folder), len(session.hub.log)
    again = session.value("fetched", str(folder))
    assert again == [f"{line.rpartition(': ')[0]}: is there, kept" for line in lines]
    assert len(session.hub.log) == requests
    after = stored(folder)
    assert {**after, "sources.yaml": 0} == {**before, "sources.yaml": 0}


def test_a_fetch_that_was_cut_off_goes_on(
    session: Session, fetched: tuple[Path, list[str]], tmp_path: Path
) -> None:
    with session.hub.failing(500, PHRASEBANK):
        assert_names_the_way_out(session.ask("fetched", str(tmp_path)), "fp")
    first = stored(tmp_path)
    assert set(first) == {"sst2/validation.jsonl", "sst2/train.jsonl", "sources.yaml"}
    session.value("fetched", str(tmp_path))
    assert set(stored(tmp_path)) == set(stored(fetched[0]))
    assert first["sst2/train.jsonl"] == stored(tmp_path)["sst2/train.jsonl"]


def test_fetch_keeps_the_sources_of_the_files_it_keeps(
    session: Session, fetched: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(fetched[0], folder)
    sources = {name: {"source": "hub"} for name in DATASETS}
    sources |= {"sst2": {"source": "mine"}, "my_set": {"source": "mine"}}
    (folder / "sources.yaml").write_text(yaml.safe_dump(sources))
    (folder / "fp" / "train.jsonl").unlink()
    with session.hub.failing(500, PHRASEBANK):
        assert_names_the_way_out(session.ask("fetched", str(folder)), "fp")
    assert yaml.safe_load((folder / "sources.yaml").read_text()) == sources
    session.value("fetched", str(folder))
    assert yaml.safe_load((folder / "sources.yaml").read_text()) == sources


@pytest.mark.parametrize("name", ["sst2", "subj", "fp", "sick"])
def test_failure_is_one_error_with_the_way_out(name: str, broken: Ask) -> None:
    assert_names_the_way_out(broken("rows", name, "train"), name)


def test_a_fetch_that_fails_leaves_nothing(broken: Ask, tmp_path: Path) -> None:
    assert_names_the_way_out(broken("fetched", str(tmp_path)), DATASETS[0])
    assert not stored(tmp_path)
