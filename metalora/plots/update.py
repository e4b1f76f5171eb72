"""ΔW of one layer as a heat map, for methods whose update is the same for every image."""

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from metalora.plots.palette import SIGNED, Theme, layout

MAX_SIDE = 640  # cells; of a larger ΔW each cell is the entry of largest magnitude in a block
DIGITS = 4  # significant digits: figures are sent to the browser as text


def update_weights(delta: Tensor, *, theme: Theme = "light") -> go.Figure:
    """Plot ΔW (O, I) or (O, I, K, K) with a row for each output, on a scale around zero."""
    matrix = delta.detach().float().cpu().flatten(1)
    blocks = [-(-side // MAX_SIDE) for side in matrix.shape]
    cells = _extremes(matrix, *blocks).numpy()
    limit = float(np.abs(cells).max()) or 1.0
    columns = "input channel" if delta.ndim == 2 else "input channel and position in the kernel"
    sampled = "" if blocks == [1, 1] else f" (the largest of {blocks[0]} × {blocks[1]})"
    figure = go.Figure(
        go.Heatmap(
            z=_rounded(cells),
            y0=0,
            dy=blocks[0],
            x0=0,
            dx=blocks[1],
            zmin=-limit,
            zmax=limit,
            colorscale=SIGNED,
            colorbar={"title": {"text": "ΔW"}},
            hovertemplate=f"output %{{y}}, column %{{x}}{sampled}<br>ΔW = %{{z:.3g}}<extra></extra>",
        )
    )
    figure.update_layout(layout(theme), overwrite=True, height=320)
    figure.update_xaxes(title_text=columns, showgrid=False, zeroline=False)
    return figure.update_yaxes(title_text="output channel", showgrid=False, zeroline=False, autorange="reversed")


def _extremes(matrix: Tensor, down: int, across: int) -> Tensor:
    """Return the entry of largest magnitude in every block of `down` × `across`, with its sign."""
    rows, columns = matrix.shape
    padded = torch.nn.functional.pad(matrix, (0, -columns % across, 0, -rows % down))
    blocks = padded.unflatten(1, (-1, across)).unflatten(0, (-1, down)).movedim(1, 2).flatten(2)
    return blocks.gather(2, blocks.abs().argmax(2, keepdim=True)).squeeze(2)


def _rounded(values: np.ndarray) -> np.ndarray:
    magnitude = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros_like(values)))
    scale = 10.0 ** (DIGITS - 1 - magnitude)
    return np.round(values.astype(np.float64) * scale) / scale
