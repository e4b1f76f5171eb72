"""k-nearest-neighbour classification of embeddings: cosine, majority vote, chunked.

Equal similarities go to the earlier gallery row; classes with equally many votes to the larger summed
similarity, then to the smaller label. So the same features give the same predictions on every device and
in chunks of any size, up to rounding of the similarities.
"""

from collections.abc import Iterable, Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from metalora.util.errors import InputError


@torch.no_grad()
def knn_neighbours(queries: Tensor, gallery: Tensor, k: int, *, chunk: int = 4096) -> tuple[Tensor, Tensor]:
    """Find the `k` nearest gallery rows of each query, nearest first.

    Args:
        queries: of shape (Q, D), normalised inside; a zero vector has similarity 0 to everything.
        gallery: of shape (G, D), on the same device.
        k: number of neighbours.
        chunk: queries and gallery rows compared at once; at most chunk × chunk similarities exist.

    Returns:
        Cosine similarities (Q, k) and gallery indices (Q, k).

    Raises:
        InputError: k is below 1 or larger than the gallery, the widths differ, or a feature is not finite.
    """
    check_search(queries, gallery, k)
    # At least float32: half precision would tie neighbours that differ.
    dtype = torch.promote_types(torch.promote_types(queries.dtype, gallery.dtype), torch.float32)
    queries, gallery = unit_rows(queries.to(dtype), "queries"), unit_rows(gallery.to(dtype), "gallery")
    similarities, indices = zip(*(_nearest(block, gallery, k, chunk) for block in queries.split(chunk)), strict=True)
    return torch.cat(similarities), torch.cat(indices)


def knn_predict(
    queries: Tensor, gallery: Tensor, labels: Tensor, ks: Sequence[int], *, chunk: int = 4096
) -> dict[int, Tensor]:
    """Predict labels (Q,) for every K in `ks`, from one search of the largest.

    Args:
        queries: of shape (Q, D).
        gallery: of shape (G, D).
        labels: integers of shape (G,).
        ks: numbers of neighbours.
        chunk: as in `knn_neighbours`.

    Raises:
        InputError: as `knn_neighbours`; or `ks` is empty or has a K below 1, or `labels` do not fit the gallery.
    """
    if not ks or min(ks) < 1:
        raise InputError(f"Give at least one K, each 1 or more, not {list(ks)}.")
    if labels.shape != gallery.shape[:1]:
        raise InputError(f"The gallery has {len(gallery)} images and {labels.numel()} labels: give one label each.")
    similarity, index = knn_neighbours(queries, gallery, max(ks), chunk=chunk)
    # In float64 sums of float32 similarities are exact, so that ties are ties.
    similarity, near = similarity.double().cpu(), labels.cpu()[index.cpu()]
    blocks = list(zip(similarity.split(chunk), near.split(chunk), strict=True))
    return {k: torch.cat([vote(s[:, :k], n[:, :k]) for s, n in blocks]).to(queries.device) for k in ks}


def knn_within(
    queries: Tensor,
    query_tasks: Tensor,
    gallery: Tensor,
    gallery_tasks: Tensor,
    labels: Tensor,
    ks: Sequence[int],
    *,
    chunk: int = 4096,
) -> dict[int, Tensor]:
    """Predict as `knn_predict` does, each query searching only the gallery images of its own task.

    Args:
        queries: of shape (Q, D).
        query_tasks: task numbers, of shape (Q,).
        gallery: of shape (G, D).
        gallery_tasks: task numbers, of shape (G,).
        labels: integers of shape (G,).
        ks: numbers of neighbours.
        chunk: as in `knn_neighbours`.

    Raises:
        InputError: as `knn_predict`, or a task has fewer gallery images than the largest K; it names the task.
    """
    predictions = {k: torch.empty(len(queries), dtype=labels.dtype, device=queries.device) for k in ks}
    for task in query_tasks.unique().tolist():
        asked, searched = query_tasks == task, gallery_tasks == task
        try:
            predicted = knn_predict(queries[asked], gallery[searched], labels[searched], ks, chunk=chunk)
        except InputError as error:
            raise InputError(f"Task {task}: {error}") from error
        for k in ks:
            predictions[k][asked] = predicted[k]
    return predictions


def knn_routed(
    queries: Tensor,
    query_sets: Tensor,
    gallery: Tensor,
    gallery_sets: Tensor,
    labels: Tensor,
    ks: Sequence[int],
    images: int,
) -> dict[int, Tensor]:
    """Predict as `knn_predict` does, each set of queries searching only the gallery sets of nearest mean.

    Args:
        queries: of shape (Q, D).
        query_sets: the number of each row's set, of shape (Q,).
        gallery: of shape (G, D).
        gallery_sets: the number of each row's set, of shape (G,).
        labels: integers of shape (G,).
        ks: numbers of neighbours.
        images: gallery images, at least, that the searched sets hold together (and no fewer than the largest K).

    Returns:
        Predicted labels (Q,) for every K.

    Raises:
        InputError: as `knn_predict`.
    """
    predictions = {k: torch.empty(len(queries), dtype=labels.dtype, device=queries.device) for k in ks}
    numbers, member = gallery_sets.unique(return_inverse=True)
    sizes = torch.bincount(member)
    sums = gallery.new_zeros(len(numbers), gallery.shape[1]).index_add_(0, member, normalize(gallery, dim=1))
    directions = normalize(sums, dim=1)
    for number in query_sets.unique().tolist():
        asked = query_sets == number
        mean = normalize(queries[asked], dim=1).mean(0)
        nearest = (directions @ mean).argsort(descending=True, stable=True)
        enough = int((sizes[nearest].cumsum(0) < max(images, *ks)).sum()) + 1
        searched = torch.isin(member, nearest[:enough])
        predicted = knn_predict(queries[asked], gallery[searched], labels[searched], ks)
        for k in ks:
            predictions[k][asked] = predicted[k]
    return predictions


