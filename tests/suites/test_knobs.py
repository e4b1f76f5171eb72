"""Knobs: neutral ones do nothing, each does what its transform does, and tasks say which values they show."""

import pytest
import torch

from metalora.suites.knobs import KNOBS, shift, trained_values
from metalora.suites.task_lists import COMPOSITIONS, CORRUPTIONS, DIGITS, TEN_TRANSFORMS
from metalora.suites.transforms import Blur, Noise, Rotate, Turn
from metalora.util.errors import InputError


@pytest.fixture
def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_neutral_knobs_do_nothing(images):
    assert shift(images, {}) is images
    assert shift(images, {name: knob.neutral for name, knob in KNOBS.items()}) is images
    assert all(knob.neutral in knob.values for knob in KNOBS.values())


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, knob in KNOBS.items() for value in knob.values])
def test_every_value_gives_images(images, name, value):
    shifted = shift(images, {name: value})
    assert shifted.shape == images.shape and 0 <= shifted.min() <= shifted.max() <= 1
    assert torch.equal(shifted, images) == (value == KNOBS[name].neutral)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"channels": "gbr"}, lambda images: images[:, [1, 2, 0]]),
        ({"inversion": True}, lambda images: 1 - images),
        ({"noise": 0.1}, Noise(0.1)),
        ({"blur": 2.5}, Blur(0.025)),
        ({"contrast": 0.0}, lambda images: images.mean((1, 2, 3), keepdim=True).expand_as(images)),
        ({"noise": 0.1, "rotation": 90.0}, lambda images: Noise(0.1)(images.rot90(1, (2, 3)))),
    ],
)
def test_a_value_is_its_transform(images, settings, expected):
    torch.testing.assert_close(shift(images, settings), expected(images))


def test_a_turn_between_quarters_keeps_the_middle_and_fills_corners(images):
    rows = torch.arange(33.0) - 16
    radius = (rows[:, None] ** 2 + rows**2).sqrt()
    disc = torch.exp(-((radius / 8) ** 2)).expand(1, 3, -1, -1)  # the same from all sides
    turned = Turn(30)(disc)
    assert (turned - disc)[..., radius < 15].abs().max() < 0.01
    torch.testing.assert_close(turned[..., 0, 0], disc.mean((2, 3)))
    torch.testing.assert_close(Turn(180)(images), Rotate(2)(images))
    torch.testing.assert_close(Turn(90).inverse(Turn(90)(images)), images)
    with pytest.raises(InputError, match="loses"):
        _ = Turn(30).inverse


def test_tasks_say_which_values_they_show():
    assert trained_values(COMPOSITIONS) == {
        "rotation": [90, 180, 270],
        "channels": ["bgr", "brg", "gbr", "grb", "rbg"],
        "inversion": [True],
    }
    found = trained_values(CORRUPTIONS)
    assert set(found) == {"noise", "blur", "contrast", "pixelation"}
    assert found["noise"] == pytest.approx([0.05, 0.1, 0.15, 0.2]) and found["pixelation"] == [2, 3, 4, 5]
    assert found["contrast"] == [6.25, 12.5, 25, 50]
    assert set(trained_values(TEN_TRANSFORMS)) == set(KNOBS) - {"noise"}
    assert set(trained_values(DIGITS)) == {"rotation", "inversion"} and trained_values(None) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noize": 0.1}, "no knob 'noize': use"),
        ({"noise": 0.5}, "noise is 0.5: use a number from 0 to 0.3"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"noise": True}, "noise is True"),
        ({"blur": "2"}, "blur is '2'"),
        ({"channels": "rgba"}, "channels is 'rgba': use rgb"),
        ({"inversion": "yes"}, "inversion is 'yes'"),
    ],
)
def test_what_a_knob_cannot_do_is_a_sentence(images, settings, message):
    with pytest.raises(InputError, match=message):
        shift(images, settings)
