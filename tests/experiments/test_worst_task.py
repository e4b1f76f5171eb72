"""The worst task: every number by hand."""

import math

import pandas as pd
import pytest

from metalora.experiments.worst_task import worst_gains, worst_rows

BASE = {"backbone": "net", "suite": "s", "task_split": "unseen", "gallery": "pooled", "k": 5, "validation": 0.5}
# Accuracies of tasks a and b, by method and seed; each seed has its own worst one.
ACCURACIES = {"lora": [(0.5, 0.9), (0.8, 0.4)], "tr": [(0.7, 0.6), (0.9, 0.6)]}


@pytest.fixture
def frames():
    rows, tasks = [], []
    for method, seeds in ACCURACIES.items():
        for seed, pair in enumerate(seeds):
            where = {**BASE, "method": method, "seed": seed}
            kinds = {"generated": method == "tr", "static": method == "lora"}
            rows.append({**where, **kinds, "accuracy": sum(pair) / 2})
            tasks += [{**where, "task": task, "accuracy": one} for task, one in zip("ab", pair, strict=True)]
    return pd.DataFrame(rows), pd.DataFrame(tasks).drop(columns=["suite", "validation"])


def test_every_seed_has_its_own_worst_task(frames):
    found = worst_rows(*frames).set_index(["method", "seed"])["accuracy"]
    assert found.to_dict() == {("lora", 0): 0.5, ("lora", 1): 0.4, ("tr", 0): 0.6, ("tr", 1): 0.6}
    assert found["lora"].mean() == pytest.approx(0.45)  # and not 0.65, the lowest mean of a task


def test_gains_on_worst_tasks_are_paired_by_seed(frames):
    (gain,) = worst_gains(worst_rows(*frames), k=5, gallery="pooled").to_dict("records")
    assert (gain["method"], gain["against"], gain["n_seeds"]) == ("tr", "lora", 2)
    assert gain["gain"] == pytest.approx(0.15)
    assert gain["low"] == pytest.approx(0.1) and gain["high"] == pytest.approx(0.2)
    assert "star" not in gain


def test_rows_without_single_tasks_are_left_out_and_failures_are_not(frames):
    rows, tasks = frames
    assert set(worst_rows(rows, tasks[tasks["method"] == "tr"])["method"]) == {"tr"}
    assert worst_rows(rows, tasks[:0]).empty and worst_rows(rows[:0], tasks).empty
    tasks.loc[0, "accuracy"] = math.nan
    assert math.isnan(worst_rows(rows, tasks).set_index(["method", "seed"])["accuracy"]["lora", 0])
