"""k-NN accuracy of embedded examples, on the pooled or the within-task gallery."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import assign_sets, embed
from metalora.evaluation.feature_cache import FeatureCache
from metalora.evaluation.knn import knn_predict, knn_routed, knn_within
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.suite import Examples, Suite
from metalora.util.checks import check_ks
from metalora.util.errors import InputError

GALLERIES = ("pooled", "within")
SplitFeatures = Callable[[str], Tensor]


def predict(
    queries: Examples,
    features: Tensor,
    gallery: Examples,
    gallery_features: Tensor,
    ks: Sequence[int],
    kind: str,
    embed_config: EmbedConfig | None = None,
) -> dict[int, Tensor]:
    """Predict labels (Q,) for every K.

    Args:
        queries: whose labels are predicted.
        features: of the queries, (Q, D).
        gallery: labelled images.
        gallery_features: (G, D).
        ks: numbers of neighbours.
        kind: "pooled" (all tasks of the split together) or "within" (each query's own task only).
        embed_config: how they were embedded; with set use "routed", sets of queries search only near sets of the
            pooled gallery.
    """
    if kind == "pooled" and embed_config is not None and embed_config.set_use == "routed":
        sets = assign_sets(queries, embed_config), assign_sets(gallery, embed_config)
        images_per_task = len(gallery) // len(gallery.tasks.unique())
        return knn_routed(features, sets[0], gallery_features, sets[1], gallery.labels, ks, images_per_task)
    if kind == "pooled":
        return knn_predict(features, gallery_features, gallery.labels, ks)
    return knn_within(features, queries.tasks, gallery_features, gallery.tasks, gallery.labels, ks)


def accuracy(predictions: Tensor, queries: Examples) -> float:
    """Return the fraction of correct predictions."""
    return (predictions == queries.labels).double().mean().item()


def embed_splits(
    model: AdaptedModel, suite: Suite, embed_config: EmbedConfig, features: FeatureCache | None = None
) -> SplitFeatures:
    """Return a function split → embeddings (N, D), which computes each split once, when it is first asked for."""
    return functools.cache(
        lambda split: embed(model, suite.splits[split], embed_config, features, suite.factor_indices)
    )


def validation_accuracy(
    suite: Suite, features: SplitFeatures, k: int = 5, embed_config: EmbedConfig | None = None
) -> float:
    """Return the k-NN accuracy of validation images of seen tasks against the seen tasks' gallery.

    Args:
        suite: whose splits.
        features: as `embed_splits` returns.
        k: number of neighbours, lowered to the size of the smallest gallery.
        embed_config: as in `predict`.
    """
    queries, gallery = suite.splits["validation"], suite.splits["seen gallery"]
    tasks = gallery.tasks.bincount(minlength=len(suite.tasks))[queries.tasks.unique()]
    k = min(k, len(gallery) if suite.primary == "pooled" else int(tasks.min()))
    predictions = predict(
        queries, features("validation"), gallery, features("seen gallery"), [k], suite.primary, embed_config
    )
    return accuracy(predictions[k], queries)


def measure(
    suite: Suite, features: SplitFeatures, ks: Sequence[int], embed_config: EmbedConfig | None = None
) -> Iterator[tuple[dict[str, Any], Examples, Tensor]]:
    """Classify the queries of seen and unseen tasks, on both galleries, for every K.

    Args:
        suite: whose splits.
        features: as `embed_splits` returns.
        ks: numbers of neighbours.
        embed_config: as in `predict`.

    Yields:
        What is measured ("task_split", "gallery", "k"), the queries, and their predicted labels (Q,).
    """
    for task_split in ("seen", "unseen"):
        if f"{task_split} query" not in suite.splits:
            continue
        queries, gallery = suite.splits[f"{task_split} query"], suite.splits[f"{task_split} gallery"]
        pair = features(f"{task_split} query"), features(f"{task_split} gallery")
        for kind in GALLERIES:
            for k, predicted in predict(queries, pair[0], gallery, pair[1], ks, kind, embed_config).items():
                yield {"task_split": task_split, "gallery": kind, "k": k}, queries, predicted


def check_galleries(suite: Suite, ks: Sequence[int]) -> list[str]:
    """Check that the galleries are large enough for every K; return notes on classes that are smaller than K.

    Raises:
        InputError: K is below 1, or larger than the gallery of a task that has queries.
    """
    check_ks(ks)
    notes, k = [], max(ks)
    for task_split in ("seen", "unseen"):
        split = f"{task_split} gallery"
        if split not in suite.splits:
            continue
        gallery = suite.splits[split]
        for task in suite.splits[f"{task_split} query"].tasks.unique().tolist():
            count = int((gallery.tasks == task).sum())
            if not count:
                raise InputError(f"Task {suite.tasks[task]!r} has queries and no image in the gallery: add images.")
            if count < k:
                raise InputError(
                    f"K = {k} is larger than the gallery of task {suite.tasks[task]!r} ({count} images): "
                    "use a smaller K or add images."
                )
        smallest = int(gallery.labels.bincount()[gallery.labels.unique()].min())
        if smallest < k:
            notes.append(f"The {split} has classes of {smallest} images, fewer than K = {k}: their votes are diluted.")
    return notes
