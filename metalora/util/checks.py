"""Numbers as people give them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from metalora.util.errors import InputError

LARGEST_SEED = 2**32 - 1  # that every random generator in use takes


def check_int(name: str, value: Any, least: int = 1, most: int | None = None) -> None:
    """See that a setting is a whole number within bounds.

    Args:
        name: of the field.
        most: None: no upper bound.

    Raises:
        InputError: it is empty, no whole number, or out of bounds.
    """
    if _is_number(value) and isinstance(value, int) and least <= value and (most is None or value <= most):
        return
    told = "empty" if value is None else f"{value:,}" if _is_number(value) else repr(value)
    span = f"from {least:,} to {most:,}" if most is not None else f"of {least:,} or more"
    raise InputError(f"{name} is {told}: use a whole number {span}.")


def check_float(name: str, value: Any, fits: Callable[[float], bool], use: str) -> None:
    """See that a setting is a finite number of a certain kind.

    Args:
        name: of the field.
        fits: whether a finite number is of that kind.
        use: the kind in words, after "use".

    Raises:
        InputError: it is empty, no finite number, or not of that kind.
    """
    if not (_is_number(value) and math.isfinite(value) and fits(value)):
        raise InputError(f"{name} is {'empty' if value is None else repr(value)}: use {use}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_ks(ks: Sequence[int]) -> None:
    """Refuse what is no K.

    Raises:
        InputError: there is none, or one is no whole number of 1 or more.
    """
    if not ks:
        raise InputError("There is no K for k-NN: name one or more, such as 5 and 10.")
    for k in ks:
        check_int("K", k)
