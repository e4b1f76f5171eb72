"""What each adapter does with one image, as a table of HTML."""

from collections.abc import Mapping
from html import escape
from typing import Any

import torch

from metalora.inspection.gallery import Gallery
from metalora.inspection.movement import ORIGINAL, STATIC, Movement
from metalora.plots.palette import class_colours
from metalora.plots.shifts import movement_colours
from metalora.plots.thumbnails import ink_on, thumbnail
from metalora.views.gallery_images import gallery_images
from metalora.views.inspect import gallery_k
from metalora.views.open_adapter import OpenAdapter

HEADINGS = ("adapter", "class", "nearest images", "moved")


def look_table(
    opened: OpenAdapter, static: OpenAdapter | None, moved: Movement, titles: Mapping[str, str], *, distances: bool
) -> str:
    """Return a row per adapter: its class and neighbours of the image, and how far the embedding moved.

    Args:
        opened: the adapter that is looked at.
        static: LoRA on the same backbone and suite, None where there is none.
        moved: one shift of the image.
        titles: adapter of a movement → its name.
        distances: show how far the embedding moved.
    """
    colours, k = movement_colours(opened.config.adapter.method), gallery_k(opened.gallery)
    body, read = "", _read(opened.gallery, static, moved, k)
    for adapter in moved.embeddings:
        gallery, predicted, nearest = read[adapter]
        distance = _bar(moved.relative[adapter].iloc[0], colours[adapter]) if distances else ""
        body += (
            f'<tr><th scope="row"><i style="background:{colours[adapter]}"></i>{escape(titles[adapter])}</th>'
            f'<td><b>{escape(predicted)}</b></td><td class="near">{_images(gallery, nearest)}</td>'
            f"<td>{distance}</td></tr>"
        )
    head = "".join(f'<th scope="col">{heading}</th>' for heading in HEADINGS)
    return (
        '<div class="look-table" tabindex="0" role="region" aria-label="What each adapter does">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _read(
    gallery: Gallery, static: OpenAdapter | None, moved: Movement, k: int
) -> dict[str, tuple[Gallery, str, list[int]]]:
    """Return adapter → the gallery that it is read by, the class there, and the rows of the nearest images."""
    read: dict[str, Any] = {}
    for adapters, searched, space in (
        ({ORIGINAL}, gallery, "original"),
        ({STATIC}, gallery if static is None else static.gallery, "adapted"),
        (set(moved.embeddings) - {ORIGINAL, STATIC}, gallery, "adapted"),
    ):
        names = [name for name in moved.embeddings if name in adapters]
        if names:
            embeddings = torch.cat([moved.embeddings[name] for name in names])  # each search reads the whole gallery
            rows = searched.nearest(embeddings, space, k)["index"].to_numpy().reshape(len(names), k).tolist()
            classes = searched.predict(embeddings, space, k)
            read |= {name: (searched, *found) for name, *found in zip(names, classes, rows, strict=True)}
    return read


def _images(gallery: Gallery, rows: list[int]) -> str:
    """Return small images, or where they are not on this machine their classes."""
    near = gallery.table.iloc[rows]
    texts = [f"class {row.label}, task {row.task}" for row in near.itertuples()]
    if gallery.examples is not None:
        images = zip(gallery_images(gallery, rows), map(escape, texts), strict=True)
        return "".join(f'<img src="{thumbnail(image)}" alt="{text}" title="{text}">' for image, text in images)
    colours = class_colours(gallery.classes)
    chips = zip(near["label"], (colours[label] for label in near["label"]), map(escape, texts), strict=True)
    return "".join(
        f'<span class="chip" style="background:{colour};color:{ink_on(colour)}" title="{text}">{escape(label)}</span>'
        for label, colour, text in chips
    )


def _bar(distance: float, colour: str) -> str:
    """Return a number and a bar that is full at 1, the distance of another image."""
    width = 100 * min(1.0, distance)
    bar = f'<span class="moved"><span style="width:{width:.0f}%;background:{colour}"></span></span>'
    return f'<span class="distance">{bar}{distance:.2f}</span>'
