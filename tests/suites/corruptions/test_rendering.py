"""What single corruptions do, worked out by hand or by another library."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from metalora.suites.corruptions import blur, digital, noise, weather
from metalora.suites.corruptions.fields import Draws, smooth, streaked, zoomed
from metalora.util.seeding import seeded_generator


def uniform(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=seeded_generator(seed)) / 255


def draws(images):
    return Draws(images, 0)


def point(size=15, place=7):
    image = torch.zeros(1, 3, size, size)
    image[..., place, place] = 1
    return image


def test_noises_have_the_moments_of_their_distributions():
    grey = torch.full((8, 3, 32, 32), 0.4)
    shot = noise.shot_noise(grey, draws(grey), 1, 50)
    assert abs(shot.mean().item() - 0.4) < 0.005 and abs(shot.var().item() - 0.4 / 50) < 4e-4
    assert torch.allclose(shot * 50, (shot * 50).round(), atol=1e-4)
    pepper = noise.impulse_noise(grey, draws(grey), 1, 0.2)
    assert [round((pepper == value).float().mean().item(), 2) for value in (0, 1)] == [0.1, 0.1]
    assert abs(noise.gaussian_noise(grey, draws(grey), 1, 0.3).std().item() - 0.3) < 0.005


def test_a_disk_of_radius_one_is_a_plus():
    blurred = blur.defocus_blur(point(), draws(point()), 1, 1, 0.01)[0, 0]
    expected = torch.zeros(15, 15)
    expected[[7, 7, 7, 6, 8], [7, 6, 8, 7, 7]] = 0.2
    assert torch.allclose(blurred, expected, atol=1e-6)
    flat = torch.full((1, 3, 20, 20), 0.3)
    assert torch.allclose(blur.defocus_blur(flat, draws(flat), 1, 9, 0.5), flat, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.4, 2.0, 40.0])
def test_smoothing_is_that_of_scipy(sigma):
    image = uniform(1, 1, 24, 24)
    expected = gaussian_filter(image[0, 0].double().numpy(), sigma, mode="reflect", truncate=3)
    assert np.allclose(smooth(image, sigma, truncate=3)[0, 0], expected, atol=1e-5)


def test_motion_smears_to_one_side_by_half_a_gaussian():
    smeared = streaked(point(), torch.tensor([0.0]), radius=6, sigma=1)[0, 0]
    weights = torch.tensor([math.exp(-(i**2) / 2) for i in range(5)])
    assert torch.allclose(smeared[7, 3:8].flip(0), weights / weights.sum(), atol=1e-6)
    assert smeared[7, 8:].sum() == 0 and abs(smeared.sum().item() - 1) < 1e-5
    turned = streaked(point(), torch.tensor([90.0]), radius=6, sigma=1)[0, 0]
    assert torch.allclose(turned, smeared.T, atol=1e-6)


def test_zooming_enlarges_the_middle():
    image = uniform(1, 3, 16, 16)
    assert torch.allclose(zoomed(image, 1), image, atol=1e-5)
    halves = torch.zeros(1, 1, 16, 16)
    halves[..., 6:10, 6:10] = 1
    assert zoomed(halves, 2)[0, 0, 5:11, 5:11].min() == 1 and zoomed(halves, 2).sum() == 4 * halves.sum()
    one = blur.zoom_blur(image, draws(image), 1, 1, 0.01)
    assert torch.allclose(one, image, atol=1e-5)


def test_glass_moves_colours_and_keeps_them():
    image = uniform(2, 3, 16, 16)
    moved = blur.glass_blur(image, draws(image), 1, 0.01, 1, 1)
    assert not torch.allclose(moved, image)
    for place in ((0, 4, 4), (1, 9, 12), (0, 1, 1)):  # each comes from one of the four pixels up and left
        sample, row, column = place
        near = image[sample, :, row - 1 : row + 1, column - 1 : column + 1].flatten(1)
        assert (near - moved[sample, :, row, column, None]).abs().sum(0).min() < 1e-5


def test_clouds_fill_their_range_and_are_rougher_where_less_decays():
    images = uniform(6, 3, 40, 40)
    rough, calm = (weather.plasma(draws(images), 40, decay) for decay in (1.4, 3.0))
    assert rough.shape == (6, 40, 40) and rough.min() >= 0 and rough.max() <= 1

    def steps(clouds):
        return clouds.diff(dim=2).abs().mean()

    assert steps(rough) > 2 * steps(calm)


def test_fog_keeps_the_brightest_value():
    image = torch.full((1, 3, 32, 32), 0.5)
    foggy = weather.fog(image, draws(image), 1, 1.0, 2.0)
    cloud = weather.plasma(draws(image), 32, 2.0)
    assert torch.allclose(foggy, ((0.5 + cloud) * 0.5 / 1.5).expand(1, 3, -1, -1), atol=1e-6)


def test_brightness_raises_the_value_of_hsv():
    colours = torch.tensor([[0.2, 0.4, 0.1], [0.0, 0.0, 0.0], [0.9, 0.3, 0.6]]).T.reshape(1, 3, 1, 3)
    raised = weather.brightness(colours, draws(colours), 1, 0.2)[0, :, 0].T
    # (0.2, 0.4, 0.1) has value 0.4, which becomes 0.6; black becomes grey; 0.9 + 0.2 is cut at 1.
    expected = torch.tensor([[0.3, 0.6, 0.15], [0.2, 0.2, 0.2], [1.0, 1 / 3, 2 / 3]])
    assert torch.allclose(raised, expected, atol=1e-5)


def test_frost_is_bluish_and_as_bright_as_the_published_photographs():
    ice = weather.ice(draws(uniform(12, 3, 32, 32)), 224)
    red, green, blue = ice.mean((0, 2, 3)).tolist()
    assert red < green < blue and 0.55 < green < 0.75  # of the first five of the authors' six: 0.48 to 0.81
    assert 0.08 < ice.std((2, 3)).mean() < 0.18
    small = weather.ice(draws(uniform(12, 3, 32, 32)), 32)
    assert small.shape == (12, 3, 32, 32) and abs(small.mean() - ice.mean()) < 0.08


def test_snow_whitens():
    image = torch.full((2, 3, 32, 32), 0.2)
    snowy = weather.snow(image, draws(image), 1, 0.1, 0.2, 1, 0.6, 8, 3, 0.9)
    # Without a flake: 0.9 · 0.2 + 0.1 · max(0.2, 1.5 · 0.2 + 0.5).
    assert abs(snowy.min().item() - 0.26) < 1e-5 and snowy.mean() > 0.26


def test_contrast_moves_channels_towards_their_means():
    image = uniform(1, 3, 8, 8)
    lower = digital.contrast(image, draws(image), 1, 0.25)
    assert torch.allclose(lower.mean((2, 3)), image.mean((2, 3)), atol=1e-6)
    assert torch.allclose(lower.std((2, 3)), 0.25 * image.std((2, 3)), atol=1e-6)


def test_elastic_without_shifts_is_an_affine_map():
    line = torch.linspace(0.3, 0.6, 33)
    image = (line[:, None] + line).expand(2, 3, -1, -1) / 2
    moved = digital.elastic(image, draws(image), 1, 0, 0, 0.05)[..., 8:-8, 8:-8]  # inside of what is mirrored
    assert not torch.allclose(moved, image[..., 8:-8, 8:-8], atol=1e-3)
    assert moved.diff(n=2, dim=2).abs().max() < 1e-5 and moved.diff(n=2, dim=3).abs().max() < 1e-5
    still = digital.elastic(image, draws(image), 1, 0, 0, 0)
    assert torch.allclose(still, image, atol=1e-5)


@pytest.mark.parametrize("share", [0.95, 0.65, 0.25])
def test_pixelating_is_that_of_pillow(share):
    image = uniform(1, 3, 32, 32)
    pixels = Image.fromarray((255 * image[0, 0]).round().byte().numpy()).convert("F")
    for side in (int(32 * share), 32):
        pixels = pixels.resize((side, side), Image.Resampling.BOX)
    coarse = digital.pixelate(image, draws(image), 1, share)[0, 0]
    assert np.allclose(255 * coarse.numpy(), np.asarray(pixels), atol=1e-2)


def test_jpeg_is_a_file_of_that_quality():
    image = uniform(1, 3, 32, 32)
    file = io.BytesIO()
    Image.fromarray((255 * image[0]).round().byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=40)
    expected = np.asarray(Image.open(file))
    assert np.array_equal((255 * digital.jpeg(image, draws(image), 1, 40)[0]).round().permute(1, 2, 0), expected)
