"""What was generated, in detail: one layer's cores, strengths, similarities of images, their codes."""

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from metalora.inspection.inspect_images import Inspection
from metalora.plots.palette import MAGNITUDE, NEUTRAL, SIGNED, Theme, label, layout, method_colour, notice
from metalora.util.errors import InputError

COLUMNS = 4  # panels side by side
MAX_LAYERS = 16  # whose names fit below a heat map
MAX_LETTERS = 14  # of a name above a panel or a point
PANEL, GAP, TOP, BOTTOM = 150, 48, 30, 60  # pixels: a panel, between two, above and below all


def core_values(inspection: Inspection, layer: str, *, theme: Theme = "light") -> go.Figure:
    """Plot one layer's core of every image: c (R) as bars, C (R, R) as a heat map, on one scale around zero.

    Raises:
        InputError: a method without cores, or no such layer.
    """
    if inspection.cores is None:
        raise InputError("This method has no core to show: choose metalora-cp or metalora-tr.")
    core = inspection.cores[layer].float().numpy()
    names = [label(name, MAX_LETTERS) for name in inspection.names]
    limit = float(np.abs(core).max()) or 1.0
    steps = [*range(1, core.shape[-1] + 1)] if core.shape[-1] <= 9 else None
    if core.ndim == 2:
        figure, draw, symbol = _panels(names, "rank index r", "c[r]", theme), _bars, "c"
        figure.update_yaxes(range=[-1.05 * limit, 1.05 * limit])
    else:
        figure, draw, symbol = _panels(names, "column r0", "row r2", theme), _cells, "C"
        figure.update_yaxes(tickvals=steps, showgrid=False, zeroline=False, autorange="reversed")
    figure.update_xaxes(tickvals=steps, showgrid=False, zeroline=False)
    for i, sample in enumerate(core):
        figure.add_trace(draw(sample), row=i // COLUMNS + 1, col=i % COLUMNS + 1)
    scale = {"cmin": -limit, "cmax": limit, "colorscale": SIGNED, "colorbar": {"title": {"text": symbol}}}
    return figure.update_layout(coloraxis=scale)


def _panels(names: list[str], x: str, y: str, theme: Theme) -> go.Figure:
    """Return empty panels with one scale, `COLUMNS` in a row, each as high as a single one.

    They share the titles of the axes, which would overlap side by side on a narrow screen.
    """
    rows, columns = -(-len(names) // COLUMNS), min(COLUMNS, len(names))
    plot_height = PANEL * rows + GAP * (rows - 1)
    gaps = {"horizontal_spacing": 0.2 / columns / COLUMNS, "vertical_spacing": GAP / plot_height}
    shared = {"shared_xaxes": "all", "shared_yaxes": "all", "x_title": x, "y_title": y}
    figure = make_subplots(rows, columns, subplot_titles=names, **shared, **gaps)
    figure.update_annotations(font_size=11)
    figure.update_layout(layout(theme), overwrite=True, showlegend=False, height=plot_height + TOP + BOTTOM)
    return figure.update_layout(margin={"l": 60, "t": TOP, "b": BOTTOM})


def _bars(core: np.ndarray) -> go.Bar:
    ranks = np.arange(1, len(core) + 1)
    colour = {"color": core, "coloraxis": "coloraxis", "line": {"width": 1, "color": NEUTRAL}}
    return go.Bar(x=ranks, y=core, marker=colour, hovertemplate="c[%{x}] = %{y:.3f}<extra></extra>")


def _cells(core: np.ndarray) -> go.Heatmap:
    ranks = np.arange(1, len(core) + 1)
    text = "C[%{y}, %{x}] = %{z:.3f}<extra></extra>"
    return go.Heatmap(x=ranks, y=ranks, z=core, coloraxis="coloraxis", hovertemplate=text, xgap=1, ygap=1)


def strengths(inspection: Inspection, *, theme: Theme = "light") -> go.Figure:
    """Plot ‖ΔW‖ / ‖W‖ of every layer, a row per image; one row where one adapter is used for all images."""
    strength = inspection.strength.iloc[:1] if inspection.constant else inspection.strength
    names = ["every image"] if inspection.constant else list(inspection.names)
    layers = [label(name, 60) for name in strength]
    figure = go.Figure(
        go.Heatmap(
            z=strength.to_numpy(),
            x=layers,
            zmin=0,
            zmax=float(strength.to_numpy().max()) or 1.0,
            colorscale=MAGNITUDE,
            colorbar={"title": {"text": "‖ΔW‖ / ‖W‖", "side": "right"}},
            hovertemplate="%{x}<br>‖ΔW‖ / ‖W‖ = %{z:.3f}<extra></extra>",
            ygap=1,
        )
    )
    figure.update_layout(
        layout(theme), overwrite=True, height=150 + 24 * len(names) + (90 if len(layers) <= MAX_LAYERS else 0)
    )
    figure.update_xaxes(title_text="layers, shallow to deep", showticklabels=len(layers) <= MAX_LAYERS)
    return figure.update_yaxes(**_by_name(names), autorange="reversed")


def similarities(inspection: Inspection, *, theme: Theme = "light") -> go.Figure:
    """Plot the cosine similarity between the images' cores, all layers side by side.

    Raises:
        InputError: a method without cores.
    """
    if inspection.similarity is None:
        raise InputError("This method has no core to compare: choose metalora-cp or metalora-tr.")
    cosine = inspection.similarity.numpy()
    lowest = float(cosine.min())
    # Where all are alike, a scale from -1 would show one colour.
    scale = {"zmin": -1, "colorscale": SIGNED} if lowest < 0 else {"zmin": lowest, "colorscale": MAGNITUDE}
    figure = go.Figure(
        go.Heatmap(
            z=cosine,
            **scale,
            zmax=1,
            colorbar={"title": {"text": "cosine"}},
            texttemplate="%{z:.3f}",
            hovertemplate="cosine %{z:.4f}<extra></extra>",
            xgap=1,
            ygap=1,
        )
    )
    figure.update_layout(layout(theme), overwrite=True, height=180 + 34 * len(cosine))
    figure.update_xaxes(**_by_name(inspection.names), tickangle=-45)
    return figure.update_yaxes(**_by_name(inspection.names), autorange="reversed")


def _by_name(names: list[str] | tuple[str, ...]) -> dict:
    """Return an axis of rows numbered from 0 that shows names; two of one name stay two rows."""
    return {
        "tickvals": list(range(len(names))),
        "ticktext": [label(name) for name in names],
        "showgrid": False,
        "zeroline": False,
    }


def code_scatter(codes: Tensor, names: list[str] | tuple[str, ...], *, theme: Theme = "light") -> go.Figure:
    """Plot the images' codes (N, code) on their first two principal components, or say why there is nothing to see."""
    codes = codes.detach().double().cpu()
    if len(codes) < 3:
        return notice("Three images or more are needed to compare their codes.", theme)
    if torch.allclose(codes, codes[:1]):
        return notice("These images share one code.", theme)
    padded = torch.nn.functional.pad(codes, (0, max(0, 2 - codes.shape[1])))  # a code of one number is a line
    from sklearn.decomposition import PCA  # slow to import, and not needed by the app's first page

    pca = PCA(2)
    points = pca.fit_transform(padded.numpy())
    figure = go.Figure(
        go.Scatter(
            x=points[:, 0],
            y=points[:, 1],
            mode="markers+text",
            text=[label(name, MAX_LETTERS) for name in names],
            textposition="top center",
            cliponaxis=False,
            marker={"size": 9, "color": method_colour("metalora-tr")},
            hovertemplate="%{text}<extra></extra>",
        )
    )
    figure.update_layout(layout(theme), overwrite=True, showlegend=False, height=320)
    axes = [
        f"PC {i + 1} ({100 * fraction:.0f} % of variance)" for i, fraction in enumerate(pca.explained_variance_ratio_)
    ]
    figure.update_xaxes(title_text=axes[0])
    return figure.update_yaxes(title_text=axes[1], scaleanchor="x", scaleratio=1)
