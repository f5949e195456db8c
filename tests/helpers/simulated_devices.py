"""Devices that are none: tensors that say they are on `sim:0` or `sim:1`, and are on the CPU.

An operation on tensors of two devices, or of one and the CPU, fails as it does with a GPU's, so
that a program that mixes them is found where there is no GPU; what it computes is right. What makes
the host wait for a GPU (`.item()`, `.tolist()`, `nonzero`, a bool) is counted.

Registering a backend is for good: use it in a process of its own.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

# What copies between devices, and what takes indices from the CPU, on a GPU too.
_COPIES = {"copy_", "_to_copy", "to", "_copy_from"}
_INDEXING = {"index", "index_put_", "index_put", "_index_put_impl_"}
_WAITS = {"item", "_local_scalar_dense", "is_nonzero", "nonzero"}


def available() -> bool:
    """Return whether this torch lets Python be a backend."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


class _Tensor(torch.Tensor):
    """A CPU tensor that says it is elsewhere."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device) -> "_Tensor":
        made: _Tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=device,
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def tolist(self) -> Any:
        waits["tolist"] += 1
        return self.inner.tolist()


waits: Counter[str] = Counter()


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = func._schema.name.split("::")[1]
    flat, _ = tree_flatten((args, kwargs))
    tensors = [each for each in flat if isinstance(each, torch.Tensor)]
    # A number on the CPU goes anywhere.
    devices = {str(each.device) for each in tensors if each.dim() or isinstance(each, _Tensor)}
    if len(devices) > 1 and name not in _COPIES | _INDEXING:
        raise RuntimeError(f"{name}: tensors on {' and '.join(sorted(devices))}")
    simulated = [each for each in tensors if isinstance(each, _Tensor)]
    if simulated and name in _WAITS:
        waits[name] += 1
    asked = [each for each in flat if isinstance(each, torch.device)]
    if asked:
        target = asked[0]
    elif name == "copy_" or not simulated:
        target = tensors[0].device if tensors else torch.device("cpu")
    else:
        target = simulated[0].device
    known = {id(each.inner): each for each in simulated}

    def wrapped(result: Any) -> Any:
        if not isinstance(result, torch.Tensor) or target.type == "cpu":
            return result
        before = known.get(id(result))
        if before is not None and before.device == target:
            return before
        return _Tensor(result, target)

    return tree_map(wrapped, func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs)))


def _unwrapped(value: Any) -> Any:
    if isinstance(value, _Tensor):
        return value.inner
    return torch.device("cpu") if isinstance(value, torch.device) else value


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """`torch.tensor` makes its tensor where no mode is asked."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and kwargs.get("device") is not None:
            device = torch.device(kwargs.pop("device"))
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


class _Guard(torch._C._acc.DeviceGuard):
    def type_(self) -> Any:
        return torch._C._autograd.DeviceType.PrivateUse1


@contextmanager
def simulated_devices() -> Iterator[None]:
    """Have `sim:0` and `sim:1` be devices."""
    if not hasattr(torch, "sim"):
        backend_registration._setup_privateuseone_for_python_backend("sim", device_guard=_Guard())
    with patch("torch.accelerator.synchronize"), _Dispatch(), _Functions():
        yield


def move(module: torch.nn.Module, device: str) -> None:
    """Put a module's weights and buffers on a device."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                moved = torch.nn.Parameter(weight.data.to(device), requires_grad=False)
                part._parameters[name] = moved
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = buffer.to(device)


def split(model: Any, places: dict[str, str]) -> None:
    """Put modules on devices, and have inputs follow them, as `device_map` does."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    for name, device in places.items():
        move(model.get_submodule(name), device)
        hook = AlignDevicesHook(torch.device(device), place_submodules=False)
        add_hook_to_module(model.get_submodule(name), hook)
    first = torch.device(next(iter(places.values())))
    add_hook_to_module(model, AlignDevicesHook(first, io_same_device=True))
