"""Names of clusters on a plane."""

import numpy as np
import pandas as pd

from metalora.plots.scatter import cluster_labels


def test_clusters_are_named_at_their_middle_and_scattered_values_are_not():
    rng = np.random.default_rng(0)
    around = [(0, 0), (10, 0), (0, 10)]
    plane = np.concatenate([rng.normal(centre, 0.5, (20, 2)) for centre in around])
    points = pd.DataFrame(plane, columns=["x", "y"]).assign(label=["cat"] * 20 + ["dog"] * 20 + ["cat"] * 20)
    points["task"] = ["a", "b", "c", "d"] * 15
    labels = cluster_labels(points)
    assert sorted(label["text"] for label in labels) == ["cat", "cat", "dog"]
    for label in labels:
        nearest = min(np.hypot(*(plane[label["row"]] - centre)) for centre in around)
        assert nearest < 0.6 and points["label"][label["row"]] == label["text"]
    assert cluster_labels(points, "task") == cluster_labels(points.assign(correct=True), "correct") == []
