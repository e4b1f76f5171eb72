"""An embedding as files: a page that needs no server, and a table."""

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from metalora.plots.page import as_page
from metalora.util.files import write_text
from metalora.views.embedding import EmbeddingView

HTML, CSV, TSV = "embedding.html", "embedding.csv", "embedding.tsv"


def write_page(view: EmbeddingView, figures: Sequence[go.Figure], folder: Path) -> Path:
    """Write `HTML`, a page that needs no server, into a folder and return its path.

    Args:
        view: to be written.
        figures: a scatter of each of its frames.
        folder: where to write.

    Raises:
        InputError: the disk refuses.
    """
    lines = [view.describe()]
    if view.projection.method == "umap":
        lines.append("Distances on a UMAP are not metric.")
    write_text(folder / HTML, as_page(figures, view.frames, lines))
    return folder / HTML


def write_table(view: EmbeddingView, folder: Path, name: str = CSV) -> Path:
    """Write the view's table into a folder, as `CSV` or `TSV`, and return its path.

    Raises:
        InputError: the disk refuses.
    """
    separator = "\t" if name == TSV else ","
    write_text(folder / name, view.table().to_csv(index=False, sep=separator, lineterminator="\n"))
    return folder / name
