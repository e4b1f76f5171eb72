"""Further points on a plane: where the same points already are, and not outside the others."""

import numpy as np
import pytest
import torch

from metalora.inspection.placement import place, superimpose
from metalora.inspection.projection import explained_variance, project
from metalora.util.errors import InputError


@pytest.fixture
def features():
    return torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


def test_pca_places_further_points_exactly(features):
    plane = project(features, "pca")
    np.testing.assert_allclose(place(features, plane, features[:7], "pca"), plane[:7], atol=1e-5)
    between = place(features, plane, features[:1] * 0.3 + features[1:2] * 0.7, "pca")
    np.testing.assert_allclose(between[0], 0.3 * plane[0] + 0.7 * plane[1], atol=1e-5)


def test_umap_places_them_at_the_weighted_mean_of_the_nearest(features):
    plane = np.arange(80.0).reshape(40, 2)
    new = features[3:4]
    similarity = torch.nn.functional.cosine_similarity(new, features)
    best = similarity.topk(5)
    weights = best.values.clamp(min=1e-6).numpy()
    expected = (plane[best.indices.numpy()] * weights[:, None]).sum(0) / weights.sum()
    np.testing.assert_allclose(place(features, plane, new, "umap")[0], expected, rtol=1e-4)


@pytest.mark.parametrize("new", [torch.ones(2, 5), torch.full((2, 6), torch.nan), torch.ones(6)])
def test_points_of_another_space_are_refused(features, new):
    with pytest.raises(InputError, match="width 6"):
        place(features, project(features, "pca"), new, "pca")


def test_a_turned_mirrored_and_scaled_plane_is_laid_over_the_other(features):
    plane = project(features, "pca")
    other = plane @ np.array([[0.0, 3.0], [3.0, 0.0]]) + 5
    np.testing.assert_allclose(superimpose(other, plane)(other), plane, atol=1e-4)


def test_unrelated_planes_keep_their_spread(features):
    plane, other = project(features, "pca"), project(features.flip(0), "pca") * 4
    moved = superimpose(other, plane)(other)
    assert np.linalg.norm(moved - moved.mean(0)) == pytest.approx(np.linalg.norm(plane - plane.mean(0)), rel=1e-4)


def test_explained_variance_is_that_of_the_two_axes(features):
    plane = project(features, "pca")
    total = float(features.var(0, correction=0).sum())
    assert explained_variance(features) == pytest.approx((plane.var(0) / total).tolist(), rel=1e-4)
