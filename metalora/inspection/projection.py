"""Embeddings on a plane: PCA, UMAP, several UMAPs aligned; and neighbours in the original space.

UMAP: McInnes et al. 1802.03426, with cosine distances, like k-NN. Its distances on the plane are not metric.
"""

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from numbers import Integral
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metalora.evaluation.knn import knn_neighbours
from metalora.util.checks import check_float
from metalora.util.errors import InputError
from metalora.util.quiet import UMAP, ignore_warnings

if TYPE_CHECKING:
    from sklearn.decomposition import PCA

MIN_POINTS = {"pca": 3, "umap": 10}
MAX_ALIGNED = 2_000  # aligned UMAP computes the distances of all pairs
ROUNDING = 1e-6  # of cosines in float32
_lock = threading.Lock()


def project(
    features: Tensor, method: str = "umap", *, neighbours: int = 15, min_dist: float = 0.1, seed: int = 0
) -> np.ndarray:
    """Project features on a plane, float32 (N, 2); the same features and settings give the same points.

    Args:
        features: (N, D), of any dtype and device.
        method: "pca", or "umap", to which the other arguments belong.
        neighbours: size of a neighbourhood, from 2 to N - 1: small for local, large for global structure.
        min_dist: smallest distance between points, 0 to 1.
        seed: of the start.

    Raises:
        InputError: too few points, features that are not finite, a setting out of range.
    """
    if method not in MIN_POINTS:
        raise InputError(f"Unknown projection {method!r}: use pca or umap.")
    points = check_features(features, method)
    if method == "pca":
        return fit_pca(points, seed).transform(two_columns(points))
    _check_neighbours(neighbours, len(points))
    check_float("min_dist", min_dist, lambda value: 0 <= value <= 1, "a number from 0 to 1")
    # Exact neighbours from one matrix product: umap itself would compare pair by pair in Python, or approximately.
    similarity, near = knn_neighbours(points, points, int(neighbours))
    distance = (1 - similarity).where(similarity < 1 - ROUNDING, 0)  # to itself, and to equal points
    settings = {
        **_settings(neighbours, seed),
        "min_dist": float(min_dist),
        "n_jobs": 1,
        "metric": "cosine",
        "precomputed_knn": (near.numpy(), distance.numpy()),
    }
    with _umap() as umap:
        return umap.UMAP(**settings).fit_transform(points.numpy())


def align(features: Sequence[Tensor], *, neighbours: int = 15, seed: int = 0) -> list[np.ndarray]:
    """Project the same images under several methods, so that an image stays near its place on the other planes.

    Slow: seconds for 500 images, half a minute for 2,000; umap compiles for some of them at every call.

    Args:
        features: two tensors or more, (N, D) each, D may differ; a row is the same image in all of them.
        neighbours: as for `project`. (Aligned UMAP has no minimal distance to set: it is 0.1.)
        seed: of the start.

    Returns:
        Float32 (N, 2) for each.

    Raises:
        InputError: as `project`, or less than two tensors, different numbers of images, or too many.
    """
    points = [check_features(method_features, "umap") for method_features in features]
    counts = [len(one) for one in points]
    if len(counts) < 2:
        raise InputError(f"There are features of {len(counts)} methods to align: give two or more.")
    if len(set(counts)) > 1:
        raise InputError(f"Features of {', '.join(map(str, counts))} images cannot be aligned: give the same images.")
    if counts[0] > MAX_ALIGNED:
        raise InputError(f"At most {MAX_ALIGNED} images can be aligned, not {counts[0]}: choose fewer.")
    _check_neighbours(neighbours, counts[0])
    same_rows = [{row: row for row in range(counts[0])}] * (len(points) - 1)
    from sklearn.metrics.pairwise import cosine_distances

    distances = [cosine_distances(one.numpy()) for one in points]
    settings = {**_settings(neighbours, seed), "transform_seed": seed % 2**32, "metric": "precomputed"}
    with _umap() as umap:
        planes = umap.AlignedUMAP(**settings).fit_transform(distances, relations=same_rows)
    return [np.asarray(plane) for plane in planes]


