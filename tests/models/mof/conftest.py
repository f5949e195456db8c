"""A checkpoint of each mixture, made once."""

from pathlib import Path

import pytest

from tests.helpers.mof import SETTINGS, save_mof


@pytest.fixture(scope="session")
def mofs(toys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a checkpoint's folder for each mixture of a CLIP and a DINOv2."""
    folder = tmp_path_factory.mktemp("mofs")
    return {mixture: save_mof(folder, toys[0], mixture) for mixture in SETTINGS}
