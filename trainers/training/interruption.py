"""Ctrl-C, and SIGTERM of a scheduler, end training behind the present step, with a state saved."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback

log = logging.getLogger(__name__)


class Interruption(TrainerCallback):
    """Ends training at the end of a step once the process was told to end.

    Attributes:
        happened: Whether training was ended so.
    """

    def __init__(self, evaluates_first: bool = False) -> None:
        """Say what comes before the state is saved.

        Args:
            evaluates_first: Whether an evaluation that is due then is made; else it is made up
                for when training goes on: a scheduler waits half a minute.
        """
        self._asked = self.happened = False
        self._evaluates_first = evaluates_first

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Take Ctrl-C while training runs; a second one ends it at once.

        The command line's SIGTERM does what Ctrl-C does (`errors.terminations`).

        Raises:
            KeyboardInterrupt: Training was ended so.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def ask(number: int, frame: Any) -> None:
            if self._asked:
                raise KeyboardInterrupt
            self._asked = True
            log.warning("Told to end: a state is saved behind this step; once more ends at once")

        signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        if self.happened:
            raise KeyboardInterrupt

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Have the state saved, and training end, where any process was told to."""
        if state.global_step == state.max_steps or not self._asked_anywhere(args):
            return
        self.happened = control.should_save = control.should_training_stop = True
        control.should_evaluate = control.should_evaluate and self._evaluates_first

    def _asked_anywhere(self, args: Any) -> bool:
        if args.world_size == 1:
            return self._asked
        asked = torch.tensor(int(self._asked), device=args.device)
        torch.distributed.all_reduce(asked, op=torch.distributed.ReduceOp.MAX)
        return bool(asked)
