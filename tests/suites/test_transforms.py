"""Shifts: the tasks that are made of one set of images, and which of them stay unseen."""

import pickle
from itertools import product

import pytest
import torch

from metalora.suites.task_lists import COMPOSITIONS, CORRUPTIONS, DIGITS, ROTATED, ROTATED_DIGITS, TEN_TRANSFORMS
from metalora.suites.transforms import Turn
from metalora.util.seeding import seeded_generator


@pytest.mark.parametrize(
    "tasks",
    [DIGITS, TEN_TRANSFORMS, COMPOSITIONS, CORRUPTIONS, ROTATED, ROTATED_DIGITS],
    ids=["digits", "ten", "compositions", "corruptions", "rotated", "rotated-digits"],
)
def test_shifts_are_distinct_pure_and_keep_shape_and_range(tasks):
    images = torch.rand(3, 3, 32, 32, generator=seeded_generator(0))
    before = images.clone()
    seen = []
    for transform in tasks.transforms:
        shifted = transform(images)
        assert shifted.shape == images.shape and shifted.min() >= 0 and shifted.max() <= 1
        assert torch.allclose(transform(images[1:2]), shifted[1:2], atol=1e-6)  # image by image
        assert torch.equal(images, before)
        assert all((shifted - other).abs().max() > 0.03 for other in seen)
        seen.append(shifted)
    assert len(set(tasks.names)) == len(tasks.names) and set(tasks.unseen) < set(tasks.names)
    pickle.loads(pickle.dumps(tasks))


def test_rotation_turns_counter_clockwise():
    image = torch.zeros(1, 3, 4, 4)
    image[..., 0, 3] = 1  # upper right
    turned = TEN_TRANSFORMS.transforms[TEN_TRANSFORMS.names.index("rotate-90")](image)
    assert turned[0, :, 0, 0].eq(1).all() and turned.sum() == 3


def test_uncovered_corners_are_of_the_mean_colour_or_black():
    image = torch.full((1, 3, 9, 9), 0.5)
    image[..., 3:6, 3:6] = 1
    corner = [Turn(40, fill)(image)[..., 0, 0].unique() for fill in (None, 0.0)]
    assert torch.allclose(corner[0], image.mean()) and corner[1].tolist() == [0]
    assert torch.equal(Turn(-90, 0.0).inverse(Turn(-90, 0.0)(image)), image)


def shape_of(images):
    """What is left when colour, contrast and its sign are taken away."""
    grey = images.mean(1).flatten(1)
    grey = grey - grey.mean(1, keepdim=True)
    return grey / grey.norm(dim=1, keepdim=True)


def test_no_two_digit_tasks_differ_by_a_half_turn_or_a_mirror_image():
    grey = torch.rand(4, 1, 8, 8, generator=seeded_generator(0)).repeat(1, 3, 1, 1)
    turned = torch.rot90(grey, 2, (2, 3))
    mirrored = [torch.rot90(grey.flip(3), quarters, (2, 3)) for quarters in range(4)]
    for one, other in product(DIGITS.transforms, DIGITS.transforms):
        for confused in (turned, *mirrored):
            assert (shape_of(one(confused)) * shape_of(other(grey))).sum(1).abs().max() < 0.9
    assert len(DIGITS.transforms) == 12 and len(DIGITS.unseen) == 3


@pytest.mark.parametrize("tasks, seen", [(DIGITS, 9), (COMPOSITIONS, 32)], ids=["digits", "compositions"])
def test_unseen_compositions_hold_only_seen_factor_values(tasks, seen):
    def values(unseen):
        rows = [transform.factors for transform in tasks.transforms if (transform.name in tasks.unseen) == unseen]
        return [set(column) for column in zip(*rows, strict=True)]

    assert all(new <= known for new, known in zip(values(True), values(False), strict=True))
    assert len(tasks.transforms) - len(tasks.unseen) == seen
