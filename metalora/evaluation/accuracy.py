"""k-NN accuracy of embedded examples, on the pooled or the within-task gallery."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from metalora.evaluation.embedding import Protocol, embed
from metalora.evaluation.feature_cache import FeatureCache
from metalora.evaluation.knn import knn_predict, knn_routed, knn_within
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.suite import Examples, Suite
from metalora.util.checks import check_ks
from metalora.util.errors import InputError

GALLERIES = ("pooled", "within")
SideFeatures = Callable[[str], Tensor]


def predict(
    queries: Examples,
    features: Tensor,
    gallery: Examples,
    gallery_features: Tensor,
    ks: Sequence[int],
    kind: str,
    protocol: Protocol | None = None,
) -> dict[int, Tensor]:
    """Predicted labels (Q,) for every K.

    Args:
        features: of the queries, (Q, D).
        gallery_features: (G, D).
        kind: "pooled" (all tasks of the side together) or "within" (each query's own task only).
        protocol: how they were embedded; where its use is "routed", sets of queries search near sets of the pooled
            gallery only.
    """
    if kind == "pooled" and protocol is not None and protocol.use == "routed":
        sets = protocol.sets(queries), protocol.sets(gallery)
        share = len(gallery) // len(gallery.tasks.unique())
        return knn_routed(features, sets[0], gallery_features, sets[1], gallery.labels, ks, share)
    if kind == "pooled":
        return knn_predict(features, gallery_features, gallery.labels, ks)
    return knn_within(features, queries.tasks, gallery_features, gallery.tasks, gallery.labels, ks)


def accuracy(predictions: Tensor, queries: Examples) -> float:
    """Share of right predictions, 0 to 1."""
    return (predictions == queries.labels).double().mean().item()


def embedded_sides(
    model: AdaptedModel, suite: Suite, protocol: Protocol, features: FeatureCache | None = None
) -> SideFeatures:
    """Embeddings of the suite's sides: name → (N, D), computed when a side is first asked for, then kept."""
    return functools.cache(lambda side: embed(model, suite.sides[side], protocol, features, suite.levels))


def validation_accuracy(suite: Suite, features: SideFeatures, k: int = 5, protocol: Protocol | None = None) -> float:
    """k-NN accuracy of validation images of seen tasks against the seen tasks' gallery.

    Args:
        k: or as many images as the smallest gallery has.
    """
    queries, gallery = suite.sides["validation"], suite.sides["seen gallery"]
    tasks = gallery.tasks.bincount(minlength=len(suite.tasks))[queries.tasks.unique()]
    k = min(k, len(gallery) if suite.primary == "pooled" else int(tasks.min()))
    found = predict(queries, features("validation"), gallery, features("seen gallery"), [k], suite.primary, protocol)
    return accuracy(found[k], queries)


def measure(
    suite: Suite, features: SideFeatures, ks: Sequence[int], protocol: Protocol | None = None
) -> Iterator[tuple[dict[str, Any], Examples, Tensor]]:
    """Classify the queries of seen and unseen tasks, on both galleries, for every K.

    Args:
        features: see `embedded_sides`.
        protocol: as in `predict`.

    Yields:
        Which it is ("split", "gallery", "k"), the queries, and their predicted labels (Q,).
    """
    for split in ("seen", "unseen"):
        if f"{split} query" not in suite.sides:
            continue
        queries, gallery = suite.sides[f"{split} query"], suite.sides[f"{split} gallery"]
        pair = features(f"{split} query"), features(f"{split} gallery")
        for kind in GALLERIES:
            for k, predicted in predict(queries, pair[0], gallery, pair[1], ks, kind, protocol).items():
                yield {"split": split, "gallery": kind, "k": k}, queries, predicted


def check_galleries(suite: Suite, ks: Sequence[int]) -> list[str]:
    """Refuse K that a gallery cannot serve; sentences on those it serves badly.

    Raises:
        InputError: K is larger than the gallery of a task that queries are of, or below 1.
    """
    check_ks(ks)
    notes, k = [], max(ks)
    for split in ("seen", "unseen"):
        side = f"{split} gallery"
        if side not in suite.sides:
            continue
        gallery = suite.sides[side]
        for task in suite.sides[f"{split} query"].tasks.unique().tolist():
            count = int((gallery.tasks == task).sum())
            if not count:
                raise InputError(f"Task {suite.tasks[task]!r} has queries and no image in the gallery: add pictures.")
            if count < k:
                raise InputError(
                    f"K = {k} is larger than the gallery of task {suite.tasks[task]!r} ({count} images): "
                    "use a smaller K or add pictures."
                )
        smallest = int(gallery.labels.bincount()[gallery.labels.unique()].min())
        if smallest < k:
            notes.append(f"The {side} has classes of {smallest} images, fewer than K = {k}: their votes are diluted.")
    return notes
