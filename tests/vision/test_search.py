"""Near pairs are those of the naive search, to the last bit, however they are searched."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from verbalizer_bench.vision.features import Batch, unit_vectors
from verbalizer_bench.vision.search import HIT, Rule, Search, block_rows, read_hits, shard_blocks


class Made:
    """Vectors in memory, as a store gives them."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors, self.width = vectors, vectors.shape[1]

    def take(self, places: np.ndarray) -> np.ndarray:
        return self.vectors[places]


def made(count: int, width: int, seed: int) -> Made:
    """Return crowded vectors: many cosines are near the thresholds."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((count // 20 + 1, width))
    noise = draw.uniform(0.05, 0.6, (count, 1)) * draw.standard_normal((count, width))
    vectors = centres[draw.integers(len(centres), size=count)] + noise
    return Made(unit_vectors(Batch(vectors.astype(np.float32), ("",) * count, {}))[0])


def naive(similar: Made, different: Made, places: np.ndarray, above: float) -> np.ndarray:
    """Return all pairs one row at a time, in float64."""
    one, other = (vectors.vectors[places].astype(np.float64) for vectors in (similar, different))
    rows: list[Any] = []
    for i in range(len(places)):
        cosines = [
            (v[i + 1 :] @ v[i]) / np.sqrt((v[i + 1 :] ** 2).sum(1) * (v[i] ** 2).sum())
            for v in (one, other)
        ]
        for j in np.flatnonzero(cosines[0] > above):
            rows.append((places[i], places[i + 1 + j], cosines[0][j], cosines[1][j]))
    return np.array(rows, HIT)


def found(search: Search, folder: Path, shards: int = 1) -> np.ndarray:
    for shard in range(1, shards + 1):
        search.run(folder, shard, shards)
    return read_hits(folder, search.blocks, search.made)


@pytest.fixture(scope="module")
def towers() -> tuple[Made, Made]:
    return made(2000, 96, 1), made(2000, 64, 2)


def test_it_finds_what_the_naive_search_finds(
    tmp_path: Path, towers: tuple[Made, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    places = np.flatnonzero(np.arange(2000) % 7)
    wanted = naive(*towers, places, 0.8)
    assert len(wanted) > 2000
    whole = found(Search(*towers, places, Rule(0.8), {}), tmp_path / "whole")
    assert whole.tobytes() == wanted.tobytes()
    monkeypatch.setattr("verbalizer_bench.vision.search.block_rows", lambda width, memory: 96)
    in_blocks = Search(*towers, places, Rule(0.8), {})
    assert in_blocks.blocks == 18
    for shards in (1, 4):
        assert found(in_blocks, tmp_path / f"{shards}", shards).tobytes() == wanted.tobytes()


def test_a_threshold_that_is_a_pair_s_own_cosine_leaves_that_pair_out(
    tmp_path: Path, towers: tuple[Made, Made]
) -> None:
    places = np.arange(600)
    values = np.sort(naive(*towers, places, 0.7)["similar"])
    for at in np.linspace(0, len(values) - 1, 12, dtype=int):
        for above, count in (
            (values[at], np.sum(values > values[at])),
            (np.nextafter(values[at], 0), np.sum(values >= values[at])),
        ):
            search = Search(*towers, places, Rule(float(above)), {})
            assert len(found(search, tmp_path / repr(above))) == count


def test_cosines_of_stored_vectors_do_not_depend_on_the_order_of_a_sum() -> None:
    vectors = made(300, 768, 3).vectors.astype(np.float64)
    turned = np.random.default_rng(0).permutation(768)
    assert np.array_equal(vectors @ vectors.T, vectors[:, turned] @ vectors[:, turned].T)


def test_shards_have_each_row_once_and_about_as_many_blocks() -> None:
    shares = [shard_blocks(61, shard, 8) for shard in range(1, 9)]
    assert sorted(row for share in shares for row in share) == list(range(61))
    work = [sum(61 - row for row in share) for share in shares]
    assert max(work) < 1.15 * min(work)


def test_a_block_fits_into_what_it_may_use() -> None:
    assert block_rows(768, 1024) > 3 * block_rows(768, 192) > 0
    assert block_rows(1024, 1_000_000) == 16384
    with pytest.raises(ValueError, match="--memory 64: too little for vectors of 1024 numbers"):
        block_rows(1024, 64)


def test_too_many_pairs_are_refused_before_they_fill_the_disk(tmp_path: Path) -> None:
    same = Made(np.full((500, 16), 0.25, np.float16))
    search = Search(same, same, np.arange(500), Rule(most=1000), {})
    with pytest.raises(ValueError, match=r"more than 1,000 pairs are above 0\.95 .* raise --above"):
        search.run(tmp_path)
    assert not (tmp_path / "shard-1-of-1.hits").stat().st_size


def test_an_ended_search_goes_on_as_an_undisturbed_one(
    tmp_path: Path, towers: tuple[Made, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verbalizer_bench.vision.search.block_rows", lambda width, memory: 128)
    search = Search(*towers, np.arange(1000), Rule(0.8), {})
    wanted = found(search, tmp_path / "whole")
    whole = {file.name: file.read_bytes() for file in (tmp_path / "whole").iterdir()}
    for cut in (0, 1, 40, 150, 200, len(whole["shard-1-of-1.jsonl"]) - 1):
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        for name, content in whole.items():
            (folder / name).write_bytes(content[:cut] if name.endswith("jsonl") else content)
        assert found(search, folder).tobytes() == wanted.tobytes()
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole


def test_a_folder_of_another_search_is_refused(tmp_path: Path, towers: tuple[Made, Made]) -> None:
    found(Search(*towers, np.arange(100), Rule(0.8), {}), tmp_path)
    other = Search(*towers, np.arange(100), Rule(0.9), {})
    with pytest.raises(ValueError, match=r"pairs are of above=0\.8, and above=0\.9 is asked for"):
        other.run(tmp_path)
    with pytest.raises(ValueError, match=r"pairs are of above=0\.8"):
        read_hits(tmp_path, other.blocks, other.made)


def test_shards_that_are_missing_are_said(
    tmp_path: Path, towers: tuple[Made, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verbalizer_bench.vision.search.block_rows", lambda width, memory: 64)
    search = Search(*towers, np.arange(640), Rule(0.8), {})
    search.run(tmp_path, 1, 2)
    with pytest.raises(FileNotFoundError, match="5 of 10 rows of blocks are not searched"):
        read_hits(tmp_path, search.blocks, search.made)
    search.run(tmp_path, 2, 2)
    for suffix in ("jsonl", "hits"):
        shutil.copy(tmp_path / f"shard-2-of-2.{suffix}", tmp_path / f"shard-2-of-3.{suffix}")
    with pytest.raises(ValueError, match="another shard has its pairs too"):
        read_hits(tmp_path, search.blocks, search.made)


def test_shards_of_another_number_are_taken_and_not_searched_again(
    tmp_path: Path, towers: tuple[Made, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verbalizer_bench.vision.search.block_rows", lambda width, memory: 64)
    search = Search(*towers, np.arange(640), Rule(0.8), {})
    wanted = found(search, tmp_path / "whole")
    folder = tmp_path / "shards"
    search.run(folder, 1, 2)
    log, hits = folder / "shard-1-of-2.jsonl", folder / "shard-1-of-2.hits"
    # As it is when it was killed between the pairs of its last row and that row's line.
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    before = log.read_bytes(), hits.read_bytes()
    assert found(search, folder).tobytes() == wanted.tobytes()
    assert (log.read_bytes(), hits.read_bytes()) == before
    rows = [log.read_bytes().count(b"row") for log in sorted(folder.glob("*.jsonl"))]
    assert rows == [6, 4]
    search.run(folder, 1, 2)
    assert found(search, folder, 3).tobytes() == wanted.tobytes()
    with pytest.raises(ValueError, match=r"pairs are of above=0\.8, and above=0\.9 is asked for"):
        Search(*towers, np.arange(640), Rule(0.9), {}).run(folder, 4, 4)
    assert not (folder / "shard-4-of-4.jsonl").exists()


def test_what_other_shards_have_found_counts_towards_the_most(tmp_path: Path) -> None:
    same = Made(np.full((500, 16), 0.25, np.float16))
    search = Search(same, same, np.arange(500), Rule(most=130_000), {})
    search.run(tmp_path, 1, 1)
    count = len(read_hits(tmp_path, search.blocks, search.made))
    assert count == 500 * 499 // 2
    log = tmp_path / "shard-1-of-1.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    fewer = Search(same, same, np.arange(500), Rule(most=count - 1), {})
    with pytest.raises(ValueError, match="more than 124,749 pairs are above"):
        fewer.run(tmp_path, 1, 1)
