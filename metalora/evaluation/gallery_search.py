"""A gallery that is searched many times: exactly, or by an index of faiss, with the recall that it costs.

The index is an inverted file (Douze et al., The Faiss library, 2401.08281): k-means divides G images into about √G
lists, and a query is compared with the images of those lists only whose centres are nearest to it. The accuracies of
comparisons and runs never use it: they are those of `knn.py`.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metalora.evaluation.config import SearchConfig
from metalora.evaluation.knn import check_search, knn_neighbours, unit_rows
from metalora.util.errors import InputError
from metalora.util.quiet import ignore_warnings
from metalora.util.seeding import seeded_generator

SAMPLE = 200  # queries by which the recall is measured
POINTS_PER_LIST = 64  # that k-means sees; its default of 256 takes four times as long
ROUNDING = 1e-6  # of cosines in float32


@dataclass(frozen=True)
class Recall:
    """How many of the neighbours of an exact search an approximate one finds.

    Attributes:
        index: The index, in words.
        k: Neighbours of each query.
        recall: The fraction of the k nearest that it finds, 0 to 1, mean over the queries.
        queries: How many both searches were made for.
        seed: That drew them, and decided the lists of the index.
    """

    index: str
    k: int
    recall: float
    queries: int
    seed: int

    def __str__(self) -> str:
        of = f"{self.queries} queries (seed {self.seed})"
        return f"{self.index}: recall@{self.k} is {self.recall:.3f} against exact search, by {of}"


class Neighbours(NamedTuple):
    """The nearest gallery images of Q queries, nearest first.

    Attributes:
        similarity: cosines, (Q, k).
        rows: of the gallery, (Q, k).
        recall: of an approximate search; None of an exact one.
    """

    similarity: Tensor
    rows: Tensor
    recall: Recall | None


class GallerySearch:
    """Search a gallery; the index of faiss is built once.

    Args:
        gallery: of shape (G, D), on the CPU for faiss.
        config: how it is searched.

    Raises:
        InputError: faiss is asked for and not installed, a feature is not finite, or there are less than k images.
    """

    def __init__(self, gallery: Tensor, config: SearchConfig):
        check_search(gallery[:0], gallery, config.k)
        self.gallery, self.config = gallery, config
        self._index = _build(unit_rows(gallery.float(), "gallery"), config) if config.index == "faiss" else None

    def nearest(self, queries: Tensor) -> Neighbours:
        """Find the `config.k` nearest gallery rows of queries (Q, D), on the gallery's device, and what was missed.

        Raises:
            InputError: as `find`.
        """
        similarity, rows = self.find(queries)
        return Neighbours(similarity, rows, self.recall(queries, similarity))

    def find(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return similarities and rows as `nearest` does, and measure nothing.

        Raises:
            InputError: as `knn_neighbours`, or the lists that faiss searched hold too few images.
        """
        k = self.config.k
        if self._index is None:
            return knn_neighbours(queries, self.gallery, k)
        check_search(queries, self.gallery, k)
        similarity, rows = self._index.search(unit_rows(queries.float(), "queries").numpy(), k)
        if (rows < 0).any():
            raise InputError(f"Lists of faiss hold too few images for K = {k}: raise probes, or use the exact index.")
        return torch.from_numpy(similarity), torch.from_numpy(rows)

    def recall(self, queries: Tensor, similarity: Tensor) -> Recall | None:
        """Compare what `find` found with an exact search, for a sample of the queries; None where that is exact."""
        if self._index is None:
            return None
        k, seed = self.config.k, self.config.seed
        sample = torch.randperm(len(queries), generator=seeded_generator(seed, len(queries)))[:SAMPLE]
        exact, _ = knn_neighbours(queries[sample], self.gallery, k)
        # By similarity, so that an image as similar as the k-th counts, whichever of equal ones a search takes.
        right = similarity[sample] >= exact[:, -1:] - ROUNDING
        mean = right.double().mean().item() if len(sample) else math.nan
        words = f"faiss IVF-Flat, {self._index.nprobe} of {self._index.nlist} lists"
        return Recall(words, k, mean, len(sample), seed)


def _build(gallery: Tensor, config: SearchConfig) -> Any:
    """Return an inverted file of normalised embeddings (G, D) that compares by inner product."""
    try:
        with ignore_warnings():  # of its wrapper, about Python
            import faiss
    except ImportError as error:
        raise InputError(
            "The index faiss needs the package faiss: pip install 'metalora[faiss]', or use the exact index."
        ) from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    count, width = gallery.shape
    lists = math.isqrt(count)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = config.seed % 2**31
    index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = POINTS_PER_LIST, 1
    vectors = gallery.numpy()
    index.train(vectors)
    index.add(vectors)
    index.nprobe = min(config.probes, lists)
    return index
