"""The device and the precision to compute with."""

import contextlib
import os
import time
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

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


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor, to a CUDA device without waiting for what that has to do before."""
    return tensor.to(device, non_blocking=tensor.device.type == "cpu" and device.type == "cuda")


class Stopwatch:
    """Adds up how long computations take, those of a CUDA device too, without waiting for them."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._running: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextlib.contextmanager
    def over(self, device: torch.device) -> Iterator[None]:
        """Time what is computed in this context."""
        if device.type != "cuda":
            started = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - started
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record(torch.cuda.current_stream(device))
        yield
        end.record(torch.cuda.current_stream(device))
        self._running.append((begin, end))

    @property
    def seconds(self) -> float:
        """Of all that has ended."""
        running, self._running = self._running, []
        for begin, end in running:
            if end.query():
                self._seconds += begin.elapsed_time(end) / 1000
            else:
                self._running.append((begin, end))
        return self._seconds


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Return a context in which matrix products run in `precision`, "float32" or "bfloat16"."""
    check_precision(precision)
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, PRECISIONS[precision])


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """Return a context in which nothing is cast; the meta device never casts."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
