"""Shifts: what a task does to a picture.

Every function maps float images (N, 3, S, S) in [0, 1] to the same shape, and the same picture to the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate
from torchvision.transforms.functional import gaussian_blur

from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


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


def blur(images: Tensor, share: float = 1 / 24) -> Tensor:
    """Gaussian blur with a standard deviation of this share of the side."""
    sigma = images.shape[-1] * share
    return gaussian_blur(images, 2 * round(2 * sigma) + 1, sigma).clamp(0, 1)  # rounding may pass 1


def pixelate(images: Tensor, by: float = 3) -> Tensor:
    """As if so many times fewer pixels had been taken along each side."""
    size = images.shape[-1]
    return interpolate(adaptive_avg_pool2d(images, max(1, int(size / by))), size=(size, size), mode="nearest")


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


def noise(images: Tensor, deviation: float) -> Tensor:
    """Gaussian noise, drawn from each picture's own sum: the same whenever the picture is shown."""
    sums = (255 * images.double()).round().sum((1, 2, 3)).tolist()
    drawn = [torch.randn(images.shape[1:], generator=seeded_generator(int(total))) for total in sums]
    return (images + deviation * torch.stack(drawn).to(images)).clamp(0, 1) if drawn else images


@dataclass(frozen=True)
class DomainTransform:
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
