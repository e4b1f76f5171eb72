"""The scatter of an embedding, for a page with its own hover, click and lasso."""

from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from metalora.plots.palette import NEUTRAL, RIGHT, WRONG, Theme, class_colours, label, layout
from metalora.util.errors import InputError

Colour = Literal["label", "task", "correct"]
UNKNOWN = "unknown"


def embedding_scatter(
    points: pd.DataFrame,
    *,
    colour: Colour = "label",
    classes: list[str] | tuple[str, ...] | None = None,
    title: str | None = None,
    axes: str = "UMAP",
    theme: Theme = "light",
) -> go.Figure:
    """Plot points in the plane, a trace per value of the column `colour`.

    Args:
        points: a row per image: "x", "y", and "label", "task" or "correct" (bool, or NaN where unknown).
        colour: the column.
        classes: the whole label space, so that a class keeps its colour where some are absent; None: those that occur.
        title: above the plot.
        axes: name of the projection; its axes have no unit, so no numbers.
        theme: of the page.

    Returns:
        `customdata` of a point is its position in `points` (for `iloc`). Hovering shows nothing by itself.
        Another colour keeps the zoom, other coordinates reset it.

    Raises:
        InputError: there is no such column.
    """
    missing = [name for name in ("x", "y", colour) if name not in points]
    if missing:
        raise InputError(f"The points lack {', '.join(missing)}: choose another colour or project them again.")
    values = _values(points[colour], colour)
    figure = go.Figure()
    for value, hue in _hues(values, colour, classes).items():
        rows = np.flatnonzero(values == value)
        figure.add_scattergl(
            x=points["x"].to_numpy()[rows],
            y=points["y"].to_numpy()[rows],
            customdata=rows,
            name=label(value),
            mode="markers",
            marker={"color": hue, "size": 7 if len(points) <= 1000 else 5, "opacity": 0.8},
            hoverinfo="none",
        )
    no_scale = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": ""}
    figure.update_xaxes(**no_scale, title_text=f"{label(axes)} 1")
    figure.update_yaxes(**no_scale, title_text=f"{label(axes)} 2", scaleanchor="x", scaleratio=1)
    figure.update_layout(
        **layout(theme),
        title=None if title is None else label(title, 60),
        showlegend=True,
        legend={"title": {"text": {"label": "class"}.get(colour, colour)}, "itemsizing": "constant"},
        dragmode="lasso",
        hovermode="closest",
        uirevision=str(pd.util.hash_pandas_object(points[["x", "y"]]).sum()),
    )
    return figure


def _values(column: pd.Series, colour: Colour) -> np.ndarray:
    """Return the name of each point in the legend."""
    if colour == "correct":
        names = column.astype(object).map({True: "right", False: "wrong"})
    else:
        names = column.astype(object).where(column.notna() & (column != ""))
    return names.fillna(UNKNOWN).astype(str).to_numpy()


def _hues(values: np.ndarray, colour: Colour, classes: list[str] | tuple[str, ...] | None) -> dict[str, str]:
    """Return value → colour, for values that occur."""
    present = sorted(set(values) - {UNKNOWN})
    if colour == "correct":
        colours = {"right": RIGHT, "wrong": WRONG}
    else:
        colours = class_colours([*present, *(classes if classes is not None and colour == "label" else ())])
    hues = {value: colours[value] for value in present}
    return hues | ({UNKNOWN: NEUTRAL} if UNKNOWN in values else {})
