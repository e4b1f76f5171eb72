"""Where and in which precision to compute."""

import contextlib
import os

import torch

from metalora.util.errors import InputError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
AUTO = "METALORA_DEVICE"  # environment: what "auto" means to this process


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is what the environment says in METALORA_DEVICE, else cuda, mps or cpu, the
    first that is here.

    Raises:
        InputError: the device does not exist here, or the name is none.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    name = os.environ.get(AUTO, name) if name == "auto" else name
    if name == "auto":
        return torch.device(next(kind for kind, here in present.items() if here))
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
    """What a result says of where it was computed: the model of a CUDA card, else "cpu" or "mps"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Context in which matrix products run in `precision` ("float32" or "bfloat16")."""
    if precision not in PRECISIONS:
        raise InputError(f"Unknown precision {precision!r}: use float32 or bfloat16.")
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, PRECISIONS[precision])
