"""k-NN accuracy of embedded examples, on the pooled or the within-task gallery."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
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
from metalora.util.files import part_of, read_tensors, write_tensors

GALLERIES = ("pooled", "within")
KS = (1, 3, 5, 10)  # from which those of small galleries are chosen
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


def keep_splits(splits: SplitFeatures, file: Path | None) -> SplitFeatures:
    """Return the same function, whose results are kept beside a file for a process that repeats the work of this one.

    Args:
        splits: as `embed_splits` returns.
        file: none needs to exist; None: nothing is kept.
    """
    if file is None:
        return splits

    @functools.cache
    def kept(split: str) -> Tensor:
        path = part_of(file, split.replace(" ", "-"))
        if path.exists():
            return read_tensors(path)[0]["embeddings"]
        embeddings = splits(split)
        write_tensors(path, {"embeddings": embeddings})
        return embeddings

    return kept


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
    """Classify the queries of seen and unseen tasks, on both galleries, for every K that a gallery can serve.

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
            served = [k for k in ks if k <= largest_k(suite, task_split, kind)]
            if not served:
                continue
            for k, predicted in predict(queries, pair[0], gallery, pair[1], served, kind, embed_config).items():
                yield {"task_split": task_split, "gallery": kind, "k": k}, queries, predicted


def largest_k(suite: Suite, task_split: str, kind: str) -> int:
    """Return the largest K that a gallery can serve: all its images, or those of the task that has the fewest."""
    gallery = suite.splits[f"{task_split} gallery"]
    if kind == "pooled":
        return len(gallery)
    tasks = suite.splits[f"{task_split} query"].tasks.unique()
    return int(gallery.tasks.bincount(minlength=len(suite.tasks))[tasks].min())


def fitting_ks(suite: Suite, ks: Sequence[int] = KS) -> tuple[int, ...]:
    """Return the two largest Ks of at most half the images that a class has in the primary galleries; 1 if none is."""
    smallest = []
    for name in ("seen", "unseen"):
        if f"{name} gallery" in suite.splits:
            gallery = suite.splits[f"{name} gallery"]
            cells = gallery.labels if suite.primary == "pooled" else gallery.tasks * len(suite.classes) + gallery.labels
            smallest.append(int(cells.unique(return_counts=True)[1].min()))
    return tuple(k for k in sorted(ks) if 2 * k <= min(smallest))[-2:] or (1,)


def usable_ks(suite: Suite, ks: Sequence[int]) -> tuple[tuple[int, ...], list[str]]:
    """Return the Ks that the primary galleries can serve, and notes: on the other Ks, and on classes smaller than K.

    Raises:
        InputError: K is below 1, or the galleries can serve none of `ks`.
    """
    check_ks(ks)
    notes = []
    splits = [name for name in ("seen", "unseen") if f"{name} query" in suite.splits]
    limits = {(name, kind): largest_k(suite, name, kind) for name in splits for kind in GALLERIES}
    name, most = min(((name, limits[name, suite.primary]) for name in splits), key=lambda pair: pair[1])
    usable = tuple(k for k in ks if k <= most)
    where = f"the gallery of {name} tasks has {most} images{' of one task' if suite.primary == 'within' else ''}"
    if not usable:
        raise InputError(f"K = {min(ks)} is too large: {where}; use a smaller K or add images.")
    if len(usable) < len(ks):
        notes.append(f"K = {', '.join(str(k) for k in ks if k > most)} is left out: {where}.")
    for (name, kind), limit in limits.items():
        missing = [str(k) for k in usable if k > limit]
        if missing:
            notes.append(
                f"K = {', '.join(missing)} is not measured on the {kind} gallery of {name} tasks: {limit} images."
            )
    for name in splits:
        gallery = suite.splits[f"{name} gallery"]
        smallest = int(gallery.labels.bincount()[gallery.labels.unique()].min())
        if smallest < max(usable):
            few = f"classes of {smallest} images, fewer than K = {max(usable)}"
            notes.append(f"The {name} gallery has {few}: their votes are diluted.")
    return usable, notes
