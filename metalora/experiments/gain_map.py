"""The map: gains of generated adapters over LoRA of equal total budget, with one setting varied at a time."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from metalora.experiments.comparison import Comparison
from metalora.experiments.statistics import compare_to_static
from metalora.experiments.variants import parse_variant

AGAINST = "lora-equal-budget"
CENTRE = "steps-1200"
LINES = ("1", "8", "all")  # sizes of sets that have a line on the axes of other settings
SIZES = "images of a set"
AXES: dict[str, dict[str, Any]] = {
    "parameters": {"budget-10k": None, "budget-20k": None, CENTRE: None, "budget-80k": None},
    "tasks": {"tasks-2": 2, "tasks-8": 8, CENTRE: 32},
    "steps": {"steps-600": 600, CENTRE: 1200, "steps-2400": 2400},
}


def gain_map(parts: Mapping[str, Comparison]) -> pd.DataFrame:
    """Return the gains of the study "map", a row per axis, value, set size and task split.

    Args:
        parts: the study's comparisons that ran, by name; "budget-80k" is the first part of the primary study.

    Returns:
        Columns axis ("parameters", "tasks", "steps" or `SIZES`), value (of that setting; for sets a text), set_size,
        task_split, gain (0 to 1), low, high (95 % bootstrap interval), n_seeds.
    """
    rows = []
    for axis, values in AXES.items():
        for part, value in values.items():
            if part in parts:
                gains = _gains(parts[part], LINES)
                rows.append(gains.assign(axis=axis, value=value or _parameters(parts[part])))
    if CENTRE in parts:
        gains = _gains(parts[CENTRE])
        rows.append(gains.assign(axis=SIZES, value=gains["set_size"]))
    columns = ["axis", "value", "set_size", "task_split", "gain", "low", "high", "n_seeds"]
    return pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)


def _gains(comparison: Comparison, sizes: tuple[str, ...] | None = None) -> pd.DataFrame:
    k, tasks = comparison.config.ks[0], comparison.tasks
    if len(tasks):
        tasks = tasks[(tasks["task_split"] == "unseen") & (tasks["k"] == k) & (tasks["gallery"] == comparison.primary)]
    settings: dict[str, Any] = {
        "k": k,
        "gallery": comparison.primary,
        "against": AGAINST,
        "tasks": tasks if len(tasks) else None,
    }
    gains = compare_to_static(comparison.rows, **settings)
    variants = [parse_variant(name) for name in gains["method"]]
    gains = gains.assign(
        set_size=["all" if variant.set_size is None else str(variant.set_size) for variant in variants]
    )
    # The primary study has rows of latent codes too.
    gains = gains[[variant.factor_code for variant in variants]]
    return gains if sizes is None else gains[gains["set_size"].isin(sizes)]


def _parameters(comparison: Comparison) -> int:
    """Return the total parameters of the generated rows."""
    row = comparison.rows[comparison.rows["generated"].eq(True)].iloc[0]
    return int(row["static_parameters"] + row["generator_parameters"])
