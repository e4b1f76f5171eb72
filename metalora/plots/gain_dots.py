"""Gains of generated rows over a static one, as dots with their intervals."""

import math

import pandas as pd
import plotly.graph_objects as go

from metalora.experiments.conclusion import format_gain, readable
from metalora.plots.palette import INK, Theme, layout, variant_style

SYMBOLS = {"seen": "circle", "unseen": "circle-open"}
GLYPHS = {"seen": "●", "unseen": "○"}  # of these symbols, in text
OFFSET = 0.16  # of seen and unseen dots from the middle of their row
ROW, TOP, AXIS = 46, 64, 30  # pixels: height of a row, of the title, of the axis below
PLACE = {"x": 0, "xref": "container", "y": 1, "yref": "paper", "yanchor": "bottom", "pad": {"b": 16}}  # of the title
LINE_LENGTH = 24  # letters of a row's name in a line


def gain_dots(gains: pd.DataFrame, *, theme: Theme = "light") -> go.Figure:
    """Plot the gain of every row on seen and on unseen tasks with its 95 % interval, and a line at zero.

    Args:
        gains: from `compare_to_static`, on one backbone; rows are drawn in its order, the first at the top.
        theme: of the page.
    """
    names = list(dict.fromkeys(gains["method"]))
    gains = gains.astype({"gain": float, "low": float, "high": float})
    gains = gains.assign(colour=[variant_style(name).colour for name in gains["method"]])
    traces = []
    for (task_split, colour), here in gains.groupby(["task_split", "colour"], sort=False):
        offset = OFFSET if task_split == "unseen" else -OFFSET
        traces.append(_dots(here, task_split, colour, [names.index(name) + offset for name in here["method"]]))
    others = ", ".join(readable(name) for name in dict.fromkeys(gains["against"]))
    zero = {"type": "line", "xref": "x", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1}
    splits = dict.fromkeys(gains["task_split"])
    keys = "  ".join(f"{GLYPHS[split]} {split} tasks" for split in splits)
    title = f"Gain over {others}, in points<br>{keys}, bars: 95 % intervals"
    parts = {
        "title": {"text": title, "font": {"size": 13}, **PLACE},
        "height": TOP + ROW * len(names) + AXIS,
        "margin": {"l": 10, "r": 16, "t": TOP, "b": AXIS},
        "showlegend": False,
        "shapes": [{**zero, "line": {"color": INK[theme], "width": 1.5}}],
        "xaxis": {
            "zeroline": False,
            "rangemode": "tozero",
        },
        "yaxis": {
            "range": [len(names) - 0.5, -0.5],
            "tickvals": list(range(len(names))),
            "ticktext": [_wrapped(readable(name)) for name in names],
            "zeroline": False,
        },
    }
    return go.Figure(traces, layout(theme) | parts)


def _dots(rows: pd.DataFrame, task_split: str, colour: str, heights: list[float]) -> go.Scatter:
    """Return the dots of rows of one colour, at these heights."""
    texts = []
    for row in rows.itertuples():
        interval = "" if math.isnan(row.low) else f"<br>95 % interval {format_gain(row.low)} to {format_gain(row.high)}"
        texts.append(f"{readable(row.method)}<br>{task_split} tasks: {format_gain(row.gain)} points{interval}")
    bars = {"array": 100 * (rows["high"] - rows["gain"]), "arrayminus": 100 * (rows["gain"] - rows["low"])}
    return go.Scatter(
        x=100 * rows["gain"],
        y=heights,
        error_x={**bars, "color": colour, "thickness": 1.5, "width": 4},
        mode="markers",
        name=f"{task_split} tasks",
        marker={"color": colour, "symbol": SYMBOLS[task_split], "size": 10, "line": {"width": 2, "color": colour}},
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )


def _wrapped(text: str) -> str:
    """Break a long name before its details."""
    return text.replace(" (", "<br>(", 1) if len(text) > LINE_LENGTH else text
