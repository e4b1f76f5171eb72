"""A corruption as a transform: its kind, its severity, and the published values of both.

Dan Hendrycks, Thomas Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
1903.12261. The values are those of CIFAR-10-C, for images of 32 pixels, and of ImageNet-C, for images of 224; lengths
grow with the image. torch is imported where it is needed, so that the names of tasks are known without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from metalora.suites.transforms import Transform

if TYPE_CHECKING:
    from torch import Tensor

SEVERITIES = range(1, 6)
SMALL, LARGE = 32, 224  # pixels a side of the images that the two lists of values are for
BETWEEN = (SMALL * LARGE) ** 0.5


@dataclass(frozen=True)
class Kind:
    """A kind of corruption.

    Attributes:
        family: Noise, blur, weather or digital: the module that renders it, in a function of the kind's name.
        small: Values of every severity for images of 32 pixels, as CIFAR-10-C has them.
        large: Values of every severity for images of 224 pixels, as ImageNet-C has them.
    """

    family: str
    small: tuple[tuple[float, ...], ...]
    large: tuple[tuple[float, ...], ...]


def _singles(*values: float) -> tuple[tuple[float, ...], ...]:
    return tuple((value,) for value in values)


# In the order of the paper.
KINDS = {
    "gaussian-noise": Kind(  # standard deviation
        "noise", _singles(0.04, 0.06, 0.08, 0.09, 0.10), _singles(0.08, 0.12, 0.18, 0.26, 0.38)
    ),
    "shot-noise": Kind("noise", _singles(500, 250, 100, 75, 50), _singles(60, 25, 12, 5, 3)),  # photons at white
    "impulse-noise": Kind(  # share of the values
        "noise", _singles(0.01, 0.02, 0.03, 0.05, 0.07), _singles(0.03, 0.06, 0.09, 0.17, 0.27)
    ),
    "defocus-blur": Kind(  # radius of the disk, standard deviation that smooths it
        "blur",
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "glass-blur": Kind(  # standard deviation of the blur, farthest neighbour, rounds
        "blur",
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "motion-blur": Kind(  # radius, standard deviation along the way
        "blur",
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    "zoom-blur": Kind(  # number and step of the factors, from 1 on
        "blur",
        ((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01)),
        ((12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03)),
    ),
    "snow": Kind(  # mean, deviation, zoom, threshold; radius and deviation of the motion; share of the image's colour
        "weather",
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": Kind(  # share of the image, share of the frost
        "weather",
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    "fog": Kind(  # strength, decay of the roughness
        "weather",
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "brightness": Kind(  # added to the value of HSV
        "weather", _singles(0.05, 0.1, 0.15, 0.2, 0.3), _singles(0.1, 0.2, 0.3, 0.4, 0.5)
    ),
    "contrast": Kind("digital", _singles(0.75, 0.5, 0.4, 0.3, 0.15), _singles(0.4, 0.3, 0.2, 0.1, 0.05)),  # what stays
    "elastic": Kind(  # fractions of the side: strength and smoothness of the shifts, farthest move of three corners
        "digital",
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    ),
    "pixelate": Kind("digital", _singles(0.95, 0.9, 0.85, 0.75, 0.65), _singles(0.6, 0.5, 0.4, 0.3, 0.25)),  # of a side
    "jpeg": Kind("digital", _singles(80, 65, 58, 50, 40), _singles(25, 18, 15, 10, 7)),  # quality
}


@dataclass(frozen=True)
class Corruption(Transform):
    """A corruption of images, with chance drawn from each image: the same whenever it is shown.

    Attributes:
        kind: A key of `KINDS`.
        severity: 1 to 5.
    """

    kind: str
    severity: int

    def __call__(self, images: Tensor) -> Tensor:
        from metalora.suites.corruptions.fields import Draws

        if not len(images):
            return images
        kind, size = KINDS[self.kind], images.shape[-1]
        listed, reference = (kind.small, SMALL) if size < BETWEEN else (kind.large, LARGE)
        render = getattr(import_module(f"metalora.suites.corruptions.{kind.family}"), self.kind.replace("-", "_"))
        draws = Draws(images, list(KINDS).index(self.kind), self.severity)
        return render(images, draws, size / reference, *listed[self.severity - 1]).clamp(0, 1)
