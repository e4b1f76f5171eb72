"""The tasks of the suites: which domain transforms, which of them are unseen, which label rules differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import permutations, product

from metalora.suites.corruptions.corruption import KINDS, SEVERITIES, Corruption
from metalora.suites.transforms import (
    Blur,
    DomainTransform,
    Identity,
    Ink,
    Invert,
    LowerContrast,
    Noise,
    Pixelate,
    ReorderChannels,
    Rotate,
    Transform,
    Turn,
)
from metalora.util.errors import InputError


@dataclass(frozen=True)
class TaskList:
    """The tasks of a suite of transformed images.

    Attributes:
        transforms: One for each task.
        unseen: Names of the tasks that are unseen unless others are asked for.
        swaps: For each task the pairs of classes that it exchanges, a label rule that no pixel shows; () for none.
        shares: For each task the share of the training images that it shows; () where all tasks show all.
        everywhere: Whether every validation, gallery and query image is shown in every task, not in one alone.
    """

    transforms: tuple[DomainTransform, ...]
    unseen: tuple[str, ...]
    swaps: tuple[tuple[tuple[str, str], ...], ...] = ()
    shares: tuple[float, ...] = ()
    everywhere: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the tasks."""
        return tuple(transform.name for transform in self.transforms)

    @property
    def factors(self) -> tuple[tuple[str, ...], ...]:
        """Return the values of every factor; () unless all tasks are combinations of the same factors."""
        values = [transform.factors for transform in self.transforms]
        if not values[0] or {len(value) for value in values} != {len(values[0])}:
            return ()
        return tuple(tuple(dict.fromkeys(factor)) for factor in zip(*values, strict=True))

    @property
    def factor_indices(self) -> list[list[int]] | None:
        """Return which value of every factor each task has, (tasks, factors); None without factors."""
        if not self.factors:
            return None
        return [[v.index(f) for v, f in zip(self.factors, t.factors, strict=True)] for t in self.transforms]


def held_out_tasks(hold_out: Sequence[str], tasks: Sequence[str]) -> tuple[int, ...]:
    """Return the positions of the tasks called `hold_out` in `tasks`.

    Raises:
        InputError: There is no such task, or none is left to train on.
    """
    for name in hold_out:
        if name not in tasks:
            near = get_close_matches(name, tasks, 3)
            hint = f" (did you mean {' or '.join(near)}?)" if near else ""
            raise InputError(f"There is no task {name!r} to hold out{hint}: the tasks are {', '.join(tasks)}.")
    if set(hold_out) >= set(tasks):
        raise InputError(f"All tasks are held out ({', '.join(tasks)}), none is left to train on: hold out fewer.")
    return tuple(position for position, name in enumerate(tasks) if name in hold_out)


def compose(*factors: dict[str, Transform]) -> tuple[DomainTransform, ...]:
    """Build a transform for every combination of one value of each factor, applied in the order given."""
    return tuple(
        DomainTransform("+".join(names), parts, names)
        for names, parts in (zip(*values, strict=True) for values in product(*(factor.items() for factor in factors)))
    )


ROTATIONS: dict[str, Transform] = {f"rotate-{90 * quarters}": Rotate(quarters) for quarters in range(4)}
ORDERS: dict[str, Transform] = {
    "".join("rgb"[channel] for channel in order): ReorderChannels(order) for order in permutations(range(3))
}
INVERSIONS: dict[str, Transform] = {"plain": Identity(), "invert": Invert()}
INKS: dict[str, Transform] = {
    "red": Ink((1.0, 0.3, 0.2)),
    "green": Ink((0.3, 0.9, 0.2)),
    "blue": Ink((0.2, 0.4, 1.0)),
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
        DomainTransform("invert", (Invert(),)),
        *(DomainTransform(name, (ORDERS[name],)) for name in ("gbr", "brg")),
        DomainTransform("blur", (Blur(),)),
        DomainTransform("pixelate", (Pixelate(),)),
        DomainTransform("low-contrast", (LowerContrast(0.2),)),
    ),
    ("rotate-270", "brg"),
)


def _compositions() -> TaskList:
    # A third is unseen, spread so that every value, and every pair of a rotation and an order, is seen.
    places = product(range(len(ROTATIONS)), range(len(ORDERS)), range(len(INVERSIONS)))
    transforms = compose(ROTATIONS, ORDERS, INVERSIONS)
    return TaskList(
        transforms, tuple(t.name for t, place in zip(transforms, places, strict=True) if sum(place) % 3 == 2)
    )


COMPOSITIONS = _compositions()


def _corruptions() -> TaskList:
    # As of Hendrycks and Dietterich, 1903.12261: kinds that lose information, so that none can be inverted.
    severities = range(1, 5)
    kinds: dict[str, list[Transform]] = {
        "noise": [Noise(0.05 * level) for level in severities],
        "blur": [Blur(level / 60) for level in severities],
        "contrast": [LowerContrast(0.5**level) for level in severities],
        "pixelate": [Pixelate(level + 1) for level in severities],
    }
    transforms = [
        DomainTransform(f"{kind}+severity-{level}", (part,), (kind, f"severity-{level}"))
        for kind, parts in kinds.items()
        for level, part in zip(severities, parts, strict=True)
    ]
    return TaskList(
        tuple(transforms), ("noise+severity-2", "blur+severity-3", "contrast+severity-1", "pixelate+severity-4")
    )


CORRUPTIONS = _corruptions()


def _fifteen() -> TaskList:
    # Whole kinds are unseen, in every severity: the last of each family, in the order of the paper.
    last = {kind.family: name for name, kind in KINDS.items()}
    transforms = tuple(
        DomainTransform(f"{kind}+severity-{level}", (Corruption(kind, level),), (kind, f"severity-{level}"))
        for kind in KINDS
        for level in SEVERITIES
    )
    return TaskList(transforms, tuple(t.name for t in transforms if t.factors[0] in last.values()))


FIFTEEN = _fifteen()

# As the rotated digits of Zhang et al., Adaptive Risk Minimization, 2007.02931: all are seen, some are rare, and each
# is tested on the same images. Of 54,000 training images they show so many in each rotation.
COUNTS = {7560: range(0, 30, 10), 2160: range(30, 60, 10), 648: range(60, 90, 10), 324: range(90, 120, 10)} | {
    108: range(120, 140, 10)
}


def _rotated(corners: float | None) -> TaskList:
    shares = {degrees: count / max(COUNTS) for count, angles in COUNTS.items() for degrees in angles}
    transforms = tuple(DomainTransform(f"rotate-{degrees}", (Turn(degrees, corners),)) for degrees in shares)
    return TaskList(transforms, (), shares=tuple(shares.values()), everywhere=True)


ROTATED_DIGITS, ROTATED = _rotated(corners=0.0), _rotated(corners=None)  # digits are white on black

# The negative control: all tasks show the same pixels, and every other one has two pairs of classes exchanged.
SWAPS = (("cat", "dog"), ("automobile", "truck"))
RULES = TaskList(
    tuple(DomainTransform(f"{rule}-{number}") for number in range(1, 5) for rule in ("plain", "swapped")),
    ("plain-4", "swapped-4"),
    ((), SWAPS) * 4,
)
