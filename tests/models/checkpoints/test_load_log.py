"""What transformers says of a load and is not so is not in the log; what is so stays there."""

import importlib
import inspect
import logging
from types import SimpleNamespace

import pytest

from verbalizer_bench.models.checkpoints.load_log import PACKED, UNSHARDED, true_lines_only

OTHER = "Some weights are not what they seem"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Return what is logged, of transformers too."""
    for name, _ in (PACKED, UNSHARDED):
        logging.getLogger(name).addHandler(caplog.handler)
    yield caplog
    for name, _ in (PACKED, UNSHARDED):
        logging.getLogger(name).removeHandler(caplog.handler)


def messages(caplog: pytest.LogCaptureFixture) -> set[str]:
    return {record.getMessage() for record in caplog.records}


@pytest.mark.parametrize(("name", "beginnings"), [PACKED, UNSHARDED])
def test_transformers_says_so(name: str, beginnings: tuple[str, ...]) -> None:
    source = inspect.getsource(importlib.import_module(name))
    assert all(beginning in source for beginning in beginnings)


@pytest.mark.parametrize("asked", [{}, {"tp_plan": "auto"}])
def test_who_asked_for_no_shards_hears_of_none(
    asked: dict[str, str], said: pytest.LogCaptureFixture
) -> None:
    name, beginnings = UNSHARDED
    with true_lines_only(asked):
        for line in (*beginnings, OTHER):
            logging.getLogger(name).warning(line)
    assert messages(said) == {OTHER, *(beginnings if asked else ())}


@pytest.mark.parametrize("packed", [{}, {"layer": "module"}])
def test_weights_are_called_packed_that_are(
    packed: dict[str, str], said: pytest.LogCaptureFixture
) -> None:
    name, (line,) = PACKED
    with true_lines_only({}) as log_true_lines:
        logging.getLogger(name).warning(line)
        logging.getLogger(name).warning(OTHER)
        assert messages(said) == {OTHER}
    log_true_lines(SimpleNamespace(hf_quantizer=SimpleNamespace(packed_modules=packed)))
    assert messages(said) == {OTHER, *([line] if packed else [])}
