"""Build a readable table from summaries and gains: cells of text with a bold flag, and notes below.

`table_writers` writes it in several formats. The number formats are public, for all that shows numbers.
"""

import functools
import math
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import pandas as pd

from metalora.evaluation.config import LINEAR_HEAD
from metalora.experiments.statistics import SEEDS_FOR_A_STAR, SEEDS_ONLY
from metalora.util.errors import InputError

NOT_RUN, NOT_MEASURED, NOT_APPLICABLE = "not run", "not measured", "not applicable"
SPLITS = ("seen", "unseen")
WORST = "worst task"


@dataclass(frozen=True)
class Cell:
    """One entry of a table."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """Headings (backbone, what it shows), rows of as many cells, and sentences below.

    The first column is the method, under the backbone "".
    """

    columns: list[tuple[str, str]]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)

    @property
    def header(self) -> list[str]:
        """Headings in one line each, such as "resnet20 seen K=5"."""
        return [" ".join(part for part in column if part) for column in self.columns]


def format_count(n: float) -> str:
    """Return a count in short: 999, "12.3 k", "1.2 M", G, T; "not applicable" for NaN."""
    if math.isnan(n):
        return NOT_APPLICABLE
    for unit in ("", " k", " M", " G", " T"):
        digits = 1 if unit else 0
        # Compare what will be printed, so that 999,960 is 1.0 M and not 1000.0 k.
        if round(abs(n), digits) < 1000 or unit == " T":
            break
        n /= 1000
    return f"{n:.{digits}f}{unit}"


def format_percent(fraction: float, spread: float = math.nan) -> str:
    """Return a fraction as per cent with one decimal, "63.2" or "63.2 ± 1.4", the sign left to the heading.

    "not applicable" for NaN.
    """
    if math.isnan(fraction):
        return NOT_APPLICABLE
    return f"{100 * fraction:.1f}" if math.isnan(spread) else f"{100 * fraction:.1f} ± {100 * spread:.1f}"


def format_time(ms: float) -> str:
    """Format milliseconds with two significant figures, without exponent, the unit left to the heading.

    "not applicable" for NaN.
    """
    if math.isnan(ms):
        return NOT_APPLICABLE
    ms = float(f"{ms:.1e}")
    digits = max(0, 1 - math.floor(math.log10(abs(ms)))) if ms else 0
    return f"{ms:.{digits}f}"


# Column of the summary → heading and format; a column that the summary lacks is left out.
BUDGETS = {
    "static_parameters": ("static", format_count),
    "generator_parameters": ("generator", format_count),
    "generator_flops": ("generator FLOPs", format_count),
    "ms_per_step": ("ms/step", format_time),
}


def build_table(
    summary: pd.DataFrame,
    comparison: pd.DataFrame | None = None,
    methods: Sequence[str] | None = None,
    *,
    gallery: str = "pooled",
    backbones: Sequence[str] | None = None,
    ks: Sequence[int] | None = None,
    footnotes: Sequence[str] = (),
    ceilings: Container[str] = (),
    worst: pd.DataFrame | None = None,
    heads: Container[str] | None = None,
) -> Table:
    """Return the table of one suite and gallery: a row per method, columns backbone × split × K, then budgets.

    Between them stand the worst tasks and the accuracies of the linear head, where they were measured.

    Args:
        summary: from `summarise`, with any of the columns in `BUDGETS`.
        comparison: from `compare_to_static`, for the stars.
        methods: the rows, in this order; None: those of the summary.
        gallery: "pooled" or "within".
        backbones: None: those of the summary. Others have columns that say "not run".
        ks: of columns for both splits, run or not; None: those of the summary.
        footnotes: sentences to add below, for instance what rows with sets assume.
        ceilings: methods that are told the answer, which are never the best of a column.
        worst: from `summarise` of `worst_task.worst_rows`, of this gallery.
        heads: methods that have a linear head, whose accuracies the summary may hold; None: no columns for them.

    Raises:
        InputError: the summary has more than one suite, or no row of this gallery while `backbones` or `ks` is None.
    """
    here = summary[summary["gallery"] == gallery]
    planned = backbones is not None and ks is not None
    if here["suite"].nunique() != 1 and not (planned and here.empty):
        suites = ", ".join(map(str, here["suite"].unique())) or "none"
        raise InputError(f"A table shows one suite on one gallery; the {gallery} gallery has: {suites}.")
    methods = list(here["method"].unique()) if methods is None else list(methods)
    columns = [(("", "method"), [Cell(method) for method in methods])]
    for backbone in here["backbone"].unique() if backbones is None else backbones:
        part = here[here["backbone"] == backbone]
        places = (
            part[["task_split", "k"]].drop_duplicates().itertuples(index=False) if ks is None else product(SPLITS, ks)
        )
        for task_split, k in places:
            cells = part[(part["task_split"] == task_split) & (part["k"] == k)]
            stars = _stars(comparison, backbone, task_split, k, gallery)
            columns.append(((backbone, f"{task_split} K={k}"), _accuracies(cells, stars, methods, ceilings)))
        for heading, cells, absent in _beside(summary, backbone, worst, heads):
            columns.append(((backbone, heading), _accuracies(cells, set(), methods, ceilings, absent)))
        for name, (heading, write) in BUDGETS.items():
            if name in part:
                known = part.drop_duplicates("method").set_index("method")[name].astype(float)  # None: NaN
                texts = [write(known[method]) if method in known.index else NOT_RUN for method in methods]
                columns.append(((backbone, heading), [Cell(text) for text in texts]))
    rows = [list(row) for row in zip(*(cells for _, cells in columns), strict=True)]
    left_out = [method for method in methods if method in ceilings]
    shown = {heading for (_, heading), _ in columns}
    notes = [*_rules(here, comparison, gallery, left_out), *_beside_notes(shown), *footnotes]
    return Table([heading for heading, _ in columns], rows, notes)


def _beside(
    summary: pd.DataFrame, backbone: str, worst: pd.DataFrame | None, heads: Container[str] | None
) -> Iterator[tuple[str, pd.DataFrame, Callable[[str], str]]]:
    """Yield heading, cells and what a cell says that is not there, of what stands beside the means of k-NN."""

    def by_split(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
        for task_split in SPLITS:
            cells = frame[(frame["backbone"] == backbone) & (frame["task_split"] == task_split)]
            if len(cells):
                yield task_split, cells

    if worst is not None:
        for task_split, cells in by_split(worst):
            yield f"{task_split} {WORST}", cells, lambda method: NOT_RUN
    if heads is not None:
        of_heads = summary["gallery"] == LINEAR_HEAD
        ran = {task_split: set(cells["method"]) for task_split, cells in by_split(summary[~of_heads])}

        def absent(method: str, task_split: str) -> str:
            if method not in heads:
                return NOT_APPLICABLE
            return NOT_MEASURED if method in ran.get(task_split, ()) else NOT_RUN  # by a version without heads

        for task_split, cells in by_split(summary[of_heads]):
            yield f"{task_split} {LINEAR_HEAD}", cells, functools.partial(absent, task_split=task_split)


def _beside_notes(headings: set[str]) -> list[str]:
    """Say what the columns beside the means of k-NN are."""
    notes = {
        WORST: "Worst task: in every seed the task with the lowest accuracy, mean over seeds.",
        LINEAR_HEAD: "Linear head: accuracy of the classifier that was trained with the row, on all queries.",
    }
    return [note for what, note in notes.items() if any(heading.endswith(what) for heading in headings)]


def _stars(comparison: pd.DataFrame | None, backbone: str, task_split: str, k: int, gallery: str) -> set[str]:
    """Return the methods that earned a star in this column."""
    if comparison is None:
        return set()
    place = {"backbone": backbone, "task_split": task_split, "k": k, "gallery": gallery, "star": "*"}
    here = comparison[(comparison[list(place)] == pd.Series(place)).all(axis=1)]
    return set(here["method"])


def _accuracies(
    cells: pd.DataFrame,
    stars: set[str],
    methods: list[str],
    ceilings: Container[str],
    absent: Callable[[str], str] = lambda method: NOT_RUN,
) -> list[Cell]:
    """Return one column; bold is the best as printed, so that equal numbers are equally bold.

    Nothing is bold where nothing is worse, and `ceilings` never are. `absent` says why a method has no number.
    """
    known = cells.set_index("method")[["mean", "std"]]
    shown = (100 * known["mean"].reindex(methods)).round(1)
    rivals = shown[[method not in ceilings for method in methods]].dropna()
    best = rivals.max() if rivals.nunique() > 1 else None
    column = []
    for method in methods:
        if method not in known.index:
            column.append(Cell(absent(method)))
            continue
        text = format_percent(*known.loc[method]) + ("*" if method in stars else "")
        column.append(Cell(text, bold=method in rivals.index and bool(shown[method] == best)))
    return column


def _rules(summary: pd.DataFrame, comparison: pd.DataFrame | None, gallery: str, left_out: list[str]) -> list[str]:
    """Return what the numbers, bold and * mean; `left_out` are the rows that are never bold."""
    if summary.empty:
        return ["k-NN accuracy in %; nothing has run yet."]
    fewest, most = summary["n_seeds"].min(), summary["n_seeds"].max()
    seeds = f"{most} seed{'s' if most > 1 else ''}" if fewest == most else f"{fewest} to {most} seeds"
    spread = " ± standard deviation" if most > 1 else ""
    suite = summary["suite"].iloc[0]
    best = f"best of its column, {', '.join(left_out)} left out" if left_out else "best of its column"
    notes = [f"k-NN accuracy in %, mean{spread} over {seeds}; {suite}, {gallery} gallery. Bold: {best}."]
    if "generator_flops" in summary:
        notes.append("Generator FLOPs: of one image's cores, the extractor included.")
    if comparison is None or comparison.empty:
        return notes
    few = comparison["star"] == "n too small"
    if not few.all():
        pairs = comparison.loc[~few, ["backbone", "against"]].drop_duplicates().itertuples(index=False)
        static = ", ".join(f"{against} on {backbone}" for backbone, against in pairs)
        notes.append(
            f"*: better than the static row it is compared with ({static}): paired t-test over at least "
            f"{SEEDS_FOR_A_STAR} seeds, Holm-corrected p < 0.05, and a 95 % bootstrap interval above zero; "
            f"tested at K={comparison['k'].iloc[0]}."
        )
        notes += _power(comparison.loc[~few])
        if (comparison.loc[~few, "note"] == SEEDS_ONLY).any():
            notes.append(
                "Intervals of unseen tasks resample seeds, not tasks: accuracies of single tasks were not given."
            )
    if few.any():
        rows = "" if few.all() else f" ({', '.join(comparison.loc[few, 'method'].unique())})"
        notes.append(f"n too small for stars: fewer than {SEEDS_FOR_A_STAR} seeds{rows}.")
    return notes


def _power(comparison: pd.DataFrame) -> list[str]:
    """Return the smallest gains that could have been starred; results of earlier versions do not have them."""
    known = comparison["detectable"].dropna() if "detectable" in comparison else pd.Series()
    if known.empty:
        return []
    gains = " to ".join(dict.fromkeys(format_percent(gain) for gain in (known.min(), known.max())))
    return [f"Smallest gain that these seeds find with a probability of 80 %: {gains} points."]
