"""The digital corruptions of Hendrycks and Dietterich: `Corruption` says what the values of each are."""

import functools
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from metalora.suites.corruptions.fields import Draws, along_both, smooth


def contrast(images: Tensor, draws: Draws, unit: float, kept: float) -> Tensor:
    """Move every channel towards its mean."""
    mean = images.mean((2, 3), keepdim=True)
    return mean + kept * (images - mean)


def elastic(images: Tensor, draws: Draws, unit: float, strength: float, smoothness: float, farthest: float) -> Tensor:
    """Move three points of the image, and all others with them, then every pixel by a smooth field of shifts."""
    size = images.shape[-1]
    third, middle = size // 3, size // 2
    points = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]).to(images) * third + middle  # (x, y) of each
    moved = points + farthest * size * (2 * draws.uniform(3, 2) - 1)
    ones = torch.ones_like(moved[..., :1])
    # (N, 3, 2): from where a point lies in the result to where it lay.
    back = torch.linalg.solve(torch.cat([moved, ones], 2).double(), points.expand_as(moved).double()).to(images)
    line = torch.arange(size).to(images)
    grid = torch.stack([line.expand(size, size), line[:, None].expand(size, size)])  # (2, S, S)
    places = grid.expand(len(images), -1, -1, -1)
    if strength:
        shifts = 2 * draws.uniform(2, size, size) - 1
        # The fewer pixels a field is smoothed over, the larger it stays: `unit` makes up for it.
        places = places + unit * strength * size * smooth(shifts, smoothness * size, truncate=3)
    places = torch.cat([places, torch.ones_like(places[:, :1])], 1)
    sources = torch.einsum("nchw,ncd->nhwd", places, back)
    scaled = 2 * sources / (size - 1) - 1
    return F.grid_sample(images, scaled, padding_mode="reflection", align_corners=True)


def pixelate(images: Tensor, draws: Draws, unit: float, share: float) -> Tensor:
    """Shrink the sides to a share by means over boxes, and enlarge them again without smoothing."""
    return along_both(images, _boxes(images.shape[-1], share))


@functools.lru_cache(64)
def _boxes(size: int, share: float) -> Tensor:
    """Return the matrix (S, S) that shrinks a line of S values and enlarges it again, both by Pillow's box filter."""
    line = Image.fromarray(np.eye(size, dtype=np.float32))
    for length in (max(1, int(size * share)), size):
        line = line.resize((size, length), Image.Resampling.BOX)
    return torch.from_numpy(np.array(line))


def jpeg(images: Tensor, draws: Draws, unit: float, quality: float) -> Tensor:
    """Compress to JPEG of a quality, and decompress."""
    pixels = (255 * images).round().byte().movedim(1, 3).cpu().numpy()
    read = np.stack([_through_jpeg(image, int(quality)) for image in pixels])
    return torch.from_numpy(read).movedim(3, 1).to(images) / 255


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
