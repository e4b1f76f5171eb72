"""Pictures on disk, and what every suite has to keep apart."""

from itertools import combinations

import numpy as np
import torch
from PIL import Image


def write_images(folder, count, seed=0):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number:03d}.png")


def assert_disjoint(suite):
    """No source picture serves two purposes, in whatever tasks."""
    together = [("train",), ("validation",), ("seen gallery", "unseen gallery"), ("seen query", "unseen query")]
    rows = {split: set(examples.index.tolist()) for split, examples in suite.splits.items()}
    groups = [set().union(*(rows.get(split, set()) for split in splits)) for splits in together]
    assert all(groups)
    assert all(not a & b for a, b in combinations(groups, 2))


def assert_same(one, other):
    assert one.names == other.names and one.splits.keys() == other.splits.keys()
    for split, examples in one.splits.items():
        for field in ("index", "tasks", "labels"):
            assert torch.equal(getattr(examples, field), getattr(other.splits[split], field))
