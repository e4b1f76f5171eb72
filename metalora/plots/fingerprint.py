"""The fingerprint: the whole adapter of each image at a glance."""

from typing import Any

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

IMAGE_WIDTH, IMAGE_PIXELS = 0.12, 128  # fraction of the figure's width; pixels of a side
GAP = 7  # pixels between two rows


def fingerprint(
    inspection: Inspection,
    images: Tensor,
    *,
    reference: Cores | None = None,
    limit: float | None = None,
    compact: bool = False,
    title: str | None = None,
    theme: Theme = "print",
) -> go.Figure:
    """Plot the whole adapter of each image.

    Layers from left to right; above, what was generated, as the difference from the mean core of the
    images shown, one cell a value, on one diverging scale around zero; below, the strength
    ‖ΔW‖ / ‖W‖ of each layer's update, on one scale from zero. Images that share one core are compared
    with the identity core (c = 1, C = identity), at which the method is a static LoRA.

    Args:
        inspection: of N images, by a method that generates.
        images: float RGB in [0, 1], (N, 3, H, W).
        reference: one sample to compare with instead, such as the mean core of a gallery.
        limit: end of the diverging scale; None: the largest difference of these images.
        compact: low, without the images and the titles of the scales.
        title: above the figure.
        theme: of the page.

    Raises:
        InputError: a method without cores.
    """
    if inspection.cores is None or inspection.identity_core is None:
        raise InputError("This method has no core, so there is no fingerprint: choose metalora-cp or metalora-tr.")
    count, layers = len(images), [label(name, 60) for name in inspection.strength]
    values, difference = _differences(inspection.cores, inspection.identity_core, reference)
    limit = limit or np.nanmax(np.abs(values)) or 1.0
    strength = inspection.strength.to_numpy()
    height = 40 + 110 * count if compact else 60 + 110 * max(2, count)  # with room for the titles of scales
    gaps = {"vertical_spacing": GAP / height, "row_heights": [5, 1] * count}
    figure = make_subplots(2 * count, 1, shared_xaxes=True, **gaps)
    for row in range(count):
        core = {"z": values[row, ::-1], "zmin": -limit, "zmax": limit, "colorscale": SIGNED}
        core["hovertemplate"] = f"%{{x}}<br>{difference} %{{z:.3f}}<extra></extra>"
        bar = _bar(0.78, difference, compact)
        figure.add_heatmap(**core, x=layers, showscale=row == 0, colorbar=bar, row=2 * row + 1, col=1)
        strip = {"z": strength[row : row + 1], "zmin": 0, "zmax": strength.max() or 1.0, "colorscale": MAGNITUDE}
        strip["hovertemplate"] = "%{x}<br>‖ΔW‖ / ‖W‖ %{z:.3f}<extra></extra>"
        bar = _bar(0.22, "‖ΔW‖ / ‖W‖", compact)
        figure.add_heatmap(**strip, x=layers, showscale=row == 0, colorbar=bar, row=2 * row + 2, col=1)
        if not compact:
            _add_image(figure, row, images[row])
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False, zeroline=False)
    figure.update_xaxes(
        showticklabels=False, ticks="", showgrid=False, domain=[0 if compact else IMAGE_WIDTH + 0.02, 1]
    )
    figure.update_xaxes(title_text="layers, shallow to deep", row=2 * count, col=1)
    figure.update_layout(
        layout(theme), overwrite=True, title=None if title is None else label(title, 80), height=height
    )
    figure.update_layout(margin={"l": 20, "r": 20, "t": 50 if title else 15, "b": 25 if compact else 45})
    if compact:
        figure.update_layout(font_size=11)
    return figure.update_layout(width=900, autosize=False) if theme == "print" else figure


def with_values_of(figure: dict[str, Any], inspection: Inspection, reference: Cores) -> dict[str, Any]:
    """Return a fingerprint with another image's values, in a tenth of the time that plotly takes to draw one.

    Args:
        figure: of one image, with that `reference`, as plotly's JSON; it is not changed.
        inspection: of the other image, under the same adapter.
        reference: as `fingerprint`.
    """
    assert inspection.cores is not None and inspection.identity_core is not None
    values, _ = _differences(inspection.cores, inspection.identity_core, reference)
    strength = inspection.strength.to_numpy()[:1]
    cells, strip = figure["data"]
    z = values[0, ::-1].astype(object)
    z[np.isnan(values[0, ::-1])] = None
    cells = {**cells, "z": z.tolist()}
    strip = {**strip, "z": strength.tolist(), "zmax": float(strength.max() or 1.0)}
    return {**figure, "data": [cells, strip]}


def _bar(y: float, title: str, compact: bool) -> dict:
    """Return the place of a scale beside the figure."""
    small = {"thickness": 8, "nticks": 3, "tickfont": {"size": 9}}
    return {"len": 0.45, "y": y, **(small if compact else {"title": {"text": title}})}


def _differences(cores: Cores, identity_core: Cores, reference: Cores | None) -> tuple[np.ndarray, str]:
    """Return (N, largest core, layers), NaN below a smaller core; and what the difference is, in words."""
    means, text = cores.mean() if reference is None else reference, "core − mean"
    if reference is None and all(torch.allclose(core, means[name]) for name, core in cores.items()):
        means, text = identity_core, "core − identity"
    cells = [(core - means[name].to(core)).flatten(1).numpy() for name, core in cores.items()]
    values = np.full((len(cores), max(cell.shape[1] for cell in cells), len(cells)), np.nan)
    for layer, cell in enumerate(cells):
        values[:, : cell.shape[1], layer] = cell
    return values, text


def _add_image(figure: go.Figure, row: int, image: Tensor) -> None:
    """Show an image on the left of its row of cells."""
    bottom, top = figure.layout[f"yaxis{2 * row + 1}" if row else "yaxis"].domain
    position = {"xref": "paper", "yref": "paper", "x": 0, "y": top, "xanchor": "left"}
    figure.add_layout_image(
        source=thumbnail(image, IMAGE_PIXELS), **position, sizex=IMAGE_WIDTH, sizey=top - bottom, sizing="contain"
    )
