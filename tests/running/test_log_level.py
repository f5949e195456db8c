"""What a run within another command logs, and that the process is as it was afterwards."""

import os

import pytest

from verbalizer_bench.running.log_level import lm_eval_warnings_only


def test_the_level_is_for_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMEVAL_LOG_LEVEL", raising=False)
    with pytest.raises(ZeroDivisionError), lm_eval_warnings_only():
        assert os.environ["LMEVAL_LOG_LEVEL"] == "WARNING"
        _ = 1 / 0
    assert "LMEVAL_LOG_LEVEL" not in os.environ


def test_the_users_level_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMEVAL_LOG_LEVEL", "DEBUG")
    with lm_eval_warnings_only():
        assert os.environ["LMEVAL_LOG_LEVEL"] == "DEBUG"
    assert os.environ["LMEVAL_LOG_LEVEL"] == "DEBUG"
