"""Curves, thinned."""

import numpy as np
import pandas as pd

from metalora.plots.curve_data import KINDS, accuracies, losses


def events(count):
    steps = np.arange(1, count + 1)
    validation = np.where(steps % 10 == 0, 0.5, np.nan)
    original = np.where(steps == 1, 0.3, np.nan)
    columns = {"loss": 1 / steps, "accuracy": steps / count, "validation": validation, "original": original}
    return pd.DataFrame({"step": steps, **columns})


def test_short_curves_are_kept_as_they_are():
    found = losses(events(20))
    assert found["step"].tolist() == list(range(1, 21)) and found["loss"].iloc[3] == 1 / 4
    both = accuracies(events(20))
    assert both[both["curve"] == KINDS["validation"]]["step"].tolist() == [10, 20]
    assert both["accuracy"].max() == 100
    level = both[both["curve"] == KINDS["original"]]
    assert level["step"].tolist() == [1, 20] and np.allclose(level["accuracy"], 30)


def test_long_curves_are_means_of_neighbours_and_keep_their_end():
    found = losses(events(1000), max_points=100)
    assert len(found) == 100 and found["step"].iloc[-1] == 1000
    assert np.isclose(found["loss"].iloc[0], np.mean(1 / np.arange(1, 11)))


def test_a_run_without_steps_has_empty_curves():
    assert len(losses(events(0))) == len(accuracies(events(0))) == 0
