"""Where pictures lie in a gallery, as HTML tables with small pictures; all text is escaped."""

from collections.abc import Sequence
from html import escape

import pandas as pd
from torch import Tensor

from metalora.inspection.gallery import Gallery
from metalora.inspection.neighbours import Examination, Exchange
from metalora.plots.thumbnails import thumbnail


def neighbour_table(found: Examination, images: Tensor, gallery: Gallery, read: Sequence[str] = ()) -> str:
    """A row per picture: its class and its nearest gallery pictures by the original backbone and with its adapter.

    Args:
        images: those examined, float RGB in [0, 1], (N, 3, H, W).
        read: what was read off each of them, for a column of its own.
    """
    rows = []
    for i, name in enumerate(found.inspection.names):
        cells = [
            _place(found.predicted_before[i], _of(found.nearest_before, i), gallery),
            _place(found.predicted_after[i], _of(found.nearest_after, i), gallery),
        ]
        told = [f'<span class="read">{escape(read[i])}</span>'] if read else []
        rows.append((f"{i + 1}. {name}", images[i], [*told, *cells]))
    told = ["read off it"] if read else []
    return _table("Places in the gallery", (*told, "original backbone", "with its adapter"), rows)


def exchange_table(found: Examination, images: Tensor, receiver: int, given: Exchange, gallery: Gallery) -> str:
    """One row: the receiver's class and nearest gallery pictures with its own core, and with the one given to it."""
    name = f"{receiver + 1}. {found.inspection.names[receiver]}"
    cells = [
        _place(found.predicted_after[receiver], _of(found.nearest_after, receiver), gallery),
        _place(given.predicted, given.nearest, gallery),
    ]
    return _table(
        "Place after the exchange", ("with its own core", "with the core given"), [(name, images[receiver], cells)]
    )


def _of(nearest: pd.DataFrame, image: int) -> pd.DataFrame:
    return nearest[nearest["image"] == image]


def _table(caption: str, headings: Sequence[str], rows: list[tuple[str, Tensor, list[str]]]) -> str:
    over = "".join(f'<th scope="col">{words}</th>' for words in ("picture", *headings))
    body = "".join(
        f'<tr><th scope="row"><img src="{thumbnail(image)}" alt=""><span>{escape(name)}</span></th>'
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, image, cells in rows
    )
    # Scrolling must be possible with the keyboard as well, hence the tabindex.
    return (
        f'<div class="places" tabindex="0" role="region" aria-label="{caption}">'
        f"<table><thead><tr>{over}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _place(predicted: str, nearest: pd.DataFrame, gallery: Gallery) -> str:
    """The predicted class in words, then the neighbours, each named by its tooltip and to those who do not see."""
    images = gallery.examples[nearest["index"].tolist()].images()
    pictures = []
    for row, image in zip(nearest.itertuples(), images, strict=True):
        words = escape(f"class {row.label}, task {row.task}, cosine {row.similarity:.3f}")
        pictures.append(f'<img src="{thumbnail(image)}" alt="{words}" title="{words}">')
    return f'<span class="class">class <b>{escape(predicted)}</b></span><span class="near">{"".join(pictures)}</span>'
