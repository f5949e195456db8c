"""What our log says under lm-eval's logging: once, in its place, from the level that was chosen."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from verbalizer_bench.models.adapters.llm import VerbalizerLLM
from verbalizer_bench.models.adapters.log_lines import quiet_task_lines, show_log_lines

LM_EVAL = logging.getLogger("lm_eval")


@contextmanager
def logging_of(logger: logging.Logger, level: str = "INFO") -> Iterator[io.StringIO]:
    """Have this logger's handler be the only one of lm-eval's and the root's, pytest's included."""
    loggers = (LM_EVAL, logging.getLogger())
    before = [one.handlers for one in loggers]
    for one in loggers:
        one.handlers = []
    logger.addHandler(logging.StreamHandler(shown := io.StringIO()))
    old, propagate = LM_EVAL.level, LM_EVAL.propagate
    LM_EVAL.setLevel(level)
    LM_EVAL.propagate = False
    try:
        yield shown
    finally:
        LM_EVAL.setLevel(old)
        LM_EVAL.propagate = propagate
        for one, handlers in zip(loggers, before, strict=True):
            one.handlers = handlers


def say() -> None:
    """Say a line at each of three levels."""
    ours = logging.getLogger("verbalizer_bench.models.adapters.engine_choice")
    ours.debug("debug")
    ours.info("info")
    ours.warning("warning")


@pytest.mark.parametrize(
    ("level", "rank", "lines"),
    [
        ("DEBUG", "0", ["debug", "info", "warning"]),
        ("INFO", "0", ["info", "warning"]),
        ("WARNING", "0", ["warning"]),
        ("ERROR", "0", []),
        ("INFO", "1", ["warning"]),
        ("ERROR", "1", []),
    ],
)
def test_lines_are_shown_once_from_lm_evals_level(
    level: str, rank: str, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    with logging_of(LM_EVAL, level) as shown:
        show_log_lines()
        show_log_lines()
        say()
    assert shown.getvalue().splitlines() == lines


def test_who_logs_at_the_root_gets_each_line_once() -> None:
    """The handler that lm-eval has too is not given the line then."""
    with logging_of(LM_EVAL) as shown:
        show_log_lines()
        logging.getLogger().addHandler(logging.StreamHandler(root := io.StringIO()))
        say()
    assert root.getvalue().splitlines() == ["info", "warning"] and not shown.getvalue()


def test_a_level_that_is_raised_later_holds() -> None:
    """As `lm_eval --verbosity` does behind the load of the model."""
    with logging_of(LM_EVAL) as shown:
        show_log_lines()
        LM_EVAL.setLevel(logging.ERROR)
        say()
    assert not shown.getvalue()


def test_nothing_is_set_up_where_lm_eval_is_not() -> None:
    ours = logging.getLogger("verbalizer_bench")
    with logging_of(logging.getLogger()) as shown:
        show_log_lines()
        say()
    assert shown.getvalue().splitlines() == ["warning"]
    assert not ours.handlers and ours.level == logging.NOTSET


def test_an_adapter_in_plain_lm_eval_shows_its_lines(toys: tuple[Path, Path]) -> None:
    with logging_of(LM_EVAL) as shown:
        model = VerbalizerLLM(str(toys[0]), device="cpu", dtype="float32", batch_size="auto")
        model._plain_batch_size(8)
    assert shown.getvalue().count("batch_size=auto: ") == 1


@pytest.mark.parametrize("served", [False, True])
def test_what_lm_eval_says_of_each_task_is_said_once(served: bool) -> None:
    """Of our tasks; a server is not asked as it says."""
    asked = "Using gen_kwargs: {'num_beams': 10}"
    with logging_of(LM_EVAL) as shown:
        evaluator = logging.getLogger("lm_eval.evaluator")
        utilities = logging.getLogger("lm_eval.evaluator_utils")
        with quiet_task_lines(served):
            for line in ("Selected tasks:", "Group: verbalizer", "  Task: verbalizer_a (x)"):
                utilities.info(line)
            utilities.info("Task: ifeval (y)")
            for task in ("verbalizer_a", "verbalizer_b", "ifeval"):
                evaluator.info(f"{task}: {asked}")
            evaluator.info("verbalizer_c: Using gen_kwargs: {'num_beams': 1}")
            evaluator.warning("Overwriting default num_fewshot of ifeval from 0 to 1")
        utilities.info("Selected tasks:")
    said = ["Task: ifeval (y)"]
    if not served:
        said += [
            f"verbalizer_a and all like it: {asked}",
            f"ifeval: {asked}",
            "verbalizer_c and all like it: Using gen_kwargs: {'num_beams': 1}",
        ]
    said += ["Overwriting default num_fewshot of ifeval from 0 to 1", "Selected tasks:"]
    assert shown.getvalue().splitlines() == said
