"""What corruptions are rendered with: chance of every image's own, smoothing, sampling at other places."""

import functools
import math
import zlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from metalora.util.seeding import seeded_generator


class Draws:
    """Random numbers for every image of a batch, which depend on its pixels and on some words, not on the batch.

    Args:
        images: float (N, 3, S, S) in [0, 1].
        words: numbers that tell one use from others.
    """

    def __init__(self, images: Tensor, *words: int):
        pixels = (255 * images).round().byte().cpu().contiguous().numpy()
        self._like = images
        self._generators = [seeded_generator(zlib.crc32(image.data), *words) for image in pixels]

    def _draw(self, function: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([function(generator) for generator in self._generators]).to(self._like)

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers (N, *shape)."""
        return self._draw(lambda generator: torch.randn(shape, generator=generator))

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers in [0, 1), (N, *shape)."""
        return self._draw(lambda generator: torch.rand(shape, generator=generator))

    def poisson(self, means: Tensor) -> Tensor:
        """Return counts with these means (N, ...), the same shape."""
        rows = zip(means.cpu(), self._generators, strict=True)
        return torch.stack([torch.poisson(mean, generator) for mean, generator in rows]).to(self._like)


@functools.lru_cache(64)
def _smoothing(size: int, sigma: float, truncate: float) -> Tensor:
    """Return the matrix (S, S) that smooths a line of S values by a Gaussian, mirrored at the ends."""
    reach = int(truncate * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-offsets.double().square() / (2 * sigma**2)) if reach else torch.ones(1).double()
    places = (torch.arange(size)[:, None] + offsets) % (2 * size)
    places = torch.minimum(places, 2 * size - 1 - places)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, places, (weights / weights.sum()).expand(size, -1)).float()


def along_both(images: Tensor, matrix: Tensor) -> Tensor:
    """Apply a matrix (S, S) to rows and columns of images (..., S, S)."""
    matrix = matrix.to(images)
    return matrix @ images @ matrix.T


def smooth(images: Tensor, sigma: float, truncate: float = 4) -> Tensor:
    """Return images (..., S, S), smoothed by a Gaussian of this standard deviation in pixels."""
    return along_both(images, _smoothing(images.shape[-1], sigma, truncate))


def zoomed(images: Tensor, factor: float) -> Tensor:
    """Return the middle of images (N, C, S, S), enlarged by a factor ≥ 1 to the same size."""
    theta = torch.tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]]).to(images)
    grid = F.affine_grid(theta[None], [1, 1, *images.shape[2:]], align_corners=False)
    return F.grid_sample(images, grid.expand(len(images), -1, -1, -1), padding_mode="border", align_corners=False)


def streaked(images: Tensor, angles: Tensor, radius: float, sigma: float) -> Tensor:
    """Return images (N, C, S, S), each smeared to one side along its angle with weights that fall as half a Gaussian.

    Args:
        images: float (N, C, S, S).
        angles: in degrees, (N,).
        radius: half the farthest reach, in pixels.
        sigma: standard deviation of the weights, in pixels.
    """
    size, reach = images.shape[-1], min(round(2 * radius), math.ceil(4 * sigma))
    steps = torch.arange(reach + 1).to(images)
    weights = torch.exp(-steps.square() / (2 * sigma**2))
    shares = (weights / weights.sum()).tolist()
    radians = angles[:, None] * (math.pi / 180)
    down = (steps * radians.sin()).round().int() + reach  # (N, steps)
    across = (steps * radians.cos()).round().int() + reach
    padded, result = F.pad(images, [reach] * 4, mode="replicate"), torch.zeros_like(images)
    for image, smeared, rows, columns in zip(padded, result, down.tolist(), across.tolist(), strict=True):
        for row, column, share in zip(rows, columns, shares, strict=True):
            smeared.add_(image[:, row : row + size, column : column + size], alpha=share)
    return result
