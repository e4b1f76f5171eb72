"""Knobs that shift an image as the tasks of the suites do, and further."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metalora.suites.task_lists import ORDERS, TaskList
from metalora.suites.transforms import (
    Blur,
    Identity,
    Invert,
    LowerContrast,
    Noise,
    Pixelate,
    ReorderChannels,
    Rotate,
    Transform,
    Turn,
)
from metalora.util.errors import InputError, choices

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Knob:
    """One way to shift an image.

    Attributes:
        title: What it does, with the unit of its values.
        values: That it can have, numbers in ascending order.
        neutral: Value at which it does nothing.
        transform: A value → what it does to images.
        shown_by: Kind of transform by which tasks show this shift.
        value_of: Such a transform → the knob's value.
    """

    title: str
    values: tuple[Any, ...]
    neutral: Any
    transform: Callable[[Any], Transform]
    shown_by: type[Transform]
    value_of: Callable[[Any], Any]

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers, which may lie between those of `values` too."""
        return type(self.neutral) is float


def _range(low: float, high: float, steps: int) -> tuple[float, ...]:
    return tuple(round(low + (high - low) * i / steps, 4) for i in range(steps + 1))


KNOBS = {
    "rotation": Knob("Rotation, °", _range(0, 345, 23), 0.0, Turn, Rotate, lambda turn: 90.0 * (turn.quarters % 4)),
    "channels": Knob(
        "Channels",
        tuple(ORDERS),
        "rgb",
        ORDERS.__getitem__,
        ReorderChannels,
        lambda reorder: "".join("rgb"[channel] for channel in reorder.order),
    ),
    "inversion": Knob(
        "Inversion", (False, True), False, lambda on: Invert() if on else Identity(), Invert, lambda invert: True
    ),
    "noise": Knob("Noise, σ", _range(0, 0.3, 12), 0.0, Noise, Noise, lambda noise: noise.deviation),
    "blur": Knob("Blur, %", _range(0, 10, 10), 0.0, lambda v: Blur(v / 100), Blur, lambda blur: 100 * blur.fraction),
    "contrast": Knob(
        "Contrast, %",
        _range(0, 100, 20),
        100.0,
        lambda v: LowerContrast(v / 100),
        LowerContrast,
        lambda lower: 100 * lower.keep,
    ),
    "pixelation": Knob("Pixelation, ×", _range(1, 6, 10), 1.0, Pixelate, Pixelate, lambda coarse: float(coarse.factor)),
}


def shift(images: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Shift images by several knobs, in the order of `KNOBS`.

    Args:
        images: Float RGB in [0, 1], (N, 3, S, S).
        settings: Knob → value; a knob that is not named is at its neutral value.

    Raises:
        InputError: There is no such knob, or it cannot have this value.
    """
    for name, value in settings.items():
        if name not in KNOBS:
            raise InputError(f"There is no knob {name!r}: use {choices(name, KNOBS)}.")
        _check(name, value)
    for name, knob in KNOBS.items():
        value = settings.get(name, knob.neutral)
        if value != knob.neutral:
            images = knob.transform(value)(images)
    return images


def _check(name: str, value: Any) -> None:
    knob = KNOBS[name]
    if knob.is_number:
        low, high = knob.values[0], knob.values[-1]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise InputError(f"{name} is {value!r}: use a number from {low:g} to {high:g}.")
    elif value not in knob.values:
        raise InputError(f"{name} is {value!r}: use {', '.join(map(str, knob.values))}.")


def trained_values(tasks: TaskList | None) -> dict[str, list[Any]]:
    """Return knob → values that tasks show, without the neutral one; nothing for knobs that no task turns.

    Args:
        tasks: Of the suite that an adapter was trained on; None where tasks are folders.
    """
    parts = [part for transform in tasks.transforms for part in transform.parts] if tasks else []
    shown = {name: {knob.value_of(p) for p in parts if isinstance(p, knob.shown_by)} for name, knob in KNOBS.items()}
    return {
        name: sorted(values - {KNOBS[name].neutral}) for name, values in shown.items() if values - {KNOBS[name].neutral}
    }