def explained_variance(features: Tensor) -> tuple[float, float]:
    """Return the fractions of variance along the two axes of `project`'s PCA; NaN for equal points.

    Raises:
        InputError: as `project`.
    """
    first, second = fit_pca(check_features(features, "pca")).explained_variance_ratio_.tolist()
    return first, second


def warm_up() -> None:
    """Import umap and compile what `project` needs of it, once; call it in the background, it takes ten seconds."""
    project(torch.randn(MIN_POINTS["umap"], 4, generator=torch.Generator().manual_seed(0)), neighbours=3)


def nearest_others(features: Tensor, index: int, k: int = 10) -> pd.DataFrame:
    """Find the `k` points nearest to point `index` in the original space, by cosine, itself excluded.

    Args:
        features: (N, D).
        index: a row of `features`.
        k: how many.

    Returns:
        Columns rank (from 1), index (a row of `features`) and similarity (-1 to 1), nearest first.

    Raises:
        InputError: there is no such point, k is out of range, or features are not finite.
    """
    if not isinstance(index, Integral) or not 0 <= index < len(features):
        raise InputError(f"There is no point {index}: points are numbered 0 to {len(features) - 1}.")
    others = torch.cat([features[:index], features[index + 1 :]])
    similarity, rows = knn_neighbours(features[index : index + 1], others, k)
    rows = rows[0] + (rows[0] >= index)
    return pd.DataFrame({"rank": range(1, k + 1), "index": rows.tolist(), "similarity": similarity[0].tolist()})


@contextlib.contextmanager
def _umap() -> Iterator[ModuleType]:
    """Import umap, which is slow, for one thread at a time: numba's parallel loops may not be thread-safe."""
    with _lock, ignore_warnings(UMAP):
        _find_cache()
        import umap

        threads = torch.get_num_threads()
        try:
            yield umap
        finally:
            torch.set_num_threads(threads)  # numba sets its own number, and torch's sums would round otherwise


def _find_cache() -> None:
    """Give numba a folder for what it compiles, where there is no home to write to: umap cannot be imported without."""
    if "NUMBA_CACHE_DIR" not in os.environ and not os.access(os.path.expanduser("~"), os.W_OK):
        os.environ["NUMBA_CACHE_DIR"] = folder = tempfile.mkdtemp(prefix="metalora-numba-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _settings(neighbours: int, seed: int) -> dict:
    return {"n_neighbors": int(neighbours), "random_state": seed % 2**32}


def fit_pca(points: Tensor, seed: int = 0) -> "PCA":
    """Fit the two directions of largest variance of checked features (N, D)."""
    from sklearn.decomposition import PCA

    # scikit-learn fixes the signs. The fraction of variance that it also computes is 0 / 0 for equal points.
    with np.errstate(invalid="ignore"):
        return PCA(2, random_state=seed % 2**32).fit(two_columns(points))


def two_columns(points: Tensor) -> np.ndarray:
    """Return features with a column of zeros where there is one only, since a plane has two."""
    return (torch.nn.functional.pad(points, (0, 1)) if points.shape[1] == 1 else points).numpy()


def check_features(features: Tensor, method: str) -> Tensor:
    """Return features as float32 (N, D) on the CPU."""
    if features.ndim != 2 or features.shape[1] == 0:
        raise InputError(f"Features must be of shape (N, D), not {tuple(features.shape)}: give one row for each image.")
    if len(features) < MIN_POINTS[method]:
        raise InputError(f"{method.upper()} of {len(features)} images shows nothing: use {MIN_POINTS[method]} or more.")
    points = features.detach().float().cpu()
    if not points.isfinite().all():
        raise InputError("The features hold values that are not finite: look at the training run.")
    return points


def _check_neighbours(neighbours: int, count: int) -> None:
    if not isinstance(neighbours, Integral) or not 2 <= neighbours < count:
        raise InputError(f"neighbours is {neighbours}: use a whole number from 2 to {count - 1} for {count} images.")
