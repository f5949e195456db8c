"""Stored reference log-probabilities: computed once, gone on with, and never another's."""

import json
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from tests.conftest import REPOSITORY
from tests.helpers.kills import killed_inside
from verbalizer_bench.trainers.checkpoints.load import load
from verbalizer_bench.trainers.data.pair_collator import PairCollator
from verbalizer_bench.trainers.recipe import read_recipe
from verbalizer_bench.trainers.training import reference as module
from verbalizer_bench.trainers.training.inputs import encoded_data, make_collator

TINY = REPOSITORY / "recipes" / "tiny"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return shutil.copytree(TINY / "data" / "images", tmp_path / "images")


@pytest.fixture
def compute(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[module.Reference, int]]:
    """Return what gives a recipe's reference, and how many pairs were computed for it."""
    lines = (TINY / "data" / "pairs.jsonl").read_text().splitlines()
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines[:6]) + "\n")
    counted: list[int] = []
    measure = module.pair_logps

    def count(model: Any, batch: Any) -> list[float]:
        counted.append(len(batch["input_ids"]))
        assert model.dtype == torch.float32 and not model.training
        return measure(model, batch)

    monkeypatch.setattr(module, "pair_logps", count)

    def run(*words: str, process: int = 0, processes: int = 1) -> tuple[module.Reference, int]:
        base = ["model.path=null", f"model.config={TINY / 'llava'}", "trained_parameters=null"]
        base += [f"data={tmp_path / 'pairs.jsonl'}", f"images={images}", "global_batch_size=4"]
        base += [f"output={tmp_path / 'out'}", f"cache={tmp_path / 'cache'}"]
        recipe = read_recipe(TINY / "dpo.yaml", [*base, *words])
        checkpoint = load(recipe)
        data = encoded_data(recipe, checkpoint, recipe.data)
        collator = make_collator(recipe, checkpoint)
        assert isinstance(collator, PairCollator)
        arguments = SimpleNamespace(
            process_index=process, world_size=processes, device=torch.device("cpu")
        )
        before = len(counted)
        found = module.reference(recipe, checkpoint, [data], collator, arguments)
        return found, len(counted) - before

    return run


def file_of(found: module.Reference) -> Path:
    (file,) = found.folder.glob("*.jsonl")
    return file


def test_it_is_computed_once(compute: Any) -> None:
    first, number = compute()
    assert number == 6 and len(first.logps) == 6
    again, number = compute("dpo.beta=0.5", "learning_rate=1e-5", "max_length=300")
    assert number == 0 and again.logps == first.logps
    # A base that training holds in bfloat16 is computed in float32 all the same.
    low, number = compute("precision=bf16", "lora.r=2", "lora.alpha=2")
    assert number == 0 and low.logps == first.logps


@pytest.mark.parametrize(
    "words", [["seed=1"], ["format=llama-2"], ["image_aspect_ratio=pad"]], ids=lambda w: w[0]
)
def test_other_weights_templates_or_image_sizes_are_another(compute: Any, words: Any) -> None:
    first, _ = compute()
    other, number = compute(*words)
    assert number == 6 and other.folder != first.folder


def test_a_lora_base_in_bfloat16_is_computed_from_its_files(compute: Any) -> None:
    low, number = compute("precision=bf16", "lora.r=2", "lora.alpha=2")
    assert number == 6
    again, number = compute()
    assert number == 0 and again.logps == low.logps


def test_another_image_of_that_name_is_another_pair(compute: Any, images: Path) -> None:
    first, _ = compute()
    rows = [json.loads(line) for line in (images.parent / "pairs.jsonl").read_text().splitlines()]
    name = rows[0]["images"][0]
    alike = sum(row["images"] == [name] for row in rows)
    Image.new("RGB", (40, 40), "black").save(images / name)
    changed, number = compute()
    assert number == alike and changed.folder == first.folder
    assert sum(changed.logps[key] != first.logps[key] for key in first.logps) == alike


