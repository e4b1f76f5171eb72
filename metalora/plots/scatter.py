"""The scatter of an embedding, for a page with its own hover, click and lasso."""

from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from metalora.plots.palette import NEUTRAL, RIGHT, WRONG, Theme, class_colours, label, layout
from metalora.util.errors import InputError

Colour = Literal["label", "task", "correct"]
UNKNOWN = "unknown"
NEAREST = 10  # points around the middle of a cluster, most of which have to be its own
SMALLEST = 5  # points of a cluster that gets a label


def embedding_scatter(
    points: pd.DataFrame,
    *,
    colour: Colour = "label",
    classes: list[str] | tuple[str, ...] | None = None,
    title: str | None = None,
    axes: tuple[str, str] = ("UMAP 1", "UMAP 2"),
    theme: Theme = "light",
) -> go.Figure:
    """Plot points in the plane, a trace per value of the column `colour`.

    Args:
        points: a row per image: "x", "y", and "label", "task" or "correct" (bool, or NaN where unknown).
        colour: the column.
        classes: the whole label space, so that a class keeps its colour where some are absent; None: those that occur.
        title: above the plot.
        axes: their titles; they have no unit, so no numbers.
        theme: of the page.

    Returns:
        `customdata` of a point is its position in `points` (for `iloc`). Hovering shows nothing by itself.
        Another colour keeps the zoom, other coordinates reset it. A click on the legend isolates a value.

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
            marker={"color": hue, "size": 5 if len(points) <= 1000 else 3, "opacity": 0.75},
            hoverinfo="none",
        )
    no_scale = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": ""}
    x_title, y_title = (label(axis, 60) for axis in axes)
    figure.update_xaxes(**no_scale, title_text=x_title)
    figure.update_yaxes(**no_scale, title_text=y_title, scaleanchor="x", scaleratio=1)
    revision = str(pd.util.hash_pandas_object(points[["x", "y"]]).sum())
    legend = {
        "title": {"text": {"label": "class"}.get(colour, colour)},
        "itemsizing": "constant",
        "itemclick": "toggleothers",
        "itemdoubleclick": "toggle",
        "uirevision": f"{colour} {revision}",  # what is hidden of one colour says nothing of another
    }
    figure.update_layout(
        layout(theme),
        overwrite=True,
        title=None if title is None else label(title, 60),
        showlegend=True,
        legend=legend,
        dragmode="lasso",
        hovermode="closest",
        uirevision=revision,
    )
    return figure


def cluster_labels(points: pd.DataFrame, colour: Colour = "label") -> list[dict[str, Any]]:
    """Name the clusters on the plane: one label for each cluster of a value, at its medoid.

    A value gets none where its points are scattered among others: a cluster is what DBSCAN finds of one value, and most
    of the points around its middle have to be of that value.

    Args:
        points: as for `embedding_scatter`.
        colour: the column; "correct" has no clusters.

    Returns:
        {"text", "row" (position of the medoid in `points`), "size" (points of the cluster)}, the largest first.
    """
    if colour == "correct" or len(points) <= NEAREST:
        return []
    from sklearn.cluster import DBSCAN
    from sklearn.neighbors import NearestNeighbors

    plane, values = points[["x", "y"]].to_numpy(dtype=float), _values(points[colour], colour)
    distances, near = NearestNeighbors(n_neighbors=NEAREST + 1).fit(plane).kneighbors()
    reach = 3 * float(np.median(distances[:, 3])) or 1.0
    labels = []
    for value in sorted(set(values) - {UNKNOWN}):
        rows = np.flatnonzero(values == value)
        clusters = DBSCAN(eps=reach, min_samples=3).fit_predict(plane[rows])
        for number in range(clusters.max() + 1):
            members = rows[clusters == number]
            middle = members[_medoid(plane[members])]
            if len(members) >= SMALLEST and (values[near[middle][:NEAREST]] == value).mean() > 0.5:
                labels.append({"text": str(value), "row": int(middle), "size": len(members)})
    return sorted(labels, key=lambda one: -int(one["size"]))


def _medoid(plane: np.ndarray) -> int:
    """Return the point whose distances to all others are smallest in sum."""
    return int(np.linalg.norm(plane[:, None] - plane[None], axis=-1).sum(1).argmin())


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
