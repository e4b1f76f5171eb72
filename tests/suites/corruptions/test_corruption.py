"""The fifteen corruptions: chance of each image's own, severities that grow, values worked out by hand."""

import pickle
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import interpolate

from metalora.suites.corruptions.corruption import BETWEEN, KINDS, SEVERITIES, Corruption
from metalora.suites.task_lists import FIFTEEN
from metalora.util.seeding import seeded_generator

RANDOM = {
    "gaussian-noise",
    "shot-noise",
    "impulse-noise",
    "glass-blur",
    "motion-blur",
    "snow",
    "frost",
    "fog",
    "elastic",
}


def photographs(count, size, seed=0):
    """Return images of eight bits with smooth colours, an edge and a fine texture."""
    coarse = torch.rand(count, 3, 5, 5, generator=seeded_generator(seed))
    images = interpolate(coarse, size=(size, size), mode="bilinear")
    images[:, :, size // 4 : size // 2, size // 4 : size // 2] = 0.9
    texture = torch.rand(count, 3, size, size, generator=seeded_generator(seed, 1)) - 0.5
    return (255 * (images + 0.15 * texture).clamp(0, 1)).round() / 255


@pytest.mark.parametrize("size", [8, 32, 96])
@pytest.mark.parametrize("kind", KINDS)
def test_every_image_is_corrupted_by_itself_and_always_alike(kind, size):
    images = photographs(3, size)
    before = images.clone()
    for severity in (1, 5):
        corruption = Corruption(kind, severity)
        result = corruption(images)
        assert result.shape == images.shape and result.min() >= 0 and result.max() <= 1
        assert torch.equal(images, before) and torch.equal(result, corruption(images))
        assert torch.allclose(corruption(images[1:2]), result[1:2], atol=1e-6)
        assert torch.allclose(corruption(images.flip(0)).flip(0), result, atol=1e-6)


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("kind", KINDS)
def test_corruptions_grow_with_their_severity(kind, size):
    images = photographs(1 if size == 224 else 12, size)
    errors = [(Corruption(kind, severity)(images) - images).square().mean().item() for severity in SEVERITIES]
    assert min(errors) > 0
    # As published, the affine part of elastic transforms shrinks; fog, frost and snow differ in kind, and glass and
    # boxes in where colours move.
    if kind not in ("fog", "frost", "elastic", "glass-blur", "snow", "pixelate"):
        assert errors == sorted(errors) and errors[-1] > 1.2 * errors[0]


@pytest.mark.parametrize("kind", sorted(RANDOM))
def test_chance_differs_between_images_and_between_severities(kind):
    # The same picture but for one pixel, so that whatever else differs is chance.
    four = photographs(1, 32).repeat(4, 1, 1, 1)
    for number in range(1, 4):
        four[number, :, 0, number] = 1 - four[number, :, 0, number]
    result = Corruption(kind, 4)(four)[..., 8:, 8:]
    assert (result[0] - result[1:]).abs().max() > 0.02
    one, other = (Corruption("gaussian-noise", severity)(four[:1]) - four[:1] for severity in (4, 5))
    assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].abs() < 0.1


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - RANDOM))
def test_other_corruptions_have_no_chance(kind):
    pair = photographs(1, 32).repeat(2, 1, 1, 1)
    pair[1, :, 31, 31] = 1 - pair[1, :, 31, 31]
    result = Corruption(kind, 3)(pair)[..., :16, :16]
    assert torch.allclose(result[0], result[1], atol=0.02)


def test_the_published_values_are_those_of_the_nearer_size():
    images = torch.full((2, 3, 32, 32), 0.5)
    small, large = (Corruption("gaussian-noise", 1)(x) for x in (images, torch.full((2, 3, 224, 224), 0.5)))
    assert abs(small.std().item() - 0.04) < 0.002 and abs(large.std().item() - 0.08) < 0.001
    assert 84 < BETWEEN < 85
    assert Corruption("gaussian-noise", 1)(torch.full((1, 3, 84, 84), 0.5)).std() < 0.05
    assert Corruption("gaussian-noise", 1)(torch.full((1, 3, 85, 85), 0.5)).std() > 0.07


def test_tasks_hold_out_the_last_kind_of_every_family():
    assert len(FIFTEEN.names) == 75 and len(FIFTEEN.unseen) == 20
    assert {name.split("+")[0] for name in FIFTEEN.unseen} == {"impulse-noise", "zoom-blur", "brightness", "jpeg"}
    assert [len(values) for values in FIFTEEN.factors] == [15, 5]
    assert pickle.loads(pickle.dumps(FIFTEEN)) == FIFTEEN


def test_names_of_tasks_are_known_without_torch():
    code = (
        "import sys; from metalora.suites.registry import SUITES;"
        "print(len(SUITES['corruptions:'].tasks.names), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["75", "False"], done.stderr


def test_no_image_stays_none():
    assert Corruption("frost", 1)(torch.empty(0, 3, 8, 8)).shape == (0, 3, 8, 8)
