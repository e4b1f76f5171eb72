"""The fingerprint: the whole adapter of each picture in one glance."""

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from metalora.adapters.cores import Cores
from metalora.inspection.inspect_images import Inspection
from metalora.plots.palette import MAGNITUDE, SIGNED, Theme, label, layout
from metalora.plots.thumbnails import thumbnail
from metalora.util.errors import InputError

PICTURE, SIDE = 0.12, 128  # share of the width; pixels
GAP = 7  # pixels between two strips


def fingerprint(
    inspection: Inspection,
    images: Tensor,
    *,
    reference: Cores | None = None,
    title: str | None = None,
    theme: Theme = "print",
) -> go.Figure:
    """The whole adapter of each picture in one glance.

    Layers from left to right; above, what was generated, as the difference from the mean core of the
    pictures shown, one cell a value, on one diverging scale around zero; below, the strength
    ‖ΔW‖ / ‖W‖ of each layer's update, on one scale from zero. Pictures that share one core are held
    against the neutral core (c = 1, C = identity), at which the method is a static LoRA.

    Args:
        inspection: of N pictures, by a method that generates.
        images: float RGB in [0, 1], (N, 3, H, W).
        reference: one sample, to be held against instead, such as the mean core of a gallery.

    Raises:
        InputError: a method without cores.
    """
    if inspection.cores is None:
        raise InputError("This method has no core, so there is no fingerprint: choose metalora-cp or metalora-tr.")
    count, layers = len(images), [label(name, 60) for name in inspection.strength]
    values, words = _differences(inspection.cores, reference)
    limit = np.nanmax(np.abs(values)) or 1.0
    strength = inspection.strength.to_numpy()
    height = 60 + 110 * count
    gaps = {"vertical_spacing": GAP / height, "row_heights": [5, 1] * count}
    figure = make_subplots(2 * count, 1, shared_xaxes=True, **gaps)
    for row in range(count):
        core = {"z": values[row, ::-1], "zmin": -limit, "zmax": limit, "colorscale": SIGNED}
        core["hovertemplate"] = f"%{{x}}<br>{words} %{{z:.3f}}<extra></extra>"
        bar = {"len": 0.45, "y": 0.78, "title": {"text": words}}
        figure.add_heatmap(**core, x=layers, showscale=row == 0, colorbar=bar, row=2 * row + 1, col=1)
        strip = {"z": strength[row : row + 1], "zmin": 0, "zmax": strength.max() or 1.0, "colorscale": MAGNITUDE}
        strip["hovertemplate"] = "%{x}<br>‖ΔW‖ / ‖W‖ %{z:.3f}<extra></extra>"
        bar = {"len": 0.45, "y": 0.22, "title": {"text": "‖ΔW‖ / ‖W‖"}}
        figure.add_heatmap(**strip, x=layers, showscale=row == 0, colorbar=bar, row=2 * row + 2, col=1)
        _add_picture(figure, row, images[row])
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False, zeroline=False)
    figure.update_xaxes(showticklabels=False, ticks="", showgrid=False, domain=[PICTURE + 0.02, 1])
    figure.update_xaxes(title_text="layers, shallow to deep", row=2 * count, col=1)
    figure.update_layout(**layout(theme), title=None if title is None else label(title, 80), height=height)
    figure.update_layout(margin={"l": 20, "r": 20, "t": 50 if title else 15, "b": 45})
    return figure.update_layout(width=900, autosize=False) if theme == "print" else figure


def _differences(cores: Cores, reference: Cores | None) -> tuple[np.ndarray, str]:
    """(N, largest core, layers), a column a layer, NaN below a smaller core; and what they differ from, in words."""
    means, words = cores.mean() if reference is None else reference, "core − mean"
    if reference is None and all(torch.allclose(core, means[name]) for name, core in cores.items()):
        means, words = _neutral(cores), "core − neutral"
    cells = [(core - means[name].to(core)).flatten(1).numpy() for name, core in cores.items()]
    values = np.full((len(cores), max(cell.shape[1] for cell in cells), len(cells)), np.nan)
    for layer, cell in enumerate(cells):
        values[:, : cell.shape[1], layer] = cell
    return values, words


def _neutral(cores: Cores) -> Cores:
    """One sample at which nothing depends on the image: ones (R), or the identity (R, R)."""
    return Cores(
        {
            name: (torch.ones(core.shape[-1]) if core.ndim == 2 else torch.eye(core.shape[-1]))[None]
            for name, core in cores.items()
        }
    )


def _add_picture(figure: go.Figure, row: int, image: Tensor) -> None:
    """Left of its row of cells."""
    bottom, top = figure.layout[f"yaxis{2 * row + 1}" if row else "yaxis"].domain
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": top, "xanchor": "left"}
    figure.add_layout_image(source=thumbnail(image, SIDE), **place, sizex=PICTURE, sizey=top - bottom, sizing="contain")
