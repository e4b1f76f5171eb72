"""Domain transforms: what a task does to an image.

Every transform maps float images (N, 3, S, S) in [0, 1] to the same shape, and the same image to the same. torch is
imported where it is needed, so that the names of tasks are known without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metalora.util.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Transform:
    """One operation on images; by itself it leaves them as they are."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the transformed images."""
        return images

    @property
    def inverse(self) -> Transform:
        """Return the transform that gives the images back.

        Raises:
            InputError: It loses information.
        """
        raise InputError(f"{type(self).__name__} loses what inverting it would take: leave inverted rows out.")


class Identity(Transform):
    """The images themselves."""

    @property
    def inverse(self) -> Transform:
        return self


@dataclass(frozen=True)
class Rotate(Transform):
    """A rotation counter-clockwise by `quarters` × 90 degrees."""

    quarters: int

    def __call__(self, images: Tensor) -> Tensor:
        return images.rot90(self.quarters, (2, 3))

    @property
    def inverse(self) -> Transform:
        return Rotate(-self.quarters)


@dataclass(frozen=True)
class Turn(Transform):
    """A rotation counter-clockwise by any angle; uncovered corners get a grey value, or the image's mean colour."""

    degrees: float
    corners: float | None = None

    def __call__(self, images: Tensor) -> Tensor:
        quarters, rest = divmod(self.degrees, 90)
        if not rest:
            return Rotate(int(quarters))(images)
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2.functional import rotate

        fill = images.mean((2, 3), keepdim=True) if self.corners is None else self.corners
        return (fill + rotate(images - fill, self.degrees, InterpolationMode.BILINEAR)).clamp(0, 1)

    @property
    def inverse(self) -> Transform:
        if self.degrees % 90:
            return super().inverse
        return Turn(-self.degrees, self.corners)


@dataclass(frozen=True)
class ReorderChannels(Transform):
    """Channel i becomes channel order[i] of the input."""

    order: tuple[int, ...]

    def __call__(self, images: Tensor) -> Tensor:
        return images[:, self.order]

    @property
    def inverse(self) -> Transform:
        return ReorderChannels(tuple(self.order.index(channel) for channel in range(3)))


class Invert(Transform):
    """The negative."""

    def __call__(self, images: Tensor) -> Tensor:
        return 1 - images

    @property
    def inverse(self) -> Transform:
        return self


@dataclass(frozen=True)
class Ink(Transform):
    """White becomes `colour`, black stays black."""

    colour: tuple[float, float, float]

    def __call__(self, images: Tensor) -> Tensor:
        return images * images.new_tensor(self.colour)[:, None, None]

    @property
    def inverse(self) -> Transform:
        red, green, blue = self.colour
        return Ink((1 / red, 1 / green, 1 / blue))


@dataclass(frozen=True)
class Blur(Transform):
    """Gaussian blur with a standard deviation of this fraction of the side."""

    fraction: float = 1 / 24

    def __call__(self, images: Tensor) -> Tensor:
        from torchvision.transforms.functional import gaussian_blur

        sigma = images.shape[-1] * self.fraction
        return gaussian_blur(images, 2 * round(2 * sigma) + 1, sigma).clamp(0, 1)  # rounding may pass 1


@dataclass(frozen=True)
class Pixelate(Transform):
    """As if `factor` times fewer pixels had been taken along each side."""

    factor: float = 3

    def __call__(self, images: Tensor) -> Tensor:
        from torch.nn.functional import adaptive_avg_pool2d, interpolate

        size = images.shape[-1]
        small = adaptive_avg_pool2d(images, max(1, int(size / self.factor)))
        return interpolate(small, size=(size, size), mode="nearest")


@dataclass(frozen=True)
class LowerContrast(Transform):
    """Values move towards the image's mean; the fraction `keep` of the difference remains."""

    keep: float

    def __call__(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3), keepdim=True)
        return (mean + self.keep * (images - mean)).clamp(0, 1)


@dataclass(frozen=True)
class Noise(Transform):
    """Gaussian noise, drawn from each image's own sum: the same whenever the image is shown."""

    deviation: float

    def __call__(self, images: Tensor) -> Tensor:
        import torch

        from metalora.util.seeding import seeded_generator

        sums = (255 * images.double()).round().sum((1, 2, 3)).tolist()
        noise = [torch.randn(images.shape[1:], generator=seeded_generator(int(total))) for total in sums]
        return (images + self.deviation * torch.stack(noise).to(images)).clamp(0, 1) if noise else images


@dataclass(frozen=True)
class DomainTransform:
    """What a task does to its images: a named chain of transforms.

    Attributes:
        name: Name of the task.
        parts: Transforms, in the order in which they are applied.
        factors: Values of the factors that the task combines; () where it is none.
    """

    name: str
    parts: tuple[Transform, ...] = (Identity(),)
    factors: tuple[str, ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        """Return the transformed images."""
        for part in self.parts:
            images = part(images)
        return images

    def inverse(self, images: Tensor) -> Tensor:
        """Return the images as they were before.

        Raises:
            InputError: A part of it loses information.
        """
        for part in reversed(self.parts):
            images = part.inverse(images)
        return images
