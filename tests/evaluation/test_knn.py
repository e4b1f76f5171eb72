"""k-NN against scikit-learn, against plain loops, and by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from metalora.evaluation.knn import (
    confusion_by_task,
    knn_neighbours,
    knn_predict,
    knn_routed,
    knn_within,
    per_task_accuracy,
)
from metalora.util.errors import InputError


def features(n, seed, dtype=torch.float64, width=8):
    return torch.randn(n, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def angles(*degrees):
    turns = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    return torch.stack([turns.cos(), turns.sin()], dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neighbours_are_those_of_sklearn(dtype):
    queries, gallery = features(50, 0, dtype), features(200, 1, dtype) * 7
    similarity, index = knn_neighbours(queries, gallery, 9, chunk=32)
    distance, expected = NearestNeighbors(n_neighbors=9, metric="cosine").fit(gallery).kneighbors(queries)
    assert similarity.dtype == dtype
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(1 - similarity, distance, atol=1e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("k", [1, 3, 11])
def test_two_classes_and_odd_k_predict_as_sklearn(k):
    queries, gallery = features(100, 2), features(150, 3)
    labels = (gallery[:, 0] + 0.5 * gallery[:, 1] > 0).long()
    expected = KNeighborsClassifier(k, metric="cosine").fit(gallery, labels).predict(queries)
    np.testing.assert_array_equal(knn_predict(queries, gallery, labels, [k])[k], expected)


def test_many_classes_follow_the_rule_written_as_a_loop():
    queries, gallery = features(200, 4), features(120, 5)
    labels = torch.randint(-2, 4, (120,), generator=torch.Generator().manual_seed(6))
    similarity, index = knn_neighbours(queries, gallery, 6)
    expected, ties = [], 0
    for row, near in zip(similarity.tolist(), labels[index].tolist(), strict=True):
        rank = {c: (near.count(c), sum(s for s, n in zip(row, near, strict=True) if n == c), -c) for c in near}
        ties += sum(votes == max(rank.values())[0] for votes, _, _ in rank.values()) > 1
        expected.append(max(rank, key=rank.get))
    assert ties > 20  # the rule was needed
    assert knn_predict(queries, gallery, labels, [6])[6].tolist() == expected


def test_four_points_by_hand():
    gallery, labels = angles(0, 20, 50, 90), torch.tensor([0, 1, 1, 0])
    found = knn_predict(angles(8), gallery, labels, [1, 2, 3, 4])
    # Neighbours of 8°: 0° (class 0, .990), 20° (1, .978), 50° (1, .743), 90° (0, .139).
    # K=1: 0. K=2: one vote each, .990 > .978: 0. K=3: 1 by votes. K=4: two votes each, 1.721 > 1.129: 1.
    assert {k: v.tolist() for k, v in found.items()} == {1: [0], 2: [0], 3: [1], 4: [1]}


def test_full_tie_goes_to_the_smaller_label():
    gallery = torch.eye(2)
    for labels in ([5, 3], [3, 5]):
        assert knn_predict(torch.ones(1, 2), gallery, torch.tensor(labels), [2])[2].tolist() == [3]


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
def test_chunks_do_not_change_the_result(chunk):
    # Small integers: similarities of repeated rows are equal whatever the chunk, so ties are plenty.
    gallery = torch.randint(-1, 2, (90, 4), generator=torch.Generator().manual_seed(7)).double()
    queries, labels = gallery[:40] * 2, torch.arange(90) % 5
    similarity, index = knn_neighbours(queries, gallery, 12, chunk=chunk)
    expected = (torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(gallery).T).round(decimals=9)
    order = expected.sort(dim=1, descending=True, stable=True).indices[:, :12]
    np.testing.assert_allclose(similarity, expected.gather(1, order), atol=1e-8)
    whole = knn_predict(queries, gallery, labels, [1, 5, 12])
    parts = knn_predict(queries, gallery, labels, [1, 5, 12], chunk=chunk)
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    assert all(len(set(row)) == 12 for row in index.tolist())


@pytest.mark.parametrize("chunk", [3, 4, 100])
def test_equal_similarities_go_to_the_earlier_row(chunk):
    gallery = torch.eye(2)[[1, 0, 1, 0, 0, 1, 0, 0]]
    _, index = knn_neighbours(torch.tensor([[2.0, 0.0]]), gallery, 3, chunk=chunk)
    assert index.tolist() == [[1, 3, 4]]


def test_zero_tiny_and_huge_vectors():
    queries = torch.tensor([[0.0, 0.0], [1e-30, 0.0], [0.0, 1e30]])
    similarity, index = knn_neighbours(queries, torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), 2)
    assert similarity.tolist() == [[0, 0], [1, 0], [1, 0]]
    assert index.tolist() == [[0, 1], [1, 0], [2, 0]]


def test_half_precision_is_compared_in_float32():
    queries, gallery = features(20, 8, torch.bfloat16), features(60, 9, torch.bfloat16)
    similarity, index = knn_neighbours(queries, gallery, 5)
    assert similarity.dtype == torch.float32
    assert torch.equal(index, knn_neighbours(queries.double(), gallery.double(), 5)[1])


def test_no_queries():
    assert knn_predict(features(0, 0), features(5, 1), torch.arange(5), [2])[2].shape == (0,)


def test_what_a_person_can_get_wrong_is_said():
    queries, gallery, labels = features(3, 0), features(4, 1), torch.arange(4)
    with pytest.raises(InputError, match=r"K is 5 .* 4 images"):
        knn_predict(queries, gallery, labels, [1, 5])
    with pytest.raises(InputError, match=r"not \[0, 2\]"):
        knn_predict(queries, gallery, labels, [0, 2])
    with pytest.raises(InputError, match="3 labels"):
        knn_predict(queries, gallery, labels[:3], [1])
    with pytest.raises(InputError, match="one width"):
        knn_neighbours(queries, gallery[:, :2], 1)
    gallery[2, 0] = math.nan
    with pytest.raises(InputError, match="gallery hold values that are not finite"):
        knn_neighbours(queries, gallery, 1)


def test_within_a_task_only_its_gallery_is_searched():
    gallery, labels = angles(0, 90, 0, 90), torch.tensor([0, 1, 1, 0])
    gallery_tasks = torch.tensor([7, 7, 2, 2])
    found = knn_within(angles(10, 10, 80), torch.tensor([2, 7, 2]), gallery, gallery_tasks, labels, [1, 2])
    assert found[1].tolist() == [1, 0, 0]
    assert found[2].tolist() == [1, 0, 0]
    with pytest.raises(InputError, match=r"Task 2: K is 3 .* 2 images"):
        knn_within(angles(10), torch.tensor([2]), gallery, gallery_tasks, labels, [3])


def test_confusion_and_accuracy_of_tasks():
    truth, predicted = torch.tensor([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    confusion = confusion_by_task(["a", "a", "a", "b", "b"], truth, predicted)
    assert confusion.values.tolist() == [["a", 0, 0, 1], ["a", 0, 1, 1], ["a", 1, 1, 1], ["b", 1, 0, 1], ["b", 1, 1, 1]]
    assert list(confusion.columns) == ["task", "true", "predicted", "count"]
    accuracy = per_task_accuracy(confusion)
    assert accuracy.to_dict("list") == {"task": ["a", "b"], "queries": [3, 2], "accuracy": [2 / 3, 1 / 2]}


def test_routed_sets_search_near_sets_only():
    # Two tasks: the second is the first turned by 90 degrees, with the labels exchanged.
    first = torch.tensor([[1.0, 0.2], [1.0, -0.2], [1.0, 0.2], [1.0, -0.2]])
    gallery = torch.cat([first, first.flip(1)])
    labels, sets = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0]), torch.tensor([5, 5, 6, 6, 7, 7, 8, 8])
    queries, query_sets = torch.tensor([[1.0, 0.5], [1.0, -0.3], [0.1, 1.0], [-0.3, 1.0]]), torch.tensor([0, 0, 1, 1])
    routed = knn_routed(queries, query_sets, gallery, sets, labels, [1, 3], 4)
    within = knn_within(queries, query_sets, gallery, torch.tensor([0] * 4 + [1] * 4), labels, [1, 3])
    assert {k: v.tolist() for k, v in routed.items()} == {k: v.tolist() for k, v in within.items()}
    everything = knn_routed(queries, query_sets, gallery, sets, labels, [1, 3], 8)
    pooled = knn_predict(queries, gallery, labels, [1, 3])
    assert {k: v.tolist() for k, v in everything.items()} == {k: v.tolist() for k, v in pooled.items()}


def test_routing_finds_enough_images_for_the_largest_k():
    gallery, labels = torch.eye(6), torch.arange(6)
    found = knn_routed(gallery[:1], torch.tensor([0]), gallery, torch.arange(6), labels, [4], 1)
    assert found[4].item() == 0
