"""Accuracy against the number of images of a set: trainings that are used with sets of several sizes.

The protocol of ARM and ICRM, which report average and worst group at several sizes of the context. Size 0 reads no
image. Size k are k images that are known to come from one task, the one that is embedded included; ICRM counts the
others only.
"""

from dataclasses import replace

import pandas as pd

from metalora.experiments.comparison import Comparison
from metalora.experiments.table import NOT_RUN, SPLITS, Cell, Table, format_percent
from metalora.experiments.variants import Variant

COLUMNS = ["backbone", "row", "set_size", "task_split", "mean", "std", "n_seeds"]
ALL = "all"  # images of the task
IN_SETS = " (trained with sets)"  # after the name of such a training


def context_rows(comparison: Comparison, *, worst: bool = False) -> pd.DataFrame:
    """Return accuracies by the size of the sets, at the first K of the primary gallery.

    Args:
        comparison: the results.
        worst: of the worst task, in place of the mean.

    Returns:
        The columns of `COLUMNS`: row is a training by the name of its variant without sets, set_size the text of a
        number, "all", or "" for rows that make nothing of sets.
    """
    if comparison.rows.empty or (worst and comparison.worst.empty):
        return pd.DataFrame(columns=COLUMNS)
    found = comparison.worst_summary if worst else comparison.summary
    found = found[(found["gallery"] == comparison.primary) & (found["k"] == comparison.config.ks[0])]
    variants = {str(variant): variant for variant in comparison.config.variants if _has_place(variant)}
    found = found[found["method"].isin(variants)]
    sizes = [_size(variants[name]) for name in found["method"]]
    rows = [_training(variants[name]) for name in found["method"]]
    return found.assign(row=rows, set_size=sizes)[COLUMNS].reset_index(drop=True)


def has_contexts(comparison: Comparison) -> bool:
    """Whether a training was used with sets of three sizes or more."""
    trained = [_training(variant) for variant in comparison.config.variants if _has_place(variant) and _size(variant)]
    return any(trained.count(name) > 2 for name in trained)


def context_table(comparison: Comparison, backbone: str, *, worst: bool = False) -> Table:
    """Return the table of one backbone: a row per training, a column per size of the sets, seen / unseen tasks."""
    rows = context_rows(comparison, worst=worst)
    rows = rows[rows["backbone"] == backbone]
    means = rows.set_index(["row", "set_size", "task_split"])["mean"]
    sizes = sorted_sizes(rows["set_size"])
    table = []
    for name in dict.fromkeys(rows["row"]):
        table.append([Cell(name), *(Cell(_pair(means, name, size)) for size in sizes)])
    what = "worst task" if worst else "mean over tasks"
    note = (
        f"k-NN accuracy in % on seen / unseen tasks with {backbone}, {what}, by the images of a set at use; 0: no "
        "image is read. Rows without sets stand under one image."
    )
    return Table([("", "training"), *((backbone, size) for size in sizes)], table, [note])


def sorted_sizes(sizes: pd.Series) -> list[str]:
    """Return sizes of sets in ascending order; rows that make nothing of sets have single images."""
    found = {size or "1" for size in sizes}
    return sorted(found, key=lambda size: float("inf") if size == ALL else int(size))


def _pair(means: pd.Series, name: str, size: str) -> str:
    keys = [(name, size)] + ([(name, "")] if size == "1" else [])
    for key in keys:
        values = [means[(*key, split)] for split in SPLITS if (*key, split) in means.index]
        if values:
            return " / ".join(format_percent(value) for value in values)
    return NOT_RUN


def _has_place(variant: Variant) -> bool:
    """Whether a row is a training at a size of sets, or makes nothing of sets."""
    if variant.control in ("shuffled", "oracle") or variant.set_use is not None:
        return False
    return variant.has_mapping_net or variant.has_context or variant.set_size == 1


def _size(variant: Variant) -> str:
    if not (variant.has_mapping_net or variant.has_context):
        return ""
    return ALL if variant.set_size is None else str(variant.set_size)


def _training(variant: Variant) -> str:
    """Return the name of a training: rows that were trained with single images are told from those with sets."""
    alone = replace(variant, set_size=1, in_sets=False)
    return f"{alone}{IN_SETS}" if variant.training.in_sets else str(alone)
