"""Plotly figures from what the library computed. Colours and scales that mean the same everywhere live here."""

import base64
import io
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.subplots import make_subplots
from torch import Tensor

from metalora.errors import InputError
from metalora.inspection import Inspection
from metalora.states import write_text, write_whole

SIGNED, MAGNITUDE = "RdBu", "Viridis"  # diverging around zero; sequential, perceptually even
INK = "#333333"


def fingerprint(inspection: Inspection, images: Tensor, *, title: str | None = None) -> go.Figure:
    """The whole adapter of each picture in one glance.

    Layers from left to right; above, what was generated, as the difference from the mean core of the
    pictures shown, one cell a value, on one diverging scale around zero; below, the strength
    ‖ΔW‖ / ‖W‖ of each layer's update, on one scale from zero.

    Args:
        inspection: of N pictures, by a method that generates.
        images: float RGB in [0, 1], (N, 3, H, W).

    Raises:
        InputError: a method without cores.
    """
    if inspection.cores is None:
        raise InputError("This method has no core, so there is no fingerprint: choose metalora-cp or metalora-tr.")
    count = len(images)
    cells = [core.flatten(1).numpy() for _, core in (inspection.cores).items()]
    tall = max(cell.shape[1] for cell in cells)
    # A layer is a column; layers of smaller rank leave the rest of it empty.
    values = np.full((count, tall, len(cells)), np.nan)
    for layer, cell in enumerate(cells):
        values[:, : cell.shape[1], layer] = cell - cell.mean(0)
    limit = np.nanmax(np.abs(values))
    strength = inspection.strength.to_numpy()
    figure = make_subplots(2 * count, 1, shared_xaxes=True, vertical_spacing=0.015, row_heights=[5, 1] * count)
    layers = list(inspection.strength)
    for row in range(count):
        core = {"z": values[row, ::-1], "zmin": -limit, "zmax": limit, "colorscale": SIGNED}
        bar = {"len": 0.45, "y": 0.78, "title": {"text": "core − mean"}}
        figure.add_heatmap(**core, x=layers, showscale=row == 0, colorbar=bar, row=2 * row + 1, col=1)
        strip = {"z": strength[row : row + 1], "zmin": 0, "zmax": strength.max(), "colorscale": MAGNITUDE}
        bar = {"len": 0.45, "y": 0.22, "title": {"text": "‖ΔW‖ / ‖W‖"}}
        figure.add_heatmap(**strip, x=layers, showscale=row == 0, colorbar=bar, row=2 * row + 2, col=1)
        domain = figure.layout[f"yaxis{2 * row + 1}" if row else "yaxis"].domain
        figure.add_layout_image(
            source=_as_url(images[row]),
            xref="paper",
            yref="paper",
            x=-0.02,
            y=domain[1],
            xanchor="right",
            sizex=0.12,
            sizey=domain[1] - domain[0],
            sizing="contain",
        )
    figure.update_yaxes(showticklabels=False, ticks="")
    figure.update_xaxes(showticklabels=False, ticks="")
    figure.update_xaxes(title_text="adapted layers, shallow to deep", row=2 * count, col=1)
    figure.update_layout(
        title=title,
        width=900,
        height=60 + 110 * count,
        margin={"l": 130, "r": 20, "t": 50 if title else 15, "b": 45},
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"family": "system-ui, sans-serif", "color": INK, "size": 13},
    )
    return figure


def draw(figure: go.Figure, path: Path) -> None:
    """Write a figure: .html as it is on the screen, .png, .svg and .pdf by way of kaleido and Chrome.

    Raises:
        InputError: another ending, or kaleido and Chrome are not here.
    """
    if path.suffix == ".html":
        write_text(path, figure.to_html())
        return
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"{path} is no figure: name a file that ends with .html, .png, .svg or .pdf.")
    try:
        content = figure.to_image(path.suffix[1:], scale=2)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path.suffix} needs kaleido and Chrome, which are not here: name an .html file.") from error
    write_whole((path, lambda temporary: temporary.write_bytes(content)))


def _as_url(image: Tensor) -> str:
    """A picture as a data URL, enlarged without smoothing."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).resize((128, 128), Image.Resampling.NEAREST).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
