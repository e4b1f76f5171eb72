"""Pictures on disk, and what every suite has to keep apart."""

from itertools import combinations

import numpy as np
import torch
from PIL import Image


def write_pictures(folder, count, seed=0):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number:03d}.png")


def assert_disjoint(suite):
    """No source picture serves two purposes, in whatever tasks."""
    together = [("train",), ("validation",), ("seen gallery", "unseen gallery"), ("seen query", "unseen query")]
    rows = {side: set(examples.index.tolist()) for side, examples in suite.sides.items()}
    groups = [set().union(*(rows.get(side, set()) for side in sides)) for sides in together]
    assert all(groups)
    assert all(not a & b for a, b in combinations(groups, 2))


def assert_same(one, other):
    assert one.names == other.names and one.sides.keys() == other.sides.keys()
    for side, examples in one.sides.items():
        for field in ("index", "tasks", "labels"):
            assert torch.equal(getattr(examples, field), getattr(other.sides[side], field))
