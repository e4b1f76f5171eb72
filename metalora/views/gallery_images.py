"""The images of a gallery as pages show them; a drawn card stands for one that is not on this machine."""

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image

from metalora.inspection.gallery import Gallery
from metalora.plots.palette import class_colours
from metalora.plots.thumbnails import as_url, card, to_pil


def gallery_images(gallery: Gallery, rows: Sequence[int]) -> list[Image.Image]:
    """Return gallery images in their own size, or a card for each where they are missing."""
    if gallery.examples is None:
        colours, table = class_colours(gallery.classes), gallery.table.iloc[list(rows)]
        pairs = zip(table["label"], table["task"], strict=True)
        return [card(label, task, colours[label]) for label, task in pairs]
    return [to_pil(image) for image in gallery.examples[list(rows)].images()]


def image_sprite(gallery: Gallery) -> dict[str, Any]:
    """Return all images as one: "sprite" (a PNG as data URL), "columns", and "tile" (side in pixels)."""
    images = gallery_images(gallery, range(len(gallery)))
    columns, tile = math.ceil(math.sqrt(len(images))), images[0].width
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * tile, rows * tile))
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * tile, i // columns * tile))
    return {"sprite": as_url(sheet), "columns": columns, "tile": tile}
