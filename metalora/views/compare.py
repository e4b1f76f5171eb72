"""What the Compare tab shows of results."""

import pandas as pd
import plotly.graph_objects as go

from metalora.experiments.comparison import Comparison
from metalora.experiments.results import bundled_results, load_bundled
from metalora.experiments.studies import STUDIES
from metalora.experiments.variants import parse_variant
from metalora.plots.comparison import budget_scatter, task_heatmap
from metalora.plots.palette import Theme, notice, variant_style

NO_TASKS = "Accuracies of single tasks were not kept with these results: run rows of your own to see theirs."
NOTHING = "Nothing has run yet: the rows fill as trainings end."


def results_to_show() -> list[str]:
    """Return the names of the bundled results: comparisons, then parts of studies in the order of the studies."""
    parts = [f"{name}/{part}" for name, study in STUDIES.items() for part in study.parts]
    return sorted(bundled_results(), key=lambda name: parts.index(name) if name in parts else -1)


def scatter(comparison: Comparison, task_split: str, gallery: str, k: int, theme: Theme = "light") -> go.Figure:
    """Plot accuracy against budget, or return a figure that says why there is none."""
    if comparison.rows.empty:
        return notice(NOTHING, theme)
    return budget_scatter(comparison.summary, task_split=task_split, gallery=gallery, k=k, theme=theme)


def heatmap(
    comparison: Comparison, backbone: str, task_split: str, gallery: str, k: int, theme: Theme = "light"
) -> tuple[go.Figure | None, str]:
    """Plot the accuracy of every row on every task; also say what is left out, or why there is no figure (None).

    Rows of bundled results may lack single tasks although they ran: those are left out, since "not run" would be wrong.
    """
    tasks = comparison.tasks
    if tasks.empty:
        return None, NOTHING if comparison.rows.empty else NO_TASKS
    if backbone not in comparison.config.backbones:
        return None, f"{backbone} is not among these results: choose another backbone of the tasks."
    ran, kept = (_methods(frame, backbone, gallery, k) for frame in (comparison.rows, tasks))
    if not kept and ran:
        places = tasks[["gallery", "k"]].drop_duplicates().itertuples(index=False)
        kept_for = " and ".join(f"the {gallery} gallery at K = {k}" for gallery, k in places)
        return None, f"Accuracies of single tasks were kept for {kept_for} only: choose that."
    if not kept:
        return None, NOTHING
    names = list(map(str, comparison.config.variants))
    left_out = [name for name in names if name in ran - kept]
    figure = task_heatmap(
        tasks,
        backbone=backbone,
        task_split=task_split,
        gallery=gallery,
        k=k,
        methods=[name for name in names if name not in left_out],
        theme=theme,
    )
    return figure, f"Left out, since their single tasks were not kept: {', '.join(left_out)}." if left_out else ""


def _methods(frame: pd.DataFrame, backbone: str, gallery: str, k: int) -> set[str]:
    chosen = (frame["backbone"] == backbone) & (frame["gallery"] == gallery) & (frame["k"] == k)
    return set(frame.loc[chosen, "method"])


def marks(comparison: Comparison) -> dict[str, str]:
    """Return the colour of every row, "#rrggbb" by its name."""
    return {name: variant_style(name).colour for name in map(str, comparison.config.variants)}


def title(name: str) -> str:
    """Describe a bundled result for a menu; of a study its name comes first, for narrow menus."""
    config = load_bundled(name).config
    suite = config.suite.name.rpartition("/")[2]
    seeds = f"{config.seeds} seed{'s' if config.seeds > 1 else ''}"
    size = f"{len(config.variants)} rows, {seeds}, {config.training.steps} steps"
    if "/" not in name:
        return f"{suite}: {size} (bundled)"
    unseen = f" ({', '.join(config.suite.hold_out)} unseen)" if config.suite.hold_out else ""
    return f"{name}: {suite}{unseen} on {', '.join(config.backbones)}, {size}"


def label(name: str) -> str:
    """Describe a row for a menu: its title and its name."""
    return f"{parse_variant(name).title} ({name})"
