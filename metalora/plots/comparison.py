"""Results of a comparison: accuracy against budget, and accuracy of every task."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from metalora.experiments.table import NOT_RUN, format_count, format_percent
from metalora.plots.palette import GRID, INK, MAGNITUDE, Theme, label, layout, notice, variant_style
from metalora.util.errors import InputError

MAX_TASKS = 16  # whose cells are wide enough for text
PANEL, AXIS, LINE = 330, 65, 30  # pixels: height of a panel, of its axis below it, of a line of the legend
LINE_WIDTH, MARK_WIDTH, LETTER_WIDTH = 300, 50, 7  # pixels: of a legend on a phone, and in it of a mark, a letter


def budget_scatter(
    rows: pd.DataFrame,
    *,
    task_split: str = "unseen",
    gallery: str = "pooled",
    k: int | None = None,
    theme: Theme = "light",
) -> go.Figure:
    """Plot accuracy against trained parameters, static and generator together; a panel per backbone.

    The dashed line is the Pareto front: the best accuracy with at most so many parameters.

    Args:
        rows: `Comparison.summary`, or the "rows" of comparison.json: "mean" or "accuracy" (0 to 1), "std".
        task_split: "seen" or "unseen".
        gallery: "pooled" or "within".
        k: of k-NN; None: the smallest in the results.
        theme: of the page.

    Raises:
        InputError: a column is missing.
    """
    rows = rows.rename(columns={"accuracy": "mean"})
    rows = _select(rows, ["mean", "static_parameters", "generator_parameters"], task_split, gallery, k)
    rows = rows[rows["mean"].notna()]
    if rows.empty:
        return notice(f"{task_split} tasks, {gallery} gallery: {NOT_RUN}", theme)
    rows = rows.assign(parameters=rows["static_parameters"] + rows["generator_parameters"], percent=100 * rows["mean"])
    backbones = list(rows["backbone"].unique())
    figure = make_subplots(1, len(backbones), subplot_titles=[label(name) for name in backbones], shared_yaxes=True)
    for col, backbone in enumerate(backbones, start=1):
        panel = rows[rows["backbone"] == backbone]
        figure.add_trace(_pareto(panel, INK[theme]), row=1, col=col)
        for row in panel.to_dict("records"):
            figure.add_trace(_marker(row, INK[theme]), row=1, col=col)
    named: set[str] = set()
    for trace in figure.data:  # a variant is named once, where it first appears
        trace.showlegend = trace.legendgroup not in named
        named.add(trace.legendgroup)
    figure.update_xaxes(title_text="trained parameters", tickformat="~s", rangemode="tozero")
    title = f"accuracy, {task_split}, K = {rows['k'].iloc[0]} (%)"
    figure.update_yaxes(title_text=title, col=1)
    # However many lines the legend has, it neither squeezes the panels nor covers their axis.
    legend_height = LINE * _count_lines([trace.name for trace in figure.data if trace.showlegend])
    figure.update_layout(layout(theme), overwrite=True, height=PANEL + AXIS + legend_height)
    plot_height = PANEL - figure.layout.margin.t  # the unit of a legend's position
    legend = {"orientation": "h", "y": -AXIS / plot_height, "yanchor": "top", "maxheight": legend_height}
    return figure.update_layout(margin_b=AXIS + legend_height, legend=legend)


def _count_lines(names: Sequence[str]) -> int:
    """Estimate how many lines a legend takes."""
    count, used = 1, 0
    for name in names:
        width = MARK_WIDTH + LETTER_WIDTH * len(name)
        if used and used + width > LINE_WIDTH:
            count, used = count + 1, 0
        used += width
    return count


def _marker(row: dict, ink: str) -> go.Scatter:
    style = variant_style(row["method"])
    spread = row.get("std")
    spread = math.nan if spread is None else float(spread)
    text = f"{style.title}<br>{format_percent(row['mean'], spread)} %<br>{format_count(row['parameters'])} parameters"
    bars = {"array": [100 * spread], "color": style.colour, "thickness": 1.5} if not math.isnan(spread) else None
    return go.Scatter(
        x=[row["parameters"]],
        y=[row["percent"]],
        error_y=bars,
        mode="markers",
        cliponaxis=False,  # the original backbone is at zero
        name=style.title,
        legendgroup=row["method"],
        # An open symbol's line has the marker's colour; the thin rim keeps pale ones visible on white.
        marker={"color": style.colour, "symbol": style.symbol, "size": 12, "line": {"width": 1, "color": ink}}
        | ({"line": {"width": 2.5, "color": style.colour}} if style.symbol.endswith("-open") else {}),
        hovertemplate=f"{text}<extra></extra>",
    )


def _pareto(rows: pd.DataFrame, ink: str) -> go.Scatter:
    """Return a step line over rows that no other beats with as many parameters or fewer."""
    ordered = rows.sort_values(["parameters", "percent"], ascending=[True, False])
    front = ordered[ordered["percent"] > ordered["percent"].cummax().shift(fill_value=-math.inf)]
    return go.Scatter(
        x=front["parameters"],
        y=front["percent"],
        mode="lines",
        line={"color": ink, "width": 1, "dash": "dash", "shape": "hv"},
        name="Pareto front",
        legendgroup="Pareto front",
        hoverinfo="skip",
    )


def task_heatmap(
    tasks: pd.DataFrame,
    *,
    backbone: str | None = None,
    task_split: str = "unseen",
    gallery: str = "pooled",
    k: int | None = None,
    methods: Sequence[str] | None = None,
    theme: Theme = "light",
) -> go.Figure:
    """Plot the accuracy of every row on every task, mean over seeds; cells that were not run say so.

    Args:
        tasks: `Comparison.tasks`: "method", "backbone", "task_split", "gallery", "k", "task", "accuracy" (0 to 1).
        backbone: None: the first one.
        task_split: "seen" or "unseen".
        gallery: "pooled" or "within".
        k: of k-NN; None: the smallest in the results.
        methods: the rows, in this order; None: all.
        theme: of the page.

    Raises:
        InputError: a column is missing.
    """
    cells = _select(tasks, ["task", "accuracy"], task_split, gallery, k)
    cells = cells[cells["backbone"] == (cells["backbone"].iloc[0] if backbone is None and len(cells) else backbone)]
    methods = list(cells["method"].unique()) if methods is None else list(methods)
    cells = cells[cells["method"].isin(methods) & cells["accuracy"].notna()]
    if cells.empty:
        return notice(f"{task_split} tasks, {gallery} gallery: {NOT_RUN}", theme)
    table = 100 * cells.pivot_table(index="method", columns="task", values="accuracy", sort=False).reindex(methods)
    percent = table.to_numpy(float)
    names = {"x": [label(task, 40) for task in table.columns], "y": [variant_style(name).title for name in methods]}
    figure = go.Figure([_measured(percent, cells["k"].iloc[0]), _absent(percent, theme)])
    figure.update_traces(**names, texttemplate="%{text}", xgap=1, ygap=1, hoverongaps=False)
    figure.update_layout(layout(theme), overwrite=True, height=210 + 38 * len(methods))
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"})
    figure.update_xaxes(title_text=f"{task_split} tasks", showgrid=False)
    return figure.update_yaxes(autorange="reversed", showgrid=False)


def _measured(percent: np.ndarray, k: int) -> go.Heatmap:
    """Return the measured cells, on a scale between the tens around them."""
    low, high = 10 * math.floor(np.nanmin(percent) / 10), 10 * math.ceil(np.nanmax(percent) / 10)
    return go.Heatmap(
        z=percent,
        zmin=low,
        zmax=max(high, low + 10),
        colorscale=MAGNITUDE,
        colorbar={
            "title": {"text": f"accuracy,<br>K = {k} (%)"},
            "lenmode": "pixels",
            "len": 150,
            "y": 1,
            "yanchor": "top",
        },
        text=[["" if math.isnan(value) else format_percent(value / 100) for value in row] for row in percent],
        hovertemplate="%{y}<br>%{x}<br>%{text} %<extra></extra>",
    )


def _absent(percent: np.ndarray, theme: Theme) -> go.Heatmap:
    """Return the cells that were not run, in grey."""
    absent, legible = np.isnan(percent), percent.shape[1] <= MAX_TASKS
    return go.Heatmap(
        z=np.where(absent, 1.0, np.nan),
        colorscale=[[0, GRID[theme]], [1, GRID[theme]]],
        showscale=False,
        # In two lines it fits a narrow cell; with many tasks a legend says it instead.
        text=np.where(absent & legible, NOT_RUN.replace(" ", "<br>"), "").tolist(),
        textfont={"size": 10},
        name=NOT_RUN,
        showlegend=bool(absent.any() and not legible),
        hovertemplate=f"%{{y}}<br>%{{x}}<br>{NOT_RUN}<extra></extra>",
    )


def _select(frame: pd.DataFrame, needed: list[str], task_split: str, gallery: str, k: int | None) -> pd.DataFrame:
    """Return the rows of one task split, gallery and k."""
    missing = [name for name in ("method", "backbone", "task_split", "gallery", "k", *needed) if name not in frame]
    if missing:
        raise InputError(f"The results lack the columns {', '.join(missing)}: read a comparison.json of this version.")
    rows = frame[(frame["task_split"] == task_split) & (frame["gallery"] == gallery)]
    return rows[rows["k"] == (rows["k"].min() if k is None else k)]
