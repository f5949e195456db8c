"""Our log lines beside lm-eval's: the same place, the same form, the level that its user chose.

lm-eval's command line sets up the logger `lm_eval` alone, so that what ours says at INFO would be
seen nowhere.
"""

import logging
import os

_LM_EVAL = logging.getLogger("lm_eval")


class _AsLmEvals(logging.Handler):
    """Hand lines to lm-eval's handlers, unless the root logger has some: those print them too."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger().handlers or not _LM_EVAL.isEnabledFor(record.levelno):
            return
        for handler in _LM_EVAL.handlers:
            handler.handle(record)


def show_log_lines() -> None:
    """Show our log lines where and from which level lm-eval shows its own.

    Where nobody set up lm-eval's logging nothing changes. Other ranks than 0 say no more than
    warnings.
    """
    if not _LM_EVAL.handlers:
        return
    ours = logging.getLogger("verbalizer_bench")
    first = os.environ.get("RANK", "0") == "0"
    ours.setLevel(_LM_EVAL.level if first else max(_LM_EVAL.level, logging.WARNING))
    if not any(isinstance(handler, _AsLmEvals) for handler in ours.handlers):
        ours.addHandler(_AsLmEvals())
