"""Further points on a plane that is there already, and one plane laid over another."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from metalora.evaluation.knn import knn_neighbours
from metalora.inspection.projection import ROUNDING, check_features, fit_pca, two_columns
from metalora.util.errors import InputError


def place(features: Tensor, plane: np.ndarray, new: Tensor, method: str, *, k: int = 5) -> np.ndarray:
    """Put further points on the plane that `project` made of `features`, float32 (M, 2).

    PCA: exactly, by its own transform. UMAP: at the mean of the positions of the `k` nearest points in the original
    space, weighted by their cosine, since saved planes come without the fitted UMAP; nothing lands outside the others.

    Args:
        features: (N, D), those that were projected.
        plane: (N, 2), where they are.
        new: (M, D).
        method: of the projection.
        k: number of nearest points.

    Raises:
        InputError: features that are not finite or of another width.
    """
    points, further = check_features(features, method), new.detach().float().cpu()
    if further.ndim != 2 or further.shape[1] != points.shape[1] or not further.isfinite().all():
        raise InputError(f"New points must be finite and of width {points.shape[1]}: embed them by the same model.")
    if method == "pca":
        return fit_pca(points).transform(two_columns(further)).astype(np.float32)
    similarity, near = knn_neighbours(further, points, min(k, len(points)))
    weights = similarity.double().clamp(min=ROUNDING).numpy()
    return np.average(plane[near.numpy()], axis=1, weights=np.repeat(weights[..., None], 2, axis=2)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Superposition:
    """Turns, mirrors, scales and shifts a plane; see `superimpose`.

    Attributes:
        centre: of the plane before, (2).
        matrix: scale and rotation, (2, 2).
        target: its centre afterwards, (2).
    """

    centre: np.ndarray
    matrix: np.ndarray
    target: np.ndarray

    def __call__(self, plane: np.ndarray) -> np.ndarray:
        """Return points (N, 2) where they are after that, float32."""
        return ((plane - self.centre) @ self.matrix + self.target).astype(np.float32)


def superimpose(plane: np.ndarray, onto: np.ndarray) -> Superposition:
    """Lay a plane over another one of the same points by Procrustes analysis.

    Only the position, the orientation and the size of a plane are arbitrary, so only these change: the scale makes the
    spread (root mean square) of both equal. Distances within the plane keep their proportions.

    Args:
        plane: (N, 2).
        onto: (N, 2).
    """
    from scipy.linalg import orthogonal_procrustes

    centre, target = plane.mean(0), onto.mean(0)
    rotation, _ = orthogonal_procrustes(plane - centre, onto - target)
    spread = np.linalg.norm(plane - centre)
    return Superposition(centre, rotation * (np.linalg.norm(onto - target) / spread if spread else 1), target)
