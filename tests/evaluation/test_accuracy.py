"""k-NN accuracy on the galleries of a suite."""

import pytest
import torch
from suite_checks import write_images

from metalora.evaluation.accuracy import check_galleries, validation_accuracy
from metalora.suites.load import load_suite
from metalora.util.errors import InputError


def test_validation_makes_do_with_the_smallest_gallery_of_a_task(tmp_path):
    for seed, path in enumerate(("photo/cat", "photo/dog", "toy/cat", "toy/bird")):
        write_images(tmp_path / path, 10, seed)
    suite = load_suite(f"folder:{tmp_path}")
    assert suite.primary == "within" and not check_galleries(suite, [1])

    def by_class(split):
        return torch.eye(len(suite.classes))[suite.splits[split].labels]

    assert validation_accuracy(suite, by_class) == pytest.approx(1)  # of 4 images, 2 of either class


def test_k_that_a_gallery_cannot_serve_is_refused_before_anything_runs():
    suite = load_suite("digits", image_size=8)
    with pytest.raises(InputError, match="K = 5000 is larger than the gallery of task"):
        check_galleries(suite, [5, 5000])
    with pytest.raises(InputError, match="K is 0"):
        check_galleries(suite, [0])
