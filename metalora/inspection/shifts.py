"""Shifts of an image by knobs, and how far they move its embedding under several adapters.

The distance needs no classes, so it can be read for any photograph: it is the cosine distance to the embedding of the
image as it was, in units of the mean distance to the embeddings of other images.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import rotate

from metalora.adapters.cores import Cores
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.task_lists import ORDERS, TaskList
from metalora.suites.transforms import (
    Blur,
    Invert,
    LowerContrast,
    Noise,
    Pixelate,
    ReorderChannels,
    Rotate,
    Transform,
)
from metalora.util.checks import check_float
from metalora.util.errors import InputError, choices


@dataclass(frozen=True)
class Knob:
    """One way to shift an image.

    Attributes:
        title: in words, with the unit.
        values: that it may have, the neutral one among them; numbers in ascending order are a range.
        neutral: at which it does nothing.
        transform: what a value does.
        kind: of the transforms of tasks that show the same shift.
        value_of: the knob's value at which such a transform is.
    """

    title: str
    values: tuple[Any, ...]
    neutral: Any
    transform: Callable[[Any], Transform]
    kind: type[Transform]
    value_of: Callable[[Any], Any]

    @property
    def is_range(self) -> bool:
        """Whether the values are numbers."""
        return not isinstance(self.neutral, str | bool)


@dataclass(frozen=True)
class Turn(Transform):
    """A rotation counter-clockwise by any angle in degrees; uncovered corners get the image's mean colour."""

    degrees: float

    def __call__(self, images: Tensor) -> Tensor:
        quarters, rest = divmod(self.degrees, 90)
        if not rest:
            return Rotate(int(quarters))(images)
        mean = images.mean((2, 3), keepdim=True)
        return mean + rotate(images - mean, self.degrees, InterpolationMode.BILINEAR)


def _steps(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(round(low + (high - low) * i / (count - 1), 4) for i in range(count))


KNOBS = {
    "rotation": Knob("Rotation, degrees", _steps(0, 345, 24), 0.0, Turn, Rotate, lambda t: 90.0 * (t.quarters % 4)),
    "channels": Knob(
        "Channel order",
        tuple(ORDERS),
        "rgb",
        lambda order: ReorderChannels(tuple(map("rgb".index, order))),
        ReorderChannels,
        lambda t: "".join("rgb"[channel] for channel in t.order),
    ),
    "inversion": Knob("Inversion", (False, True), False, lambda on: Invert() if on else Transform(), Invert, lambda t: True),
    "noise": Knob("Noise, standard deviation", _steps(0, 0.3, 13), 0.0, Noise, Noise, lambda t: t.deviation),
    "blur": Knob("Blur, % of the side", _steps(0, 10, 21), 0.0, lambda v: Blur(v / 100), Blur, lambda t: 100 * t.fraction),
    "contrast": Knob("Contrast, % kept", _steps(0, 100, 21), 100.0, lambda v: LowerContrast(v / 100), LowerContrast, lambda t: 100 * t.keep),
    "pixelation": Knob("Pixelation, factor", _steps(1, 6, 11), 1.0, Pixelate, Pixelate, lambda t: float(t.factor)),
}
