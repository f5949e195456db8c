"""verbalizer-bench: does tuning hurt a model's ability to follow instructions?

From Python: `import verbalizer_bench as vb`, then `vb.evaluate`, `vb.load_run`, `vb.report`,
`vb.compare`, `vb.explain`, `vb.ask`, `vb.validate_data`, `vb.train` and `vb.build_data` (see
`verbalizer_bench.api`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from verbalizer_bench.version import __version__

__all__ = [
    "__version__",
    "ask",
    "build_data",
    "compare",
    "evaluate",
    "explain",
    "load_run",
    "report",
    "train",
    "validate_data",
]

if TYPE_CHECKING:
    from verbalizer_bench.api import (
        ask,
        build_data,
        compare,
        evaluate,
        explain,
        load_run,
        report,
        train,
        validate_data,
    )
else:  # Not for type checkers: they would take any name for one of these.

    def __getattr__(name: str) -> Any:
        """Import a function of the API where it is first used."""
        if name in __all__:
            return getattr(import_module("verbalizer_bench.api"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
