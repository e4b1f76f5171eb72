"""A chart as files: a page that needs no server, and a table."""

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from metalora.plots.page import as_page
from metalora.util.files import write_text
from metalora.views.embedding import Chart

HTML, CSV = "embedding.html", "embedding.csv"


def write_page(made: Chart, figures: Sequence[go.Figure], folder: Path) -> Path:
    """Write `HTML` into a folder; its path.

    Args:
        figures: made by `figures.embedding`, one for each of the chart's frames.

    Raises:
        InputError: the disk refuses.
    """
    lines = [f"{made.projection.words}."]
    if made.projection.method == "umap":
        lines.append("Distances on a UMAP are not metric.")
    write_text(folder / HTML, as_page(figures, made.frames, lines))
    return folder / HTML


def write_table(made: Chart, folder: Path) -> Path:
    """Write `CSV`, the chart's table, into a folder; its path.

    Raises:
        InputError: the disk refuses.
    """
    write_text(folder / CSV, made.table().to_csv(index=False, lineterminator="\n"))
    return folder / CSV
