"""Embeddings on a plane (PCA, UMAP, two UMAPs aligned), and what a click or a lasso on that plane asks for.

UMAP: McInnes et al. 1802.03426, with cosine distances, as k-NN has them. Its distances on the plane are
not metric: neighbours are always looked up in the original space.
"""

import contextlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from types import ModuleType

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metalora.evaluation.knn import knn_neighbours
from metalora.util.checks import check_float
from metalora.util.errors import InputError

FEWEST = {"pca": 3, "umap": 10}
MOST_ALIGNED = 2_000  # aligned UMAP takes the distances of all pairs, and time with the square
ROUNDING = 1e-6  # of cosines in float32
_turn = threading.Lock()


def project(
    features: Tensor, method: str = "umap", *, neighbours: int = 15, min_dist: float = 0.1, seed: int = 0
) -> np.ndarray:
    """Points on a plane, float32 (N, 2); the same ones for the same features and settings.

    Args:
        features: (N, D), of any dtype and device.
        method: "pca", or "umap", to which the other arguments belong.
        neighbours: size of a neighbourhood, from 2 to N - 1: small for local, large for global structure.
        min_dist: how close points may lie, 0 to 1.

    Raises:
        InputError: too few points, features that are not finite, a setting out of range.
    """
    if method not in FEWEST:
        raise InputError(f"Unknown projection {method!r}: use pca or umap.")
    points = _checked(features, method)
    if method == "pca":
        return _principal(points, seed)
    _check_neighbours(neighbours, len(points))
    check_float("min_dist", min_dist, lambda value: 0 <= value <= 1, "a number from 0 to 1")
    # Exact neighbours from one matrix product: umap itself would compare pair by pair in Python, or approximately.
    similarity, near = knn_neighbours(points, points, int(neighbours))
    distance = (1 - similarity).where(similarity < 1 - ROUNDING, 0)  # to itself, and to equal points
    given = {"metric": "cosine", "precomputed_knn": (near.numpy(), distance.numpy())}
    settings = {**_settings(neighbours, seed), "min_dist": float(min_dist), "n_jobs": 1}
    with _umap() as umap:
        return umap.UMAP(**settings, **given).fit_transform(points.numpy())


def align(features: Sequence[Tensor], *, neighbours: int = 15, seed: int = 0) -> list[np.ndarray]:
    """Planes of the same pictures under several methods, in which a picture stays near its place in the others.

    Slow: seconds for 500 pictures, half a minute for 2,000, of which umap compiles for some at every call.

    Args:
        features: two tensors or more, (N, D) each, D may differ; a row is the same picture in all of them.
        neighbours: as for `project`. (Aligned UMAP has no minimal distance to set: it is 0.1.)

    Returns:
        Float32 (N, 2) for each.

    Raises:
        InputError: as `project`, or less than two tensors, different numbers of pictures, or too many.
    """
    planes = [_checked(one, "umap") for one in features]
    counts = [len(plane) for plane in planes]
    if len(counts) < 2:
        raise InputError(f"There are features of {len(counts)} methods to align: give two or more.")
    if len(set(counts)) > 1:
        raise InputError(
            f"Features of {', '.join(map(str, counts))} pictures cannot be aligned: give the same pictures."
        )
    if counts[0] > MOST_ALIGNED:
        raise InputError(f"At most {MOST_ALIGNED} pictures can be aligned, not {counts[0]}: choose fewer.")
    _check_neighbours(neighbours, counts[0])
    same = [{row: row for row in range(counts[0])}] * (len(planes) - 1)
    from sklearn.metrics.pairwise import cosine_distances

    distances = [cosine_distances(plane.numpy()) for plane in planes]
    settings = {**_settings(neighbours, seed), "transform_seed": seed % 2**32, "metric": "precomputed"}
    with _umap() as umap:
        found = umap.AlignedUMAP(**settings).fit_transform(distances, relations=same)
    return [np.asarray(plane) for plane in found]


