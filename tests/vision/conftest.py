"""Towers that the tests of this folder share."""

from pathlib import Path

import pytest

from tests.helpers import towers


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return towers.clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return towers.siglip(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="session")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return towers.dinov2(tmp_path_factory.mktemp("dinov2"))
