"""What a comparison found, in sentences computed from its rows."""

import pandas as pd

from metalora.experiments.comparison import Comparison
from metalora.training.plan import LATE

ORIGINAL = "original"


def findings(comparison: Comparison) -> list[str]:
    """Say which rows beat the original network, and whether more steps would help.

    Args:
        comparison: its rows on the primary gallery, at the first K, are compared.
    """
    place = {"gallery": comparison.primary, "k": comparison.config.ks[0]}
    rows = comparison.summary
    rows = rows[(rows[list(place)] == pd.Series(place)).all(axis=1)]
    sentences = []
    for (backbone, task_split), group in rows.groupby(["backbone", "task_split"], sort=False):
        means = group.set_index("method")["mean"]
        if ORIGINAL in means and len(means) > 1:
            where = f"{task_split} tasks with {backbone}, K = {place['k']}"
            sentences.append(_against_original(means.drop(ORIGINAL), means[ORIGINAL], where))
    return [*sentences, *_more_steps(comparison)]


def _against_original(means: pd.Series, original: float, where: str) -> str:
    """Say which rows are above the original network and which are not."""
    shown = (100 * means).round(1)
    better = shown[shown > round(100 * original, 1)]
    base = f"the original network ({100 * original:.1f} %) on {where}"
    if better.empty:
        return f"No row beats {base}."
    best = f"best is {better.idxmax()} with {better.max():.1f} %"
    if len(better) == len(shown):
        return f"All {len(shown)} rows beat {base}: {best}."
    others = ", ".join(shown.index.difference(better.index, sort=False))
    return f"{len(better)} of {len(shown)} rows beat {base}: {best}; not {others}."


def _more_steps(comparison: Comparison) -> list[str]:
    """Say which trainings ended with validation still rising, and which did not rise above where they began."""
    if "best_step" not in comparison.rows:
        return []
    trained = comparison.rows.dropna(subset=["best_step"]).drop_duplicates(["method", "backbone", "seed"])
    rising = trained[trained["best_step"] >= LATE * trained["steps"]]
    never = trained[trained["best_step"] == 0]
    sentences = []
    if len(rising):
        steps = int(trained["steps"].max())
        names = ", ".join(rising["method"].unique())
        sentences.append(f"Validation was still rising at the end for {names}: try --steps {2 * steps}.")
    if len(never):
        names = ", ".join(f"{row.method} on {row.backbone}" for row in never.itertuples())
        sentences.append(
            "Validation did not rise above its start by more than its standard error, so the adapter changes nothing: "
            f"{names}."
        )
    return sentences
