"""UMAP in a process of its own: the same points, the same messages, and an end for what takes too long."""

import time

import numpy as np
import pytest
import torch

from metalora.inspection import projection_process
from metalora.inspection.projection import align, project
from metalora.inspection.projection_process import align_apart, project_apart
from metalora.util.errors import InputError

FEATURES = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))


def test_the_points_are_those_of_this_process():
    np.testing.assert_array_equal(
        project_apart(FEATURES, neighbours=5, seed=3), project(FEATURES, neighbours=5, seed=3)
    )
    pair = [FEATURES, FEATURES.flip(1).bfloat16()]
    for apart, here in zip(align_apart(pair, neighbours=5), align(pair, neighbours=5), strict=True):
        np.testing.assert_array_equal(apart, here)


def test_errors_arrive_as_sentences():
    with pytest.raises(InputError, match="shows nothing"):
        project_apart(FEATURES[:3])
    with pytest.raises(InputError, match="neighbours is 40"):
        project_apart(FEATURES, neighbours=40)
    with pytest.raises(InputError, match="Unknown projection"):
        project_apart(FEATURES, "tsne")


def test_what_takes_too_long_is_stopped_and_the_next_call_works(monkeypatch):
    monkeypatch.setattr(projection_process, "LIMIT", 0.01)
    with pytest.raises(InputError, match=r"stopped after 0\.01 seconds"):
        projection_process._call(time.sleep, 60)
    monkeypatch.setattr(projection_process, "LIMIT", 300)
    assert project_apart(FEATURES, neighbours=5).shape == (30, 2)
