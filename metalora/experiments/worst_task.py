"""The worst task beside the mean, as the field reports the worst group.

ARM (Zhang et al. 2007.02931) and ICRM (Gupta et al. 2309.09888) take the accuracy of the group on which a trial is
worst, and average that over trials:

    worst = mean over seeds of min over tasks of accuracy

It is not the minimum of the tasks' means: each seed may be worst on another task, and may have tasks of its own.
"""

import pandas as pd

from metalora.experiments.statistics import compare_to_static

PLACE = ["method", "backbone", "task_split", "gallery", "k", "seed"]
UNTESTED = ["p_holm", "detectable", "star"]  # columns of a test that worst tasks take no part in


def worst_rows(rows: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the accuracy of their worst task in place of the mean; those without single tasks are left out.

    Args:
        rows: as in `statistics`, a row per method, backbone, suite, task split, gallery, k and seed.
        tasks: accuracies of single tasks, with the columns of `PLACE`.
    """
    if rows.empty or tasks.empty:
        return rows[:0]
    # A NaN accuracy is one of a training that failed: it must not vanish from a minimum.
    lowest = tasks.groupby(PLACE, sort=False)["accuracy"].agg(lambda found: found.min(skipna=False))
    return rows.drop(columns="accuracy").join(lowest, on=PLACE, how="inner")


def worst_gains(rows: pd.DataFrame, *, k: int, gallery: str) -> pd.DataFrame:
    """Compare generated methods with the best static row on the worst tasks, as `compare_to_static` does on the means.

    Intervals resample seeds. Nothing is starred: the family of the test is that of the means.

    Args:
        rows: as `worst_rows` returns them.
        k: of k-NN.
        gallery: "pooled" or "within".

    Raises:
        InputError: as `compare_to_static`.
    """
    return compare_to_static(rows, k=k, gallery=gallery).drop(columns=UNTESTED)
