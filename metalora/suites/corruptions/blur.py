"""The blurs of Hendrycks and Dietterich: `Corruption` says what the values of each are."""

import torch
from torch import Tensor
from torch.nn import functional as F

from metalora.suites.corruptions.fields import Draws, smooth, streaked, zoomed

LARGE_DISK = 8  # pixels of radius from which a disk is smoothed farther


def defocus_blur(images: Tensor, draws: Draws, unit: float, radius: float, alias: float) -> Tensor:
    """Blur by a disk whose edge is smoothed."""
    kernel = _disk(radius * unit, alias * unit).to(images)
    reach, size = len(kernel) // 2, images.shape[-1]
    padded = F.pad(images, [reach] * 4, mode="reflect")
    both = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, padded.shape[2:])
    return torch.fft.irfft2(both, padded.shape[2:])[..., -size:, -size:]


def _disk(radius: float, alias: float) -> Tensor:
    reach = int(radius)
    border = 1 if radius <= LARGE_DISK else 2
    line = torch.arange(-reach - border, reach + border + 1).float()
    disk = (line.square()[:, None] + line.square() <= radius**2).float()
    steps = torch.arange(-border, border + 1).float()
    weights = torch.exp(-steps.square() / (2 * alias**2))
    edge = torch.outer(weights, weights)
    smoothed = F.conv2d(disk[None, None], edge[None, None] / edge.sum(), padding=border)[0, 0]
    return smoothed / smoothed.sum()


def glass_blur(images: Tensor, draws: Draws, unit: float, sigma: float, farthest: float, rounds: float) -> Tensor:
    """Blur, let every pixel take the colour of one nearby, some rounds long, and blur again.

    The authors change pixels one after the other; here all look at once.
    """
    size, reach = images.shape[-1], max(1, round(farthest * unit))
    images = smooth(images, sigma * unit)
    place = torch.arange(size, device=images.device)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    for _ in range(int(rounds)):
        shifts = (draws.uniform(2, size, size) * 2 * reach).long() - reach  # from -reach to reach - 1, as published
        rows, columns = (place[:, None] + shifts[:, 0], place + shifts[:, 1])
        images = images.movedim(1, 3)[image, rows.clamp(0, size - 1), columns.clamp(0, size - 1)].movedim(3, 1)
    return smooth(images, sigma * unit)


def motion_blur(images: Tensor, draws: Draws, unit: float, radius: float, sigma: float) -> Tensor:
    """Smear to one side, at an angle of up to 45° to the horizontal."""
    return streaked(images, 90 * draws.uniform() - 45, radius * unit, sigma * unit)


def zoom_blur(images: Tensor, draws: Draws, unit: float, count: float, step: float) -> Tensor:
    """Take the mean of the image and of its middle, enlarged by several factors."""
    total = images
    for number in range(int(count)):
        total = total + zoomed(images, 1 + step * number)
    return total / (count + 1)
