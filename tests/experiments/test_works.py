import logging
from pathlib import Path

import pytest

from verbalizer_bench.experiments.works import Work, timed

LOG = logging.getLogger("a work's")


def warn(text: str) -> str:
    """Print, and log by a handler that the first work sets up."""
    if not LOG.handlers:
        LOG.addHandler(logging.StreamHandler())
    print(f"printed {text}")
    LOG.warning("logged %s", text)
    return text


def test_each_work_has_what_it_printed_and_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        work = Work("kind", name, tmp_path / name / "log.txt", warn, (name,))
        assert timed(work)[1] == name
        assert work.log.read_text() == f"printed {name}\nlogged {name}\n"
    LOG.handlers.clear()
    assert capsys.readouterr() == ("", "")
