"""Told to end, training ends behind a step with a state; told twice, at once."""

import os
import signal
from types import SimpleNamespace

import pytest
from transformers import TrainerControl

from verbalizer_bench.trainers.training.interruption import Interruption


def told() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def step_end(interruption: Interruption, step: int) -> TrainerControl:
    control = TrainerControl(should_evaluate=True)
    state = SimpleNamespace(global_step=step, max_steps=10)
    interruption.on_step_end(SimpleNamespace(world_size=1), state, control)
    return control


def test_the_step_is_finished_and_saved() -> None:
    interruption = Interruption()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruption.awaited():
        assert not step_end(interruption, 1).should_training_stop
        told()
        control = step_end(interruption, 2)
        assert control.should_save and control.should_training_stop and not control.should_evaluate
    assert interruption.happened and signal.getsignal(signal.SIGINT) is before


def test_an_evaluation_that_may_end_training_is_made_first() -> None:
    interruption = Interruption(evaluates_first=True)
    with pytest.raises(KeyboardInterrupt), interruption.awaited():
        told()
        assert step_end(interruption, 2).should_evaluate


def test_behind_the_last_step_there_is_nothing_to_save() -> None:
    interruption = Interruption()
    with interruption.awaited():
        told()
        assert not step_end(interruption, 10).should_save
    assert not interruption.happened


def test_told_twice_it_ends_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption().awaited():
        told()
        told()
        pytest.fail("it went on")
