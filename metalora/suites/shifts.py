"""Shifts: what a task does to a picture, and the lists of tasks made of them.

Every function maps float images (N, 3, S, S) in [0, 1] to the same shape, without randomness.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate
from torchvision.transforms.functional import gaussian_blur

from metalora.errors import InputError


def unchanged(images: Tensor) -> Tensor:
    """The images themselves."""
    return images


def rotate(images: Tensor, quarters: int) -> Tensor:
    """Turned counter-clockwise by `quarters` × 90 degrees."""
    return torch.rot90(images, quarters, (2, 3))


def reorder(images: Tensor, order: tuple[int, int, int]) -> Tensor:
    """Channel i is the channel order[i] of the input."""
    return images[:, order]


def invert(images: Tensor) -> Tensor:
    """The negative."""
    return 1 - images


def ink(images: Tensor, colour: tuple[float, float, float]) -> Tensor:
    """White becomes `colour`, black stays black."""
    return images * images.new_tensor(colour)[:, None, None]


def blur(images: Tensor) -> Tensor:
    """Gaussian blur with a standard deviation of 1/24 of the side."""
    sigma = images.shape[-1] / 24
    return gaussian_blur(images, 2 * round(2 * sigma) + 1, sigma).clamp(0, 1)  # rounding may pass 1


def pixelate(images: Tensor) -> Tensor:
    """As if a third as many pixels had been taken along each side."""
    size = images.shape[-1]
    return interpolate(adaptive_avg_pool2d(images, max(1, size // 3)), size=(size, size), mode="nearest")


def flatten_contrast(images: Tensor, keep: float) -> Tensor:
    """Every value is drawn to the image's mean; `keep` of the difference remains."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (mean + keep * (images - mean)).clamp(0, 1)


def _inverse(part: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    function, given = (part.func, part.keywords) if isinstance(part, partial) else (part, {})
    if function is rotate:
        return partial(rotate, quarters=-given["quarters"])
    if function is reorder:
        return partial(reorder, order=tuple(given["order"].index(channel) for channel in range(3)))
    if function is ink:
        return partial(ink, colour=tuple(1 / value for value in given["colour"]))
    if function in (invert, unchanged):
        return function
    raise InputError(f"{function.__name__} loses what it would take to undo it: leave rows that undo shifts out.")


@dataclass(frozen=True)
class Shift:
    """A named chain of functions; a composition's name joins its factors with "+"."""

    name: str
    parts: tuple[Callable[[Tensor], Tensor], ...] = (unchanged,)

    @property
    def factors(self) -> tuple[str, ...]:
        return tuple(self.name.split("+"))

    def __call__(self, images: Tensor) -> Tensor:
        for part in self.parts:
            images = part(images)
        return images

    def undo(self, images: Tensor) -> Tensor:
        """The images as they were before.

        Raises:
            InputError: a part of it cannot be undone.
        """
        for part in reversed(self.parts):
            images = _inverse(part)(images)
        return images


@dataclass(frozen=True)
class TaskList:
    """The tasks of a shifted suite, and the names of those that are unseen unless others are asked for."""

    shifts: tuple[Shift, ...]
    unseen: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(shift.name for shift in self.shifts)

    @property
    def factors(self) -> tuple[tuple[str, ...], ...]:
        """The values of every named factor; () unless all tasks are combinations of the same two or more."""
        parts = [shift.factors for shift in self.shifts]
        if {len(part) for part in parts} != {len(parts[0])} or len(parts[0]) < 2:
            return ()
        return tuple(tuple(dict.fromkeys(values)) for values in zip(*parts, strict=True))

    @property
    def levels(self) -> Tensor | None:
        """Which value of every factor a task has, int64 (tasks, factors); None without named factors."""
        if not self.factors:
            return None
        return torch.tensor([[v.index(f) for v, f in zip(self.factors, s.factors, strict=True)] for s in self.shifts])


def compose(*factors: dict[str, Callable[[Tensor], Tensor]]) -> tuple[Shift, ...]:
    """A shift for every combination of one value of each factor, applied in the order given."""
    combinations = product(*(factor.items() for factor in factors))
    return tuple(Shift("+".join(n for n, _ in values), tuple(f for _, f in values)) for values in combinations)


ROTATIONS = {f"rotate-{90 * quarters}": partial(rotate, quarters=quarters) for quarters in range(4)}
ORDERS = {
    "".join("rgb"[channel] for channel in order): partial(reorder, order=order) for order in permutations(range(3))
}
INVERSIONS = {"plain": unchanged, "invert": invert}
INKS = {
    name: partial(ink, colour=colour)
    for name, colour in {"red": (1.0, 0.3, 0.2), "green": (0.3, 0.9, 0.2), "blue": (0.2, 0.4, 1.0)}.items()
}

# Digits: a half-turn makes a 6 a 9 and a mirror image makes a 2 an S, so only a quarter-turn is used.
DIGITS = TaskList(
    compose({name: ROTATIONS[name] for name in ("rotate-0", "rotate-90")}, INVERSIONS, INKS),
    ("rotate-0+invert+green", "rotate-90+plain+red", "rotate-90+invert+blue"),
)

TEN_SHIFTS = TaskList(
    (
        Shift("upright"),
        *(Shift(name, (ROTATIONS[name],)) for name in ("rotate-90", "rotate-180", "rotate-270")),
        Shift("invert", (invert,)),
        *(Shift(name, (ORDERS[name],)) for name in ("gbr", "brg")),
        Shift("blur", (blur,)),
        Shift("pixelate", (pixelate,)),
        Shift("low-contrast", (partial(flatten_contrast, keep=0.2),)),
    ),
    ("rotate-270", "brg"),
)


def _compositions() -> TaskList:
    # A third is unseen, so spread that every value, and every pair of a rotation and an order, is seen.
    places = product(range(len(ROTATIONS)), range(len(ORDERS)), range(len(INVERSIONS)))
    shifts = compose(ROTATIONS, ORDERS, INVERSIONS)
    unseen = tuple(shift.name for shift, place in zip(shifts, places, strict=True) if sum(place) % 3 == 2)
    return TaskList(shifts, unseen)


COMPOSITIONS = _compositions()
