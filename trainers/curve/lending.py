"""Lend a model that is being trained to what evaluates it, and have it back as it was."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Give all random generators the states back that they had."""
    states = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


@contextmanager
def lent(model: Any, dtype: torch.dtype, generation_config: Any) -> Iterator[Any]:
    """Yield a model as it would be if it were saved and loaded, adapters not merged.

    Its weights are in the type in which the checkpoint would be loaded, its forward pass is its
    class's (trainers put autocast and a head of their own round it), and it generates by the saved
    configuration.

    Args:
        model: The model without the wrappers of trainers and adapters, in evaluation mode.
        dtype: The type of the saved checkpoint.
        generation_config: What is saved beside it.
    """
    _free_cached()
    with ExitStack() as stack:
        stack.enter_context(_in_type(model, dtype))
        stack.enter_context(_attributes_kept(model, generation_config))
        yield model
    _free_cached()


def _free_cached() -> None:
    """Give back what torch holds of a GPU for reuse: training's sizes are not evaluation's."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Have a model in evaluation mode, each of its modules then as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _in_type(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Round weights to a type while they are evaluated; quantised ones stay as they are."""
    kept = [
        (weight, weight.data)
        for weight in model.parameters()
        if weight.is_floating_point() and weight.dtype.itemsize > 1 and weight.dtype != dtype
    ]
    try:
        for weight, _ in kept:
            weight.data = weight.data.to(dtype)
        yield
    finally:
        for weight, data in kept:
            weight.data = data


@contextmanager
def _attributes_kept(model: Any, generation_config: Any) -> Iterator[None]:
    """Take away what was put over the model's own methods, and give it back."""
    before = vars(model).copy()
    # Where layers are spread over devices accelerate's hook has to move what goes in.
    if not hasattr(model, "_hf_hook"):
        vars(model).pop("forward", None)
    model.generation_config = generation_config
    # lm-eval ties weights of every model that it is given: what is one here is tied already.
    model.tie_weights = lambda: None
    try:
        yield
    finally:
        vars(model).clear()
        vars(model).update(before)
