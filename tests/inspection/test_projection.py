"""Projections: structure survives, the same input gives the same plane, and what a person can get wrong."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from metalora.inspection.projection import (
    MAX_ALIGNED,
    align,
    nearest_others,
    project,
    warm_up,
)
from metalora.util.errors import InputError


def clusters(count=4, each=15, width=12, seed=0):
    """Features (count · each, width) around random directions, and their labels."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, width, generator=rng)
    labels = torch.arange(count).repeat_interleave(each)
    lengths = 0.5 + torch.rand(count * each, 1, generator=rng)  # cosine does not see them
    return lengths * (centres[labels] + 0.1 * torch.randn(count * each, width, generator=rng)), labels


def left_out_accuracy(points, labels):
    """Fraction of points whose three nearest others on the plane are of their class."""
    near = KNeighborsClassifier(4).fit(points, labels).kneighbors(points, return_distance=False)
    return np.mean([(labels[row[1:]] == labels[row[0]]).all() for row in near])


@pytest.fixture(scope="module")
def compiled_umap():
    """The package umap, with what `project` needs of it compiled."""
    warm_up()
    return pytest.importorskip("umap")


@pytest.fixture
def quick_align(compiled_umap, monkeypatch):
    """Interpret the functions that aligning calls once or twice: compiling them takes half a minute."""
    for module, name in (
        (compiled_umap.umap_, "fast_knn_indices"),
        (compiled_umap.aligned_umap, "build_neighborhood_similarities"),
        (compiled_umap.aligned_umap, "procrustes_align"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name).py_func)


def test_pca_keeps_the_two_widest_directions():
    rng = torch.Generator().manual_seed(0)
    flat = torch.randn(50, 2, generator=rng, dtype=torch.float64) * torch.tensor([3.0, 1.0])
    basis = torch.linalg.qr(torch.randn(6, 6, generator=rng, dtype=torch.float64)).Q[:2]
    points = project(flat @ basis, "pca")
    centred = flat - flat.mean(0)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), centred.norm(dim=1), rtol=1e-4)
    assert points[:, 0].var() > points[:, 1].var()


def test_pca_does_not_depend_on_the_order_of_rows():
    features, _ = clusters()
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(project(features[order], "pca"), project(features, "pca")[order], atol=1e-4)


def test_pca_of_one_dimension_and_of_equal_points():
    line = torch.tensor([[0.0], [1.0], [5.0]])
    points = project(line, "pca")
    assert np.abs(np.diff(points[:, 0])) == pytest.approx([1, 4]) and not points[:, 1].any()
    assert not project(torch.ones(5, 4), "pca").any()


def test_umap_separates_clusters_and_repeats_itself(compiled_umap):
    features, labels = clusters()
    points = project(features, neighbours=8)
    assert points.shape == (60, 2) and points.dtype == np.float32 and np.isfinite(points).all()
    assert left_out_accuracy(points, labels) > 0.95
    np.testing.assert_array_equal(points, project(features, neighbours=8))
    assert not np.array_equal(points, project(features, neighbours=8, seed=1))


def test_projecting_leaves_the_number_of_threads_alone():
    features, before = clusters()[0], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            project(features, neighbours=8)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_umap_accepts_equal_points_and_zero():
    features = torch.ones(12, 4).index_fill(0, torch.tensor(3), 0)
    assert np.isfinite(project(features, neighbours=3)).all()


def test_aligned_planes_keep_images_near_their_position(quick_align):
    features, labels = clusters()
    turned = features @ torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(2))).Q
    one, other = align([features, turned[:, :9]], neighbours=8)
    assert one.shape == other.shape == (60, 2)
    assert left_out_accuracy(one, labels) > 0.95 and left_out_accuracy(other, labels) > 0.95
    spread = np.linalg.norm(one - one.mean(0), axis=1).mean()
    apart = [np.linalg.norm(one[labels == c].mean(0) - other[labels == c].mean(0)) for c in range(4)]
    assert max(apart) < spread / 2


@pytest.mark.parametrize(
    ("features", "settings", "message"),
    [
        (torch.ones(2, 3), {"method": "pca"}, "2 images"),
        (torch.ones(9, 3), {}, "UMAP of 9 images"),
        (torch.ones(20), {}, "shape"),
        (torch.full((20, 3), torch.nan), {}, "not finite"),
        (torch.full((20, 3), 1e300, dtype=torch.float64), {"method": "pca"}, "not finite"),
        (torch.ones(20, 3), {"neighbours": 1}, "from 2 to 19"),
        (torch.ones(20, 3), {"neighbours": 20}, "from 2 to 19"),
        (torch.ones(20, 3), {"neighbours": 5.5}, "whole number"),
        (torch.ones(20, 3), {"min_dist": 1.5}, "min_dist"),
        (torch.ones(20, 3), {"method": "tsne"}, "use pca or umap"),
    ],
)
def test_what_cannot_be_projected_is_an_error(features, settings, message):
    with pytest.raises(InputError, match=message):
        project(features, **settings)


def test_what_cannot_be_aligned_is_an_error():
    with pytest.raises(InputError, match="two or more"):
        align([torch.ones(20, 3)])
    with pytest.raises(InputError, match="same images"):
        align([torch.ones(20, 3), torch.ones(21, 3)])
    with pytest.raises(InputError, match="from 2 to 19"):
        align([torch.ones(20, 3)] * 2, neighbours=20)
    with pytest.raises(InputError, match="At most"):
        align([torch.ones(MAX_ALIGNED + 1, 1)] * 2)


def test_neighbours_by_hand():
    degrees = torch.tensor([0.0, 90, 10, 200, 25])
    features = torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], dim=1) * 3
    found = nearest_others(features, 2, k=3)
    assert found["rank"].tolist() == [1, 2, 3] and found["index"].tolist() == [0, 4, 1]
    assert found["similarity"].to_numpy() == pytest.approx(np.cos(np.deg2rad([10, 15, 80])), abs=1e-6)


def test_a_point_is_not_its_own_neighbour_even_among_equal_ones():
    for index in range(5):
        found = nearest_others(torch.ones(5, 3), index, k=4)
        assert sorted([*found["index"], index]) == list(range(5))
    with pytest.raises(InputError, match="K is 5"):
        nearest_others(torch.ones(5, 3), 0, k=5)
    for wrong in (-1, 5, 1.5):
        with pytest.raises(InputError, match="0 to 4"):
            nearest_others(torch.ones(5, 3), wrong)
