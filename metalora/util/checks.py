"""Checks of numbers that users give."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from metalora.util.errors import InputError

MAX_SEED = 2**32 - 1  # the largest that numpy takes


def check_int(name: str, value: Any, minimum: int = 1, maximum: int | None = None) -> None:
    """Check that a setting is a whole number within bounds.

    Args:
        name: Name of the setting.
        value: Its value.
        minimum: Smallest value allowed.
        maximum: Largest value allowed; None for no bound.

    Raises:
        InputError: The value is empty, no whole number, or out of bounds.
    """
    if _is_number(value) and isinstance(value, int) and minimum <= value <= (value if maximum is None else maximum):
        return
    shown = "empty" if value is None else f"{value:,}" if _is_number(value) else repr(value)
    span = f"from {minimum:,} to {maximum:,}" if maximum is not None else f"of {minimum:,} or more"
    raise InputError(f"{name} is {shown}: use a whole number {span}.")


def check_float(name: str, value: Any, fits: Callable[[float], bool], use: str) -> None:
    """Check that a setting is a finite number of a certain kind.

    Args:
        name: Name of the setting.
        value: Its value.
        fits: Tells whether a finite number is of that kind.
        use: The kind in words, after "use".

    Raises:
        InputError: The value is empty, no finite number, or not of that kind.
    """
    if not (_is_number(value) and abs(value) <= sys.float_info.max and fits(value)):
        raise InputError(f"{name} is {'empty' if value is None else repr(value)}: use {use}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_device(name: Any) -> None:
    """Check that a device is one that this machine may have, which `pick_device` finds out.

    Raises:
        InputError: There is none of this name.
    """
    if not (isinstance(name, str) and re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name)):
        raise InputError(f"Unknown device {name!r}: use auto, cpu, cuda or mps.")


def check_precision(name: Any) -> None:
    """Check the name of a precision.

    Raises:
        InputError: There is none of this name.
    """
    if name not in ("float32", "bfloat16"):
        raise InputError(f"Unknown precision {name!r}: use float32 or bfloat16.")


def check_ks(ks: Sequence[int]) -> None:
    """Check the Ks of k-NN.

    Raises:
        InputError: There is none, or one is no whole number of 1 or more.
    """
    if not ks:
        raise InputError("There is no K for k-NN: name one or more, such as 5 and 10.")
    for k in ks:
        check_int("K", k)


def whole_from_environment(variable: str, default: int) -> int:
    """Return the whole number that an environment variable holds; `default` where it is not set.

    Raises:
        InputError: It holds something else.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise InputError(f"{variable} is {text!r}: set a whole number of 0 or more.")
    return int(text)
