"""A progress bar with loss and speed."""

import time
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback


class TrainingProgressBar(TrainerCallback):
    """One bar with loss, tokens a second and time left, on the first process."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar at the step that training goes on from."""
        self._tokens, self._since = None, time.perf_counter()
        self._bar = tqdm(
            desc="Training",
            total=state.max_steps,
            initial=state.global_step,
            unit="step",
            disable=not state.is_world_process_zero,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance the bar."""
        self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the loss and the speed since the last time."""
        if not logs or "loss" not in logs:
            return
        now, tokens = time.perf_counter(), logs.get("num_tokens", 0)
        speed = (
            "" if self._tokens is None else f"{(tokens - self._tokens) / (now - self._since):,.0f}"
        )
        self._tokens, self._since = tokens, now
        self._bar.set_postfix_str(f"loss {logs['loss']:.4f}" + (speed and f", {speed} tokens/s"))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self._bar.close()
