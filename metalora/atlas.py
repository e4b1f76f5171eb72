"""A gallery laid on a plane: its points with all that is known of them, and their pictures on one sheet."""

import base64
import io
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from metalora.errors import InputError
from metalora.evaluation.knn import knn_neighbours, vote
from metalora.gallery import Gallery
from metalora.model import AdaptedModel
from metalora.projection import project

SPACES = {"adapted": "features, adapted", "original": "features, original backbone", "cores": "generated cores"}
K = 5  # neighbours that say whether a point is classified rightly


@torch.inference_mode()
def space(model: AdaptedModel, gallery: Gallery, name: str) -> Tensor:
    """What the gallery's images are in one of `SPACES`: (G, D), or all layers' cores side by side.

    Raises:
        InputError: no such space, or cores of a method that generates none.
    """
    if name not in SPACES:
        raise InputError(f"Unknown space {name!r}: use {', '.join(SPACES)}.")
    if name != "cores":
        return gallery.original if name == "original" else gallery.adapted
    if gallery.codes is None:
        raise InputError("This method generates no cores: choose features, or a Meta-LoRA adapter.")
    return model.cores(gallery.codes.to(next(model.parameters()).device)).flatten().float().cpu()


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
    """A row per gallery image: "x", "y", "name", "label", "task", "predicted" and "correct".

    Args:
        name: of the space.
        method, neighbours, min_dist, seed: as `project`.
        plane: points (G, 2) that were projected before; None: project now.

    Raises:
        InputError: as `space` and `project`.
    """
    features = space(model, gallery, name)
    if plane is None:
        found = project(features, method, neighbours=neighbours, min_dist=min_dist, seed=seed)
    else:
        found = plane.numpy()
    return describe(gallery, features, found)


def describe(gallery: Gallery, features: Tensor, plane: np.ndarray) -> pd.DataFrame:
    """What is known of each gallery image, with its place; "predicted" is its class by the K nearest others."""
    labels = gallery.examples.labels
    k = min(K, len(features) - 1)
    similarity, index = knn_neighbours(features, features, k + 1)
    own = index == torch.arange(len(index))[:, None]
    own[~own.any(1), -1] = True  # among equals its own place may be beyond the last one
    kept = ~own
    near, near_similarity = (values[kept].view(-1, k) for values in (labels[index], similarity.double()))
    predicted = vote(near_similarity, near)
    known = gallery.pictures.known[["name", "label", "task"]].reset_index(drop=True)
    return known.assign(
        x=plane[:, 0],
        y=plane[:, 1],
        predicted=[gallery.classes[i] for i in predicted.tolist()],
        correct=(predicted == labels).numpy(),
    )


def sheet(gallery: Gallery) -> Mapping[str, str | int]:
    """All pictures in one: "sprite" (a PNG as data URL), "columns", and "tile" (side in pixels)."""
    images = gallery.pictures.images()
    columns = math.ceil(math.sqrt(len(images)))
    grid = make_grid(images, nrow=columns, padding=0)
    pixels = (grid * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    sprite = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"sprite": sprite, "columns": columns, "tile": images.shape[-1]}
