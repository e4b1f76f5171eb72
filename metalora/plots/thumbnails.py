"""Pictures as text: data URLs, for pages and figures that carry all that they show."""

import base64
import io
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

SIDE = 48  # pixels of a small picture; shown smaller, for dense screens


def as_url(picture: Image.Image, **settings: Any) -> str:
    """A picture as the data URL of a PNG; `settings` go to Pillow's `save`."""
    file = io.BytesIO()
    picture.save(file, "PNG", **settings)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def image_url(image: Tensor) -> str:
    """An image, float RGB in [0, 1] of shape (3, H, W), as a data URL in its own size."""
    return as_url(_picture(image))


def thumbnail(image: Tensor, side: int = SIDE) -> str:
    """An image, float RGB in [0, 1] of shape (3, H, W), as the data URL of a square."""
    picture = _picture(image)
    # Few pixels are shown as what they are, many are averaged.
    way = Image.Resampling.NEAREST if max(picture.size) <= side else Image.Resampling.BILINEAR
    return as_url(picture.resize((side, side), way))


def _picture(image: Tensor) -> Image.Image:
    return to_pil_image((image.clamp(0, 1) * 255).round().byte().cpu())