def test_what_was_stopped_goes_on(compute: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = module.pair_logps
    left = 4

    def stop(model: Any, batch: Any) -> list[float]:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return measure(model, batch)

    with monkeypatch.context() as patched:
        patched.setattr(module, "pair_logps", stop)
        with pytest.raises(KeyboardInterrupt):
            compute()
    found, number = compute()
    assert number == 2
    # A kill in the middle of a line costs that line.
    file = file_of(found)
    file.write_bytes(file.read_bytes()[:-20])
    again, number = compute()
    assert number == 1 and again.logps == found.logps


@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_process_costs_the_pair_that_it_computed(
    compute: Any, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    """SIGKILL, before a pair's line is written or in the middle of it."""
    alone, _ = compute()
    whole = file_of(alone).read_bytes()
    shutil.rmtree(alone.folder)
    append = module.AppendLog.append
    written: list[Any] = []

    def work(here: Callable[[], None]) -> None:
        def write(self: Any, row: Any) -> None:
            written.append(row)
            # The header and four pairs are there.
            if len(written) == 6:
                self._file.write(json.dumps(row)[:40].encode() if torn else b"")
                here()
            append(self, row)

        monkeypatch.setattr(module.AppendLog, "append", write)
        compute()

    killed_inside(work)
    left = file_of(alone).read_bytes()
    assert left.count(b"\n") == 5 and left.endswith(b"\n") != torn
    found, number = compute()
    assert number == 2 and found.logps == alone.logps
    assert file_of(found).read_bytes() == whole


@pytest.mark.parametrize("room", [0, 1, 900])
def test_a_full_disk_is_said_and_costs_the_pair_that_did_not_fit(
    compute: Any, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, _ = compute()
    shutil.rmtree(alone.folder)
    # The bar goes to a file here, which the limit is on too.
    monkeypatch.setattr(module, "tqdm", lambda pairs, **_: pairs)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError, match=r"0\.jsonl: .*; make room, or give another cache"):
            compute()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    kept = max(0, file_of(alone).read_bytes().count(b"\n") - 1)
    assert kept < 6 and (kept > 0) == (room == 900)
    found, number = compute()
    assert number == 6 - kept and found.logps == alone.logps


def test_a_line_that_is_not_what_was_written_is_refused(compute: Any) -> None:
    found, _ = compute()
    file = file_of(found)
    lines = file.read_text().splitlines(keepends=True)
    row = json.loads(lines[3])
    row["logps"][0] += 1e-4
    file.write_text("".join([*lines[:3], json.dumps(row) + "\n", *lines[4:]]))
    with pytest.raises(ValueError, match=r"line 4: pair=.* is not what was written there; delete"):
        compute()
    file.write_text("".join(lines[:3]) + "{}\n" + "".join(lines[4:]))
    with pytest.raises(ValueError, match="line 4: pair=None, logps=None is not what was written"):
        compute()


def test_a_file_of_other_weights_is_refused(compute: Any) -> None:
    mine, _ = compute()
    other, _ = compute("seed=1")
    shutil.copy(file_of(other), file_of(mine))
    with pytest.raises(ValueError, match=r"line 1: these reference .* are of weights=random"):
        compute()


def test_processes_compute_a_share_each(compute: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, _ = compute()
    shutil.rmtree(alone.folder)

    def first(seconds: float) -> None:
        """Compute what the second process waits for."""
        found, number = compute(process=0, processes=2)
        assert number == 3 and found.logps == alone.logps

    monkeypatch.setattr(module.time, "sleep", first)
    second, number = compute(process=1, processes=2)
    assert number == 6 and second.logps == alone.logps
    assert {file.name for file in alone.folder.iterdir()} == {"0.jsonl", "1.jsonl"}
    written = [sum(1 for _ in file.open()) - 1 for file in alone.folder.iterdir()]
    assert written == [3, 3]


def test_what_another_training_computes_is_waited_for(
    compute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait, others = module.wait_for_lock, []

    @contextmanager
    def held(file: Path) -> Iterator[bool]:
        """Wait for what computes all of it meanwhile."""
        monkeypatch.setattr(module, "wait_for_lock", wait)
        others.append(compute())
        with wait(file) as free:
            yield free

    monkeypatch.setattr(module, "wait_for_lock", held)
    found, number = compute()
    ((other, computed),) = others
    assert number == computed == 6 and found.logps == other.logps, "nothing twice"
    assert len(file_of(found).read_text().splitlines()) == 7


def test_a_base_that_gives_no_number_is_refused(
    compute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "pair_logps", lambda model, batch: [float("nan"), -1.0])
    with pytest.raises(ValueError, match="record 1: its reference log-probabilities are"):
        compute()
