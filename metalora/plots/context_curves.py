"""Accuracy against the number of images of a set: a line per training, and a level line for rows without sets."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from metalora.experiments.contexts import IN_SETS, sorted_sizes
from metalora.plots.palette import Theme, label, layout, notice, variant_style

PANEL, AROUND = 260, 150  # pixels: height of a panel, of title, axis and legend


def context_figure(rows: pd.DataFrame, *, theme: Theme = "light") -> go.Figure:
    """Plot accuracies with their standard deviations; a column per backbone, a row per task split.

    Args:
        rows: as `metalora.experiments.contexts.context_rows` returns them.
        theme: of the page.
    """
    if rows.empty:
        return notice("No training was used with sets of several sizes yet.", theme)
    backbones, splits = list(rows["backbone"].unique()), list(rows["task_split"].unique())
    figure = make_subplots(
        len(splits), len(backbones), shared_xaxes="all", column_titles=[label(name) for name in backbones]
    )
    sizes, named = sorted_sizes(rows["set_size"]), set()
    for (backbone, split, name), line in rows.groupby(["backbone", "task_split", "row"], sort=False):
        place = {"row": splits.index(split) + 1, "col": backbones.index(backbone) + 1}
        figure.add_trace(_line(line, name, sizes, in_legend=name not in named), **place)
        named.add(name)
    for number, split in enumerate(splits, start=1):
        figure.update_yaxes(title_text=f"accuracy, {split} (%)", row=number, col=1)
    # An axis of categories takes them in this order, whichever line has them.
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=sizes)
    figure.update_xaxes(title_text="images of a set", row=len(splits))
    height = PANEL * len(splits) + AROUND
    legend = {"orientation": "h", "x": 0, "y": -AROUND / 2 / height, "yanchor": "top"}
    return figure.update_layout(layout(theme), overwrite=True, height=height, legend=legend)


def _line(line: pd.DataFrame, name: str, sizes: list[str], *, in_legend: bool) -> go.Scatter:
    style = variant_style(name.removesuffix(IN_SETS))
    is_level = (line["set_size"] == "").all()
    points = line.loc[line.index.repeat(len(sizes))].assign(set_size=sizes) if is_level else _in_order(line, sizes)
    spread = None if is_level else {"array": (100 * points["std"]).fillna(0), "color": style.colour, "thickness": 1}
    return go.Scatter(
        x=points["set_size"],
        y=100 * points["mean"],
        error_y=spread,
        mode="lines" if is_level else "lines+markers",
        name=style.title + (", trained with sets" if name.endswith(IN_SETS) else ""),
        legendgroup=name,
        showlegend=in_legend,
        line={"color": style.colour, "dash": "dash" if is_level else "solid"},
        marker={"symbol": style.symbol, "size": 9},
        hovertemplate="%{x} images: %{y:.1f} %<extra>" + label(name, 40) + "</extra>",
    )


def _in_order(line: pd.DataFrame, sizes: list[str]) -> pd.DataFrame:
    return line.sort_values("set_size", key=lambda found: found.map(sizes.index), kind="stable")
