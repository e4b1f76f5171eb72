"""A gallery laid on a plane: its points with all that is known of them, and their pictures on one sheet."""

import math
from collections.abc import Mapping
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
from metalora.inspection.projection import project
from metalora.inspection.spaces import space
from metalora.models.adapted_model import AdaptedModel
from metalora.plots.palette import SIGNED
from metalora.plots.thumbnails import as_url, image_url
from metalora.util.errors import InputError

K = 5  # neighbours that say whether a point is classified rightly
LEVELS = 65  # colours of a sheet of strips, the middle one being no difference


def points(
    model: AdaptedModel,
    gallery: Gallery,
    name: str = "adapted",
    *,
    method: str = "umap",
    neighbours: int = 15,
    min_dist: float = 0.1,
    seed: int = 0,
    plane: Tensor | None = None,
) -> pd.DataFrame:
    """A row per gallery image: as `describe`.

    Args:
        name: of the space.
        method, neighbours, min_dist, seed: as `project`.
        plane: points (G, 2) that were projected before; None: project now.

    Raises:
        InputError: as `space` and `project`, or a plane of another number of points.
    """
    features = space(model, gallery, name)
    if plane is None:
        found = project(features, method, neighbours=neighbours, min_dist=min_dist, seed=seed)
    else:
        found = plane.numpy()
    return describe(gallery, features, found)


def describe(gallery: Gallery, features: Tensor, plane: np.ndarray) -> pd.DataFrame:
    """What is known of each gallery image, with its place on a plane.

    Args:
        features: (G, D), G at least 2.
        plane: (G, 2).

    Returns:
        A row per image: "name", "label", "task", "x", "y", "predicted" (its class by a vote of the `K` nearest
        others among `features`) and "correct" (whether that is its label).

    Raises:
        InputError: features or plane of another number of images, or features that are not finite.
    """
    if not len(gallery) == len(features) == len(plane):
        counts = f"{len(gallery)} pictures, {len(features)} features and {len(plane)} points"
        raise InputError(f"{counts} do not belong together: project this gallery again.")
    labels = gallery.examples.labels
    predicted = _by_others(features, labels)
    known = gallery.pictures.known[["name", "label", "task"]].reset_index(drop=True)
    return known.assign(
        x=plane[:, 0],
        y=plane[:, 1],
        predicted=[gallery.classes[i] for i in predicted.tolist()],
        correct=(predicted == labels).numpy(),
    )


def _by_others(features: Tensor, labels: Tensor) -> Tensor:
    """Each one's label by k-NN among the others (G)."""
    k = min(K, len(features) - 1)
    similarity, index = knn_neighbours(features, features, k + 1)
    own = index == torch.arange(len(index))[:, None]
    own[~own.any(1), -1] = True  # among equals its own place may be beyond the last one
    near, near_similarity = (values[~own].view(-1, k) for values in (labels[index], similarity.double()))
    return vote(near_similarity, near)


def sheet(gallery: Gallery) -> Mapping[str, Any]:
    """All pictures in one: "sprite" (a PNG as data URL), "columns", and "tile" (side in pixels)."""
    images = gallery.pictures.images().clamp(0, 1)
    columns = math.ceil(math.sqrt(len(images)))
    grid = make_grid(images, nrow=columns, padding=0)
    return {"sprite": image_url(grid), "columns": columns, "tile": images.shape[-1]}


def strips(cores: Cores) -> Mapping[str, Any]:
    """Every image's adapter as a small fingerprint, all in one picture.

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
    image.putpalette(_palette())
    return {
        "sprite": as_url(image, transparency=LEVELS),
        "columns": columns,
        "rows": math.ceil(len(levels) / columns),
    }


def _palette() -> bytes:
    """RGB of every level, and of the one that is transparent."""
    colours = sample_colorscale(SIGNED, np.linspace(0, 1, LEVELS).tolist(), colortype="tuple")
    return bytes(round(255 * part) for colour in [*colours, (0, 0, 0)] for part in colour)
