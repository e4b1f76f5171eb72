"""Images as data URLs, for pages and figures that are one file; and cards in place of images that are not here."""

import base64
import functools
import io
from typing import Any

from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

SIDE = 48  # pixels of a thumbnail; shown smaller, for dense screens
LUMINANCE = 0.179  # above which black has the higher contrast
CARD_LETTERS = 7  # of a name that fit on a card


def as_url(image: Image.Image, **settings: Any) -> str:
    """Return an image as the data URL of a PNG; `settings` go to Pillow's `save`."""
    file = io.BytesIO()
    image.save(file, "PNG", **settings)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def thumbnail(image: Tensor | Image.Image, side: int = SIDE) -> str:
    """Return an image, of Pillow or float RGB in [0, 1] of shape (3, H, W), as the data URL of a square."""
    original = image if isinstance(image, Image.Image) else to_pil(image)
    # Few pixels stay sharp, many are averaged.
    resampling = Image.Resampling.NEAREST if max(original.size) <= side else Image.Resampling.BILINEAR
    return as_url(original.resize((side, side), resampling))


def to_pil(image: Tensor) -> Image.Image:
    """Return an image, float RGB of shape (3, H, W), clamped to [0, 1]."""
    return to_pil_image((image.clamp(0, 1) * 255).round().byte().cpu())


def ink_on(colour: str) -> str:
    """Return black or white, which of the two is read more easily on a colour (WCAG 2.2, relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _unit(colour)]
    return "black" if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > LUMINANCE else "white"


def _unit(colour: str) -> list[float]:
    return [channel / 255 for channel in ImageColor.getrgb(colour)[:3]]


@functools.lru_cache(1024)
def card(label: str, task: str, colour: str) -> Image.Image:
    """Draw a square that stands for an image: its class on the class's colour, its task below. Do not draw on it."""
    image = Image.new("RGB", (SIDE, SIDE), colour)
    draw, middle = ImageDraw.Draw(image), SIDE / 2
    for text, y in ((label, 0.36), (task, 0.68)):
        short = text if len(text) <= CARD_LETTERS else f"{text[: CARD_LETTERS - 1]}."
        draw.text((middle, y * SIDE), short, fill=ink_on(colour), font=ImageFont.load_default(11), anchor="mm")
    return image
