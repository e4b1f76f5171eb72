"""What a shift does: where the image's core lies among others, and how far embeddings move as knobs turn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from metalora.inspection.movement import CONSTANT, ORIGINAL, OTHER, OWN, STATIC
from metalora.plots.palette import INK, Theme, class_colours, layout, lighter, method_colour
from metalora.suites.knobs import KNOBS

COLUMNS = 4  # panels side by side
PANEL, GAP = 170, 70  # pixels: the height of one, between two rows
DASHES = {OTHER: "dash", CONSTANT: "dot"}


def movement_colours(method: str) -> dict[str, str]:
    """Return adapter of a `Movement` → colour, for a generated method of this name."""
    colour = method_colour(method)
    return {
        ORIGINAL: method_colour("original"),
        STATIC: method_colour("lora"),
        OWN: colour,
        OTHER: lighter(colour, 0.35),
        CONSTANT: lighter(colour, 0.55),
    }


def core_plane(
    plane: np.ndarray, tasks: Sequence[str], before: np.ndarray, now: np.ndarray, *, theme: Theme = "light"
) -> go.Figure:
    """Plot the cores of a gallery by task, with that of one image before and after a shift.

    Args:
        plane: (G, 2), of the gallery's cores.
        tasks: of the gallery's images, G names.
        before: (2), of the image as it was.
        now: (2), of the shifted image.
        theme: of the page.
    """
    names = np.asarray(tasks)
    figure = go.Figure()
    for task, colour in class_colours(tasks).items():
        points = plane[names == task]
        figure.add_scattergl(
            x=points[:, 0],
            y=points[:, 1],
            mode="markers",
            name=task,
            marker={"size": 5, "color": colour, "opacity": 0.35},
            hovertemplate=f"{task}<extra></extra>",
        )
    ink = INK[theme]
    figure.add_scattergl(
        x=[before[0], now[0]],
        y=[before[1], now[1]],
        mode="lines+markers",
        name="this image",
        line={"color": ink, "width": 1.5},
        marker={
            "symbol": ["circle-open", "circle"],
            "size": [11, 13],
            "color": ink,
            "line": {"width": 2, "color": ink},
        },
        text=["as it was", "shifted"],
        hovertemplate="this image, %{text}<extra></extra>",
    )
    figure.update_layout(layout(theme), overwrite=True, showlegend=False, height=200)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 10, "b": 30}, font_size=11)
    figure.update_xaxes(showticklabels=False, title_text="principal components of the cores", title_standoff=6)
    return figure.update_yaxes(showticklabels=False)


def with_image_at(figure: dict[str, Any], before: np.ndarray, now: np.ndarray) -> dict[str, Any]:
    """Return a `core_plane`, as plotly's JSON, with another image among the same gallery; it is not changed."""
    *gallery, image = figure["data"]
    image = {**image, "x": [float(before[0]), float(now[0])], "y": [float(before[1]), float(now[1])]}
    return {**figure, "data": [*gallery, image]}


def movement_curves(
    rows: pd.DataFrame,
    method: str,
    trained: Mapping[str, Sequence[Any]],
    titles: Mapping[str, str],
    *,
    theme: Theme = "light",
) -> go.Figure:
    """Plot how far the embedding moves as each knob turns, a panel per knob, a line per adapter.

    Args:
        rows: columns "knob", "value", "adapter" and "distance" (relative).
        method: generated, of the adapter.
        trained: knob → values that the adapter's tasks show, marked by ticks at the bottom.
        titles: adapter → its name.
        theme: of the page.
    """
    knobs = list(dict.fromkeys(rows["knob"]))
    count = -(-len(knobs) // COLUMNS)
    height = PANEL * count + GAP * (count - 1)
    gaps = {"horizontal_spacing": 0.03, "vertical_spacing": GAP / height if count > 1 else 0}
    names = [KNOBS[knob].title for knob in knobs]
    figure = make_subplots(count, COLUMNS, shared_yaxes="all", subplot_titles=names, **gaps)
    colours = movement_colours(method)
    for i, knob in enumerate(knobs):
        place = {"row": i // COLUMNS + 1, "col": i % COLUMNS + 1}
        for adapter, line in rows[rows["knob"] == knob].groupby("adapter", sort=False):
            name = titles[str(adapter)]
            figure.add_scatter(
                x=_values(line["value"]),
                y=line["distance"],
                mode="lines+markers" if not KNOBS[knob].is_number else "lines",
                name=name,
                legendgroup=name,
                showlegend=i == 0,
                line={"color": colours[str(adapter)], "dash": DASHES.get(str(adapter), "solid"), "width": 2},
                hovertemplate="%{x}: %{y:.2f}<extra>" + name + "</extra>",
                **place,
            )
        shown = _values(trained.get(knob, ()))
        figure.add_scatter(
            x=shown,
            y=[0] * len(shown),
            mode="markers",
            name="shown in training",
            legendgroup="trained",
            showlegend=bool(shown) and knob == next(iter(trained), None),
            marker={"symbol": "line-ns-open", "size": 9, "color": INK[theme], "line": {"width": 2}},
            hovertemplate="%{x}: shown in training<extra></extra>",
            **place,
        )
        if not KNOBS[knob].is_number:
            figure.update_xaxes(type="category", **place)
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text="distance moved", col=1)
    figure.update_annotations(font_size=12)
    legend = {"orientation": "h", "x": 0, "y": -0.12, "yanchor": "top"}
    margin = {"l": 50, "r": 10, "t": 40, "b": 90}
    return figure.update_layout(layout(theme), overwrite=True, height=height + 130, legend=legend).update_layout(
        margin=margin
    )


def _values(values: Any) -> list[Any]:
    """Return values as an axis shows them: words for yes and no."""
    return [("on" if value else "off") if isinstance(value, bool | np.bool_) else value for value in values]
