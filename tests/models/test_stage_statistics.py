"""Numbers that describe an image and the outputs of a network's stages."""

import pytest
import torch

from metalora.models.stage_statistics import input_statistics, stage_statistics


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_input_statistics_are_moments_and_correlations():
    images = torch.rand(4, 3, 20, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, pixels = input_statistics(images), images.flatten(2)
    mean, deviation = pixels.mean(2), pixels.std(2, correction=0)
    skew = ((pixels - mean[..., None]) / deviation[..., None]).pow(3).mean(2)
    pairs = torch.stack([torch.corrcoef(image)[[0, 0, 1], [1, 2, 2]] for image in pixels])
    torch.testing.assert_close(found, torch.cat([mean, deviation, skew, pairs], 1), rtol=1e-4, atol=1e-4)


def test_a_flat_image_has_finite_statistics():
    assert input_statistics(torch.full((1, 3, 8, 8), 0.3)).isfinite().all()


def test_stage_statistics_do_not_depend_on_the_layout():
    maps = numbers(2, 5, 4, 4)
    wanted = stage_statistics(maps, 5)
    assert wanted.shape == (2, 30)
    torch.testing.assert_close(stage_statistics(maps.movedim(1, -1), 5), wanted)
    tokens = torch.cat([numbers(2, 3, 5), maps.flatten(2).transpose(1, 2)], 1)
    torch.testing.assert_close(stage_statistics(tokens, 5, prefix=3), wanted)


def test_stage_statistics_by_hand():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert stage_statistics(maps, 1).flatten().tolist() == pytest.approx([3.0, 3.5**0.5, 1.0, 2.0, 3.0, 6.0])


def test_layout_shows_rotation_where_means_do_not():
    maps = numbers(1, 2, 6, 6)
    upright, turned = stage_statistics(maps, 2), stage_statistics(maps.rot90(1, (2, 3)), 2)
    torch.testing.assert_close(upright[:, :4], turned[:, :4])
    assert not torch.allclose(upright[:, 4:], turned[:, 4:], atol=0.1)
