"""Lists of tasks: what the shifts of the suites are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product

import torch
from torch import Tensor

from metalora.suites.transforms import (
    DomainTransform,
    blur,
    flatten_contrast,
    ink,
    invert,
    noise,
    pixelate,
    reorder,
    rotate,
    unchanged,
)


@dataclass(frozen=True)
class TaskList:
    """The tasks of a shifted suite, and the names of those that are unseen unless others are asked for.

    Attributes:
        swaps: pairs of classes that every other task exchanges: a label rule that no pixel tells.
    """

    transforms: tuple[DomainTransform, ...]
    unseen: tuple[str, ...]
    swaps: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(transform.name for transform in self.transforms)

    @property
    def factors(self) -> tuple[tuple[str, ...], ...]:
        """The values of every named factor; () unless all tasks are combinations of the same two or more."""
        parts = [transform.factors for transform in self.transforms]
        if {len(part) for part in parts} != {len(parts[0])} or len(parts[0]) < 2:
            return ()
        return tuple(tuple(dict.fromkeys(values)) for values in zip(*parts, strict=True))

    @property
    def factor_indices(self) -> Tensor | None:
        """Which value of every factor a task has, int64 (tasks, factors); None without named factors."""
        if not self.factors:
            return None
        return torch.tensor(
            [[v.index(f) for v, f in zip(self.factors, s.factors, strict=True)] for s in self.transforms]
        )


def compose(*factors: dict[str, Callable[[Tensor], Tensor]]) -> tuple[DomainTransform, ...]:
    """A shift for every combination of one value of each factor, applied in the order given."""
    combinations = product(*(factor.items() for factor in factors))
    return tuple(
        DomainTransform("+".join(n for n, _ in values), tuple(f for _, f in values)) for values in combinations
    )


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

TEN_TRANSFORMS = TaskList(
    (
        DomainTransform("upright"),
        *(DomainTransform(name, (ROTATIONS[name],)) for name in ("rotate-90", "rotate-180", "rotate-270")),
        DomainTransform("invert", (invert,)),
        *(DomainTransform(name, (ORDERS[name],)) for name in ("gbr", "brg")),
        DomainTransform("blur", (blur,)),
        DomainTransform("pixelate", (pixelate,)),
        DomainTransform("low-contrast", (partial(flatten_contrast, keep=0.2),)),
    ),
    ("rotate-270", "brg"),
)


def _compositions() -> TaskList:
    # A third is unseen, so spread that every value, and every pair of a rotation and an order, is seen.
    places = product(range(len(ROTATIONS)), range(len(ORDERS)), range(len(INVERSIONS)))
    transforms = compose(ROTATIONS, ORDERS, INVERSIONS)
    unseen = tuple(transform.name for transform, place in zip(transforms, places, strict=True) if sum(place) % 3 == 2)
    return TaskList(transforms, unseen)


COMPOSITIONS = _compositions()


def _corruptions() -> TaskList:
    # As of Hendrycks and Dietterich, 1903.12261: kinds that lose information, so that none can be undone.
    severities = range(1, 5)
    kinds = {
        "noise": [partial(noise, deviation=0.05 * level) for level in severities],
        "blur": [partial(blur, share=level / 60) for level in severities],
        "contrast": [partial(flatten_contrast, keep=0.5**level) for level in severities],
        "pixelate": [partial(pixelate, by=level + 1) for level in severities],
    }
    transforms = [
        DomainTransform(f"{kind}+severity-{level}", (part,))
        for kind, parts in kinds.items()
        for level, part in zip(severities, parts, strict=True)
    ]
    return TaskList(
        tuple(transforms), ("noise+severity-2", "blur+severity-3", "contrast+severity-1", "pixelate+severity-4")
    )


CORRUPTIONS = _corruptions()

# The negative control: all tasks show the same pixels, and every other one has two pairs of classes exchanged.
RULES = TaskList(
    tuple(DomainTransform(f"{rule}-{number}") for number in range(1, 5) for rule in ("plain", "swapped")),
    ("plain-4", "swapped-4"),
    (("cat", "dog"), ("automobile", "truck")),
)
