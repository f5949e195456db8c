"""The curves in miniature: what is said of known tables, and that a small grid is run whole."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from verbalizer_bench.experiments.grids import as_yaml
from verbalizer_bench.experiments.miniature.curve.grid import CurveGrid, read_grid
from verbalizer_bench.experiments.miniature.curve.report import course, write
from verbalizer_bench.experiments.miniature.curve.run import main
from verbalizer_bench.experiments.miniature.curve.tables import CurveTables, read_tables
from verbalizer_bench.tasks.spec import LABEL_TYPES

SMALL = CurveGrid(
    seeds=(0, 1),
    arms=("LLM-FOIT", "LVLM-LLaVA"),
    images=("white",),
    steps=1,
    limit=2,
    texts=2,
    items=64,
    unseen=12,
    captions=96,
)


def tables(means: list[list[float]]) -> CurveTables:
    """Return an arm's tables whose F1 by seed and step is known; documents differ a little."""
    noise = np.array([0.02, -0.02, 0.01, -0.01])
    f1 = np.array(means)[:, :, None] + noise * np.arange(len(means[0]))[None, :, None]
    found = {("LLM-FOIT", group): f1 for group in (*LABEL_TYPES, "All")}
    steps = [10 * step for step in range(len(means[0]))]
    return CurveTables(SMALL, {}, steps, {}, found, ["sst2", "sst2", "rte", "rte"])


def test_when_a_label_type_falls_is_read_from_its_intervals() -> None:
    falls = course(
        tables([[0.9, 0.88, 0.5, 0.3], [0.9, 0.93, 0.52, 0.3], [0.9, 0.9, 0.51, 0.3]]),
        "LLM-FOIT",
        "natural",
    )
    assert (falls.from_step, falls.direction, falls.half) == (20, -1, 20)
    assert falls.start == pytest.approx(0.9) and falls.change.mean == pytest.approx(-0.6)
    assert falls.lowest == (pytest.approx(0.3), 30)
    back = course(tables([[0.9, 0.5, 0.85], [0.9, 0.52, 0.97]]), "LLM-FOIT", "natural")
    assert (back.from_step, back.direction, back.half) == (10, -1, None)
    still = course(tables([[0.9, 0.9], [0.9, 0.95]]), "LLM-FOIT", "natural")
    assert (still.from_step, still.direction, still.half) == (None, 0, None)


@pytest.mark.parametrize("words", ["limit=1", "limit=99", "images=[white,black]", "arms=[LLM]"])
def test_a_wrong_grid_is_told(words: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=words.partition("=")[0]):
        main([str(tmp_path / "out"), words, "--report", str(tmp_path / "report")])


def test_the_grid_that_is_shipped_is_read() -> None:
    assert read_grid().arms[-1] == "LVLM-LLaVA"


def test_the_committed_page_is_that_of_its_tables(tmp_path: Path) -> None:
    folder = REPOSITORY / "experiments" / "miniature" / "results" / "curve"
    shutil.copytree(folder, tmp_path / "curve")
    assert write(tmp_path / "curve").read_text() == (folder / "README.md").read_text()


@pytest.mark.slow
def test_a_small_grid_is_run_and_reported(tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(as_yaml(SMALL))
    words = [str(tmp_path / "out"), "--grid", str(grid), "--jobs", "1"]
    main([*words, "--report", str(tmp_path / "report")])
    found = read_tables(tmp_path / "report")
    assert found.steps == [0, 1, 2] and len(found.datasets) == 18
    page = (tmp_path / "report" / "README.md").read_text()
    assert "216 prompts (18 documents x 12 verbalizers" in page and "LVLM-LLaVA" in page
    assert (tmp_path / "report" / "curves.png").stat().st_size > 20_000
    # Again, it finds all and says the same.
    main([*words, "--report", str(tmp_path / "again")])
    assert (tmp_path / "again" / "README.md").read_text() == page
    assert write(tmp_path / "again").read_text() == page
