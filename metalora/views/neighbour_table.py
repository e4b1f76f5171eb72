"""The neighbours of images in a gallery, as HTML tables with thumbnails; all text is escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd
from torch import Tensor

from metalora.inspection.gallery import Gallery
from metalora.inspection.neighbours import NeighbourReport, SwapResult
from metalora.plots.thumbnails import thumbnail
from metalora.views.gallery_images import gallery_images


@dataclass(frozen=True, eq=False)
class Column:
    """The neighbours of N images under one adapter.

    Attributes:
        title: of the adapter.
        predicted: classes by k-NN, one for each image.
        nearest: as `Gallery.nearest`.
        gallery: of the adapter.
    """

    title: str
    predicted: Sequence[str]
    nearest: pd.DataFrame
    gallery: Gallery

    def cell(self, image: int) -> str:
        """Return class and neighbours of an image."""
        return _neighbours(self.predicted[image], self.nearest[self.nearest["image"] == image], self.gallery)


def neighbour_table(
    names: Sequence[str], images: Tensor, columns: Sequence[Column], factors: Sequence[str] = ()
) -> str:
    """Return a row per image: its class and its neighbours under each adapter.

    Args:
        names: of the images.
        images: float RGB in [0, 1], (N, 3, H, W).
        columns: one for each adapter.
        factors: what was predicted of each image, for a column of its own.
    """
    rows = []
    for i, name in enumerate(names):
        cells = [f'<span class="read">{escape(factors[i])}</span>'] if factors else []
        rows.append((name, images[i], [*cells, *(column.cell(i) for column in columns)]))
    headings = ["predicted factors"] if factors else []
    return image_table("Neighbours in the gallery", [*headings, *(column.title for column in columns)], rows)


def swap_table(report: NeighbourReport, images: Tensor, receiver: int, result: SwapResult, gallery: Gallery) -> str:
    """Return one row: the receiver's class and neighbours with its own core, and with the swapped one."""
    name = f"{receiver + 1}. {report.inspection.names[receiver]}"
    cells = [
        Column("", report.predicted_after, report.nearest_after, gallery).cell(receiver),
        _neighbours(result.predicted, result.nearest, gallery),
    ]
    headings = ["with its own core", "with the swapped core"]
    return image_table("Neighbours after the swap", headings, [(name, images[receiver], cells)])


def image_table(caption: str, headings: Sequence[str], rows: list[tuple[str, Tensor, list[str]]]) -> str:
    """Return a row per image, whose name and thumbnail are its first cell.

    Args:
        caption: for screen readers.
        headings: of the other columns.
        rows: name and image, and the other cells as HTML.
    """
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in ("image", *headings))
    body = "".join(
        f'<tr><th scope="row"><img src="{thumbnail(image)}" alt=""><span>{escape(name)}</span></th>'
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, image, cells in rows
    )
    # Scrolling must be possible with the keyboard as well, hence the tabindex.
    return (
        f'<div class="places" tabindex="0" role="region" aria-label="{caption}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _neighbours(predicted: str, nearest: pd.DataFrame, gallery: Gallery) -> str:
    """Return the predicted class in words, then the neighbours, each named by its tooltip and for screen readers."""
    images = gallery_images(gallery, nearest["index"].tolist())
    thumbnails = []
    for row, image in zip(nearest.itertuples(), images, strict=True):
        text = escape(f"class {row.label}, task {row.task}, cosine {row.similarity:.3f}")
        thumbnails.append(f'<img src="{thumbnail(image)}" alt="{text}" title="{text}">')
    return f'<span class="class">class <b>{escape(predicted)}</b></span><span class="near">{"".join(thumbnails)}</span>'