def confusion_by_task(tasks: Iterable, truth: Iterable, predictions: Iterable) -> pd.DataFrame:
    """Count how often each class was predicted as each: columns task, true, predicted, count; only pairs that occur.

    Args:
        tasks: of shape (Q,), a tensor, array or list of numbers or names.
        truth: the classes, likewise.
        predictions: the predicted classes, likewise.
    """
    columns = {"task": tasks, "true": truth, "predicted": predictions}
    frame = pd.DataFrame({name: _plain(values) for name, values in columns.items()})
    return frame.groupby(list(columns)).size().reset_index(name="count")


def per_task_accuracy(confusion: pd.DataFrame) -> pd.DataFrame:
    """Return columns task, queries (a count) and accuracy (0 to 1), from the frame of `confusion_by_task`."""
    right = confusion["count"].where(confusion["true"] == confusion["predicted"], 0)
    counts = confusion.assign(right=right).groupby("task")[["count", "right"]].sum()
    frame = pd.DataFrame({"queries": counts["count"], "accuracy": counts["right"] / counts["count"]})
    return frame.reset_index()


def _plain(values: Iterable) -> list:
    return values.tolist() if hasattr(values, "tolist") else list(values)


def check_search(queries: Tensor, gallery: Tensor, k: int) -> None:
    """Check that `k` neighbours of queries (Q, D) can be searched in a gallery (G, D).

    Raises:
        InputError: k is below 1 or larger than the gallery, or the widths differ.
    """
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        shapes = f"{tuple(queries.shape)} and {tuple(gallery.shape)}"
        raise InputError(f"Queries and gallery must be (Q, D) and (G, D) of one width D, not {shapes}.")
    if not 1 <= k <= len(gallery):
        raise InputError(f"K is {k} and the gallery has {len(gallery)} images: K must be between 1 and that number.")


def unit_rows(features: Tensor, name: str) -> Tensor:
    """Return features (N, D) of length 1; a zero vector stays one.

    Raises:
        InputError: a value is not finite; the message names the features as `name`.
    """
    if not features.isfinite().all():
        raise InputError(f"The features of the {name} hold values that are not finite: check the training run.")
    # Squares of very large or very small numbers leave the range of floats, so scale first.
    largest = features.abs().amax(dim=1, keepdim=True)
    return normalize(features / largest.where(largest > 0, 1), dim=1)


def _nearest(block: Tensor, gallery: Tensor, k: int, chunk: int) -> tuple[Tensor, Tensor]:
    """Keep a running top k over chunks of the gallery, so that not all similarities are in memory at once."""
    similarity = block.new_empty(len(block), 0)
    index = torch.empty(len(block), 0, dtype=torch.long, device=block.device)
    for start in range(0, len(gallery), chunk):
        values, column = _top(block @ gallery[start : start + chunk].T, k)
        similarity, index = torch.cat([similarity, values], dim=1), torch.cat([index, start + column], dim=1)
        similarity, column = _top(similarity, k)
        index = index.gather(1, column)
    return similarity, index


def _top(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the (at most) k largest of each row and their columns, largest first, ties in the order of columns."""
    k = min(k, similarity.shape[1])
    values, column = similarity.topk(k, dim=1)
    # topk takes any of equal values: rows with a tie at the border are sorted in full, they are few.
    tied = (similarity >= values[:, -1:]).sum(dim=1) > k
    if tied.any():
        column[tied] = similarity[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    column = column.sort(dim=1).values
    values, order = similarity.gather(1, column).sort(dim=1, descending=True, stable=True)
    return values, column.gather(1, order)


def vote(similarity: Tensor, labels: Tensor) -> Tensor:
    """Return the winner (Q,) of the neighbours' labels: most votes, then largest sum of similarities, smallest label.

    Args:
        similarity: of the neighbours, (Q, k), float64, so that rounding does not break ties.
        labels: of the neighbours, (Q, k), int64.
    """
    same = labels[:, :, None] == labels[:, None, :]
    votes = same.sum(dim=2)
    weight = (same * similarity[:, None, :]).sum(dim=2)
    best = votes == votes.amax(dim=1, keepdim=True)
    weight = weight.where(best, -torch.inf)
    best = weight == weight.amax(dim=1, keepdim=True)
    return labels.where(best, torch.iinfo(labels.dtype).max).amin(dim=1)
