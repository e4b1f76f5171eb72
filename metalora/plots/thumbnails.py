"""Images as data URLs, for pages and figures that are one file."""

import base64
import io
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

SIDE = 48  # pixels of a thumbnail; shown smaller, for dense screens


def as_url(image: Image.Image, **settings: Any) -> str:
    """Return an image as the data URL of a PNG; `settings` go to Pillow's `save`."""
    file = io.BytesIO()
    image.save(file, "PNG", **settings)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def image_url(image: Tensor) -> str:
    """Return an image, float RGB in [0, 1] of shape (3, H, W), as a data URL in its own size."""
    return as_url(_to_pil(image))


def thumbnail(image: Tensor, side: int = SIDE) -> str:
    """Return an image, float RGB in [0, 1] of shape (3, H, W), as the data URL of a square."""
    original = _to_pil(image)
    # Few pixels stay sharp, many are averaged.
    resampling = Image.Resampling.NEAREST if max(original.size) <= side else Image.Resampling.BILINEAR
    return as_url(original.resize((side, side), resampling))


def _to_pil(image: Tensor) -> Image.Image:
    return to_pil_image((image.clamp(0, 1) * 255).round().byte().cpu())
