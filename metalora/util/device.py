"""The device and the precision to compute with."""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from metalora.util.checks import check_precision
from metalora.util.errors import InputError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
AUTO = "METALORA_DEVICE"  # environment variable: what "auto" means in this process


_DEVICE: ContextVar[str | None] = ContextVar("device", default=None)


@contextlib.contextmanager
def use_device(name: str | None) -> Iterator[None]:
    """Let "auto" mean a certain device in this context; None changes nothing."""
    token = _DEVICE.set(name or _DEVICE.get())
    try:
        yield
    finally:
        _DEVICE.reset(token)


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of this name.

    Args:
        name: "auto" is the device of `use_device`, else that of the environment variable METALORA_DEVICE, else the
            first that this machine has of cuda, mps and cpu.

    Raises:
        InputError: this machine has no such device, or there is none of this name.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = _DEVICE.get() or os.environ.get(AUTO, name)
    if name == "auto":
        return torch.device(next(kind for kind, available in present.items() if available))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in present:
        raise InputError(f"Unknown device {name!r}: use auto, cpu, cuda or mps.")
    missing = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if missing or not present[device.type]:
        raise InputError(f"This machine has no device {name!r}: use --device auto or cpu.")
    return device


def device_name(device: torch.device) -> str:
    """Return the name of a device for results: the model of a CUDA card, else "cpu" or "mps"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Return a context in which matrix products run in `precision`, "float32" or "bfloat16"."""
    check_precision(precision)
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, PRECISIONS[precision])


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """Return a context in which nothing is cast; the meta device never casts."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
