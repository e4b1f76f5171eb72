"""Sentences on what a comparison found."""

import pandas as pd

from metalora.experiments.comparison import Comparison
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.findings import findings

EMPTY = pd.DataFrame()


def comparison(accuracies, best_steps=None, steps=80):
    rows = [
        {
            "method": method,
            "backbone": "resnet20",
            "suite": "digits",
            "seed": 0,
            "task_split": task_split,
            "gallery": gallery,
            "k": k,
            "accuracy": value - (0.3 if (gallery, k) != ("pooled", 5) else 0),
            "generated": False,
            "static": True,
            "steps": steps,
            "static_parameters": 1,
            "generator_parameters": 0,
            "generator_flops": 0,
            "ms_per_step": 1.0,
            **({} if best_steps is None else {"best_step": best_steps.get(method)}),
        }
        for method, values in accuracies.items()
        for task_split, value in values.items()
        for gallery in ("pooled", "within")
        for k in (5, 10)
    ]
    config = ComparisonConfig(methods=tuple(accuracies))
    return Comparison(config, pd.DataFrame(rows), EMPTY, EMPTY, EMPTY, "pooled")


def test_rows_that_beat_the_original_are_named_and_counted():
    said = findings(
        comparison(
            {
                "original": {"seen": 0.534, "unseen": 0.679},
                "lora": {"seen": 0.6, "unseen": 0.6},
                "metalora-tr": {"seen": 0.7, "unseen": 0.62},
            }
        )
    )
    assert said[0] == (
        "All 2 rows beat the original network (53.4 %) on seen tasks with resnet20, K = 5: "
        "best is metalora-tr with 70.0 %."
    )
    assert said[1].startswith("No row beats the original network (67.9 %) on unseen tasks")


def test_a_row_that_prints_the_same_number_does_not_beat_the_original():
    accuracies = {"original": {"seen": 0.5}, "lora": {"seen": 0.5004}, "multi-lora": {"seen": 0.51}}
    (said,) = findings(comparison(accuracies))
    assert said.startswith("1 of 2 rows beat") and said.endswith("best is multi-lora with 51.0 %; not lora.")


def test_validation_that_rises_to_the_end_asks_for_more_steps():
    accuracies = {"original": {"seen": 0.5}, "lora": {"seen": 0.6}, "metalora-cp": {"seen": 0.6}}
    said = findings(comparison(accuracies, {"lora": 80, "metalora-cp": 60}))
    assert said[1] == "Validation was still rising at the end for lora: try --steps 160."
    assert len(said) == 2


def test_a_training_that_only_harmed_is_said_to_change_nothing():
    said = findings(comparison({"original": {"seen": 0.5}, "lora": {"seen": 0.5}}, {"lora": 0}))
    assert said[-1].endswith("changes nothing: lora on resnet20.")