def blend(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """The points (N, 2) at share `t`, 0 to 1, of the straight way from `a` to `b`, both (N, 2).

    Raises:
        InputError: different shapes, or a share out of range.
    """
    if a.shape != b.shape:
        raise InputError(f"Points of shapes {a.shape} and {b.shape} cannot be blended: align the same pictures.")
    check_float("The share", t, lambda value: 0 <= value <= 1, "a number from 0 to 1")
    return (1 - t) * a + t * b


def warm_up() -> None:
    """Import umap and compile what `project` needs of it, once; some ten seconds, so call it in the background."""
    project(torch.randn(FEWEST["umap"], 4, generator=torch.Generator().manual_seed(0)), neighbours=3)


def neighbours(features: Tensor, index: int, k: int = 10) -> pd.DataFrame:
    """The `k` points nearest to point `index` in the original space, by cosine, itself excluded.

    Args:
        features: (N, D).

    Returns:
        Columns rank (from 1), index (a row of `features`) and similarity (-1 to 1), nearest first.

    Raises:
        InputError: there is no such point, k is out of range, or features are not finite.
    """
    if not isinstance(index, Integral) or not 0 <= index < len(features):
        raise InputError(f"There is no point {index}: points are numbered 0 to {len(features) - 1}.")
    others = torch.cat([features[:index], features[index + 1 :]])
    similarity, found = knn_neighbours(features[index : index + 1], others, k)
    found = found[0] + (found[0] >= index)
    ranks = range(1, k + 1)
    return pd.DataFrame({"rank": ranks, "index": found.tolist(), "similarity": similarity[0].tolist()})


@dataclass(frozen=True, eq=False)
class Selection:
    """What is known of the points of a lasso.

    Attributes:
        count: of points.
        classes: columns label and count, without classes that do not occur.
        judged: how many of the points have a prediction.
        accuracy: share of right predictions among those, 0 to 1; None where there are none.
    """

    count: int
    classes: pd.DataFrame
    judged: int
    accuracy: float | None


def selection(frame: pd.DataFrame, rows: Sequence[int], classes: Sequence[str] | None = None) -> Selection:
    """Count what a lasso holds.

    Args:
        frame: a row per point: "label", and where predictions are known "correct" (a bool, or missing).
        rows: positions in `frame`; one that comes twice counts once.
        classes: order of the counts; None: the largest first.

    Raises:
        InputError: a row that is not in the frame.
    """
    wrong = [row for row in rows if not isinstance(row, Integral) or not 0 <= row < len(frame)]
    if wrong:
        raise InputError(f"There is no point {wrong[0]!r}: points are numbered 0 to {len(frame) - 1}.")
    chosen = frame.iloc[sorted(set(rows))]
    counts = chosen["label"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    if classes is not None:
        counts = counts.reindex([name for name in classes if name in counts.index])
    correct = chosen["correct"].dropna().astype(bool) if "correct" in chosen else pd.Series(dtype=bool)
    accuracy = float(correct.mean()) if len(correct) else None
    return Selection(len(chosen), counts.rename_axis("label").reset_index(name="count"), len(correct), accuracy)


@contextlib.contextmanager
def _umap() -> Iterator[ModuleType]:
    """The package umap, slow to import, for one thread at a time: numba's parallel loops need not bear two."""
    with _turn, warnings.catch_warnings():
        # Remarks on what is not used here (Tensorflow, inverse transforms), and on starts that fell back to others.
        warnings.filterwarnings("ignore", module=r"umap|sklearn\.manifold")
        import umap

        threads = torch.get_num_threads()
        try:
            yield umap
        finally:
            torch.set_num_threads(threads)  # numba sets its own number, and torch's sums would round otherwise


def _settings(neighbours: int, seed: int) -> dict:
    return {"n_neighbors": int(neighbours), "random_state": seed % 2**32}


def _principal(points: Tensor, seed: int) -> np.ndarray:
    if points.shape[1] == 1:
        points = torch.nn.functional.pad(points, (0, 1))
    from sklearn.decomposition import PCA

    # scikit-learn fixes the signs. The share of variance that it computes besides is 0 / 0 for equal points.
    with np.errstate(invalid="ignore"):
        return PCA(2, random_state=seed % 2**32).fit_transform(points.numpy())


def _checked(features: Tensor, method: str) -> Tensor:
    """Features as float32 (N, D) on the CPU."""
    if features.ndim != 2 or features.shape[1] == 0:
        raise InputError(f"Features must be of shape (N, D), not {tuple(features.shape)}: give one row for each image.")
    if len(features) < FEWEST[method]:
        raise InputError(f"{method.upper()} of {len(features)} images shows nothing: use {FEWEST[method]} or more.")
    points = features.detach().float().cpu()
    if not points.isfinite().all():
        raise InputError("The features hold values that are not finite: look at the training run.")
    return points


def _check_neighbours(neighbours: int, count: int) -> None:
    if not isinstance(neighbours, Integral) or not 2 <= neighbours < count:
        raise InputError(f"neighbours is {neighbours}: use a whole number from 2 to {count - 1} for {count} images.")
