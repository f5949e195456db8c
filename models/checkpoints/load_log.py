"""What transformers logs of a load that is not so of the model that is loaded."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

# Where nobody asked to spread a model's tensors over devices.
UNSHARDED = (
    "transformers.distributed.tensor_parallel",
    ("The following layers were not sharded", "The following TP rules were not applied"),
)
# That weights stay quantised, which it says of GGUFs that it unpacks, too.
PACKED = (
    "transformers.quantizers.quantizer_gguf",
    ("Loading a GGUF checkpoint with its weights packed",),
)


@contextmanager
def true_lines_only(options: Mapping[str, Any]) -> Iterator[Callable[[Any], None]]:
    """Keep out of the log what is not so, while a model is loaded.

    Args:
        options: The arguments of `from_pretrained`.

    Yields:
        What is given the loaded model, and logs what turned out to be so.
    """
    held: list[logging.LogRecord] = []
    with ExitStack() as stack:
        if not (options.get("tp_plan") or options.get("distributed_config")):
            stack.enter_context(_held_back(*UNSHARDED, []))
        stack.enter_context(_held_back(*PACKED, held))
        yield lambda model: _log_if_packed(model, held)


def _log_if_packed(model: Any, held: list[logging.LogRecord]) -> None:
    if getattr(getattr(model, "hf_quantizer", None), "packed_modules", None):
        for record in held:
            logging.getLogger(record.name).callHandlers(record)


@contextmanager
def _held_back(
    name: str, beginnings: tuple[str, ...], held: list[logging.LogRecord]
) -> Iterator[None]:
    """Keep a logger's lines that begin so out of the log, and in the list."""
    log = logging.getLogger(name)

    def passes(record: logging.LogRecord) -> bool:
        if not record.getMessage().startswith(beginnings):
            return True
        held.append(record)
        return False

    log.addFilter(passes)
    try:
        yield
    finally:
        log.removeFilter(passes)
