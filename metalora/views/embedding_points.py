"""The points of a gallery on a plane, and what hovering them shows: texts, images, generated adapters."""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from plotly.colors import sample_colorscale
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.utils import make_grid

from metalora.adapters.cores import Cores
from metalora.evaluation.knn import knn_neighbours, vote
from metalora.inspection.gallery import Gallery
from metalora.inspection.spaces import gallery_cores
from metalora.plots.palette import SIGNED
from metalora.plots.thumbnails import as_url
from metalora.util.errors import InputError
from metalora.views.gallery_images import image_sprite
from metalora.views.open_adapter import OpenAdapter

K = 5  # neighbours that predict a point's class
LEVELS = 65  # colours of core strips, the middle one being no difference


def point_table(gallery: Gallery, features: Tensor, plane: np.ndarray) -> pd.DataFrame:
    """Return a row per gallery image, with its position on a plane.

    Args:
        gallery: of G images.
        features: (G, D), G at least 2.
        plane: (G, 2).

    Returns:
        "name", "label", "task", "x", "y", "predicted" (its class by a vote of the `K` nearest others among
        `features`) and "correct" (whether that is its label).

    Raises:
        InputError: features or plane of another number of images, or features that are not finite.
    """
    if not len(gallery) == len(features) == len(plane):
        counts = f"{len(gallery)} images, {len(features)} features and {len(plane)} points"
        raise InputError(f"{counts} do not belong together: project this gallery again.")
    predicted = _predict_from_others(features, gallery.labels)
    return gallery.table.reset_index(drop=True).assign(
        x=plane[:, 0],
        y=plane[:, 1],
        predicted=[gallery.classes[i] for i in predicted.tolist()],
        correct=(predicted == gallery.labels).numpy(),
    )


def _predict_from_others(features: Tensor, labels: Tensor) -> Tensor:
    """Return each point's label by k-NN among the other points, (G)."""
    k = min(K, len(features) - 1)
    similarity, index = knn_neighbours(features, features, k + 1)
    itself = index == torch.arange(len(index))[:, None]
    itself[~itself.any(1), -1] = True  # among equal points it may be beyond the last one
    near, near_similarity = (values[~itself].view(-1, k) for values in (labels[index], similarity.double()))
    return vote(near_similarity, near)


def hover_lines(points: pd.DataFrame, start: pd.DataFrame | None = None) -> list[str]:
    """Return a line of text for each row of a `point_table`; `start`: the same images, as another adapter sees them."""
    said = points["predicted"] if start is None else start["predicted"] + ", then " + points["predicted"]
    columns = zip(points["label"], points["task"], said, strict=True)
    return [f"class {label}, task {task}; its {K} nearest say {predicted}" for label, task, predicted in columns]


def search_keys(points: pd.DataFrame) -> list[list[str]]:
    """Return what a search finds each row of a `point_table` by: class, task and name."""
    return points[["label", "task", "name"]].astype(str).to_numpy().tolist()


def hover_sprites(adapter: OpenAdapter) -> dict[str, Any]:
    """Return the images of an adapter's gallery: `image_sprite`, and "strips": `core_strips`, None without cores."""

    def compute() -> dict[str, Any]:
        cores = gallery_cores(adapter.model, adapter.gallery)
        return {**image_sprite(adapter.gallery), "strips": None if cores is None else core_strips(cores)}

    return adapter.cached("sprites", compute)


def core_strips(cores: Cores) -> dict[str, Any]:
    """Draw every image's adapter as a small fingerprint, all in one image.

    A column of a strip is a layer, shallow to deep; its cells are the layer's generated values as differences from
    the images' mean core, on one diverging scale around zero; there is nothing below a smaller core.

    Returns:
        "sprite" (a PNG as data URL), "columns" and "rows" of strips.
    """
    mean = cores.mean()
    # pad_sequence wants the axis of unequal length first.
    cells = pad_sequence([(core - mean[name]).flatten(1).T for name, core in cores.items()], True, torch.nan)
    values = cells.permute(2, 1, 0)  # (N, largest core, layers)
    limit = values.nan_to_num().abs().max().item() or 1.0
    levels = ((values / limit + 1) / 2 * (LEVELS - 1)).round().nan_to_num(LEVELS).byte()
    columns = math.ceil(math.sqrt(len(levels)))
    image = Image.fromarray(make_grid(levels[:, None], nrow=columns, padding=0)[0].numpy(), "L")
    colours = sample_colorscale(SIGNED, np.linspace(0, 1, LEVELS).tolist(), colortype="tuple")
    transparent = (0, 0, 0)  # the level behind the last colour
    image.putpalette(bytes(round(255 * part) for colour in [*colours, transparent] for part in colour))
    sprite = as_url(image, transparency=LEVELS)
    return {"sprite": sprite, "columns": columns, "rows": math.ceil(len(levels) / columns)}
