"""The map of gains: a column per varied setting, a row per task split, a line per set size."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from metalora.experiments.gain_map import SIZES
from metalora.plots.palette import INK, Theme, layout, lighter, method_colour, notice

COLOUR = method_colour("metalora-tr")
STYLES = {  # set size → colour, dash, name
    "1": (lighter(COLOUR, 0.6), "dot", "single images"),
    "8": (lighter(COLOUR, 0.3), "dash", "sets of 8"),
    "all": (COLOUR, "solid", "all images of the task"),
}


def gain_figure(rows: pd.DataFrame, *, theme: Theme = "light") -> go.Figure:
    """Plot the gain over LoRA of equal total budget in points, with 95 % intervals; below 0 generation loses.

    Args:
        rows: as `metalora.experiments.gain_map.gain_map` returns them.
        theme: of the page.
    """
    if rows.empty:
        return notice("No part of the map has run yet.", theme)
    axes, splits = list(rows["axis"].unique()), list(rows["task_split"].unique())
    spacing = {"horizontal_spacing": 0.03, "vertical_spacing": 0.08}
    figure = make_subplots(len(splits), len(axes), shared_yaxes="all", shared_xaxes="columns", **spacing)
    for row, task_split in enumerate(splits, start=1):
        for col, axis in enumerate(axes, start=1):
            panel = rows[(rows["axis"] == axis) & (rows["task_split"] == task_split)]
            if axis == SIZES:
                figure.add_trace(_line(panel, COLOUR, "solid", "by size", in_legend=False), row=row, col=col)
            else:
                for size, (colour, dash, name) in STYLES.items():
                    line = panel[panel["set_size"] == size].sort_values("value")
                    figure.add_trace(_line(line, colour, dash, name, in_legend=row == col == 1), row=row, col=col)
            figure.add_hline(0, line={"color": INK[theme], "width": 1}, row=row, col=col)
        figure.update_yaxes(title_text=f"gain on {task_split} tasks (points)", row=row, col=1)
    for col, axis in enumerate(axes, start=1):
        figure.update_xaxes(title_text=axis, row=len(splits), col=col)
        for row in range(1, len(splits) + 1):
            figure.update_xaxes(type="category" if axis == SIZES else "log", row=row, col=col)
            if axis != SIZES:
                ticks = sorted(rows.loc[rows["axis"] == axis, "value"].astype(float).unique())
                texts = [f"{tick:.0f}" if tick < 10_000 else f"{tick / 1000:.0f} k" for tick in ticks]
                figure.update_xaxes(tickvals=ticks, ticktext=texts, tickangle=0, row=row, col=col)
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    return figure.update_layout(layout(theme), overwrite=True, height=220 * len(splits) + 140, legend=legend)


def _line(rows: pd.DataFrame, colour: str, dash: str, name: str, *, in_legend: bool) -> go.Scatter:
    gain = 100 * rows["gain"]
    bars = {
        "array": (100 * rows["high"] - gain).fillna(0),
        "arrayminus": (gain - 100 * rows["low"]).fillna(0),
        "color": colour,
        "thickness": 1.5,
    }
    return go.Scatter(
        x=rows["value"],
        y=gain,
        error_y=bars,
        mode="lines+markers",
        name=name,
        legendgroup=name,
        showlegend=in_legend,
        line={"color": colour, "dash": dash},
        hovertemplate="%{x}: %{y:+.1f} points<extra>" + name + "</extra>",
    )
