"""Whole numbers as people give them."""

from typing import Any

from metalora.errors import InputError

LARGEST_SEED = 2**32 - 1  # that every random generator in use takes


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> None:
    """See that a setting is a whole number within bounds.

    Args:
        name: of the field.
        most: None: no upper bound.

    Raises:
        InputError: it is empty, no whole number, or out of bounds.
    """
    fits = isinstance(value, int) and not isinstance(value, bool)
    if fits and least <= value and (most is None or value <= most):
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    told = "empty" if value is None else f"{value:,}" if number else repr(value)
    span = f"from {least:,} to {most:,}" if most is not None else f"of {least:,} or more"
    raise InputError(f"{name} is {told}: use a whole number {span}.")
