"""What the Compare tab shows of results: a sentence, the short table with its figure, and, folded away, all numbers."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from metalora.evaluation.accuracy import GALLERIES
from metalora.experiments.comparison import RESULTS, Comparison, write_tables
from metalora.experiments.conclusion import conclude, readable
from metalora.experiments.results import FOLDER, load_bundled
from metalora.experiments.short_table import matches, reference_of, short_rows
from metalora.experiments.table import SPLITS, Table
from metalora.experiments.table_writers import to_html
from metalora.experiments.variants import parse_variant
from metalora.plots.comparison import AXIS, PANEL, budget_scatter, task_heatmap
from metalora.plots.gain_dots import gain_dots
from metalora.plots.palette import Theme, notice, variant_style
from metalora.util.errors import InputError
from metalora.views.compare_questions import question_of, title
from metalora.views.compare_table import short_html

NO_TASKS = "Accuracies of single tasks were not kept with these results: run rows of your own to see theirs."
NOTHING = "Nothing has run yet: the rows fill as trainings end."
GLYPHS = {  # of plotly's markers
    "circle": "●",
    "circle-open": "○",
    "square": "■",
    "square-open": "□",
    "triangle-up": "▲",
    "x": "✖",
    "x-open": "✕",
    "star": "★",
    "star-open": "☆",
    "diamond-open": "◇",
}
CACHED = 256  # views of bundled results, which never change


@dataclass(frozen=True)
class Overview:
    """The first sight of results on one backbone.

    Attributes:
        sentence: what they show, and how sure that is.
        remarks: what is to be known with it.
        table: the short table, HTML.
        figure: gains with their intervals; None where nothing is compared.
        measured: how it was measured, a sentence a line.
    """

    sentence: str
    remarks: str
    table: str
    figure: go.Figure | None
    measured: str


@dataclass(frozen=True)
class Numbers:
    """Everything that was measured, for one gallery, K and task split.

    Attributes:
        table: every column.
        html: the same, of the rows that are shown.
        budget: accuracy against trained parameters.
        legend: of that figure, HTML.
        tasks: accuracy on every task, None: there are none.
        left_out: what that figure lacks, or why there is none.
    """

    table: Table
    html: str
    budget: go.Figure
    legend: str
    tasks: go.Figure | None
    left_out: str


@dataclass(frozen=True)
class Source:
    """Results to show.

    Attributes:
        name: of bundled ones; None: they are a visitor's own.
        title: for people.
        comparison: the results.
        folder: of the visitor's trainings; None for bundled ones.
    """

    name: str | None
    title: str
    comparison: Comparison
    folder: Path | None = None

    def overview(self, backbone: str, words: str) -> Overview:
        """Return the first sight of the results on a backbone.

        Args:
            backbone: of the rows.
            words: of which the rows that are shown have every one.

        Raises:
            InputError: no row has these words.
        """
        if self.name is None:
            return _overview(self, backbone, words, None)
        return _bundled_overview(self.name, backbone, words)

    def numbers(self, backbone: str, task_split: str, gallery: str, k: int, words: str) -> Numbers:
        """Return every number of the results on a backbone.

        Args:
            backbone: of the figures.
            task_split: of the figures.
            gallery: "pooled" or "within".
            k: of the figures.
            words: of which the rows that are shown have every one.

        Raises:
            InputError: no row has these words, or a value is not one of those offered.
        """
        if task_split not in SPLITS or gallery not in GALLERIES or k not in self.comparison.config.ks:
            raise InputError(f"Nothing was measured at K = {k}, {gallery} gallery, {task_split} tasks: use the lists.")
        if self.name is None:
            return _numbers(self, backbone, task_split, gallery, k, words)
        return _bundled_numbers(self.name, backbone, task_split, gallery, k, words)

    def write(self, table: Table, folder: Path) -> dict[str, Path]:
        """Write a table, and all results as JSON, for download; return the files by suffix.

        Args:
            table: of the results.
            folder: where to, for bundled results.
        """
        if self.name is None:
            return self.comparison.write(self.folder / "shown" if self.folder else folder, table)
        return {**write_tables(table, folder), "json": FOLDER / self.name / RESULTS}


def bundled_source(name: str) -> Source:
    """Return bundled results.

    Raises:
        InputError: there are none of that name.
    """
    return Source(name, title(name), load_bundled(name))


@functools.lru_cache(CACHED)
def _bundled_overview(name: str, backbone: str, words: str) -> Overview:
    """Return the first sight of a bundled result; its sentence is about the rows that answer its question."""
    source, sets = bundled_source(name), question_of(name).sets
    variants = [v for v in source.comparison.config.variants if sets is None or (v.set_size != 1) == sets]
    return _overview(source, backbone, words, [str(variant) for variant in variants])


def _overview(source: Source, backbone: str, words: str, asked: Sequence[str] | None) -> Overview:
    comparison = source.comparison
    names = shown_rows(comparison, words)
    rows = [row for row in short_rows(comparison, backbone) if row.name in names]
    opponent, k = reference_of(comparison, backbone), comparison.config.ks[0]
    sentence, *remarks = conclude(comparison, backbone, asked)
    place = f"k-NN accuracy, K = {k}, {comparison.primary} gallery, {backbone}"
    other = None if opponent is None else readable(opponent)
    gains = _gains(comparison, backbone, names)
    return Overview(
        sentence,
        " ".join(remarks),
        short_html(rows, caption=f"{source.title}. {place}", colours=_colours(names), opponent=other, k=k),
        None if gains.empty else gain_dots(gains),
        "\n\n".join(comparison.table().notes),
    )


@functools.lru_cache(CACHED)
def _bundled_numbers(name: str, backbone: str, task_split: str, gallery: str, k: int, words: str) -> Numbers:
    return _numbers(bundled_source(name), backbone, task_split, gallery, k, words)


def _numbers(source: Source, backbone: str, task_split: str, gallery: str, k: int, words: str) -> Numbers:
    comparison = source.comparison
    names = shown_rows(comparison, words)
    table = comparison.table(gallery)
    shown = Table(table.columns, [row for row in table.rows if row[0].text in names])
    tasks, left_out = heatmap(comparison, backbone, task_split, gallery, k, names)
    caption = f"{source.title}. k-NN accuracy in %, {gallery} gallery"
    html = to_html(shown, caption=caption, colours=_colours(names))
    budget = scatter(comparison, backbone, task_split, gallery, k, names)
    return Numbers(table, html, budget, legend_html(names), tasks, left_out)


def shown_rows(comparison: Comparison, words: str) -> list[str]:
    """Return the names of the rows that have every word of a filter.

    Raises:
        InputError: none has.
    """
    names = [name for name in map(str, comparison.config.variants) if matches(name, words)]
    if not names:
        raise InputError(f"No row has {words.strip()!r} in its name: clear the filter, or try one of its words.")
    return names


def _colours(names: Sequence[str]) -> dict[str, str]:
    return {name: variant_style(name).colour for name in names}


def _gains(comparison: Comparison, backbone: str, names: Sequence[str]) -> pd.DataFrame:
    """Return the gains of some rows on a backbone, in the order of the rows."""
    gains = comparison.gains
    if gains is None:
        return pd.DataFrame()
    gains = gains[(gains["backbone"] == backbone) & gains["method"].isin(names)]
    return gains.sort_values("method", key=lambda methods: methods.map(list(names).index), kind="stable")


def scatter(
    comparison: Comparison,
    backbone: str,
    task_split: str,
    gallery: str,
    k: int,
    names: Sequence[str] | None = None,
    theme: Theme = "light",
) -> go.Figure:
    """Plot accuracy against budget of some rows, or return a figure that says why there is none."""
    if comparison.rows.empty:
        return notice(NOTHING, theme)
    rows = comparison.summary
    rows = rows[rows["backbone"] == backbone]
    if names is not None:
        rows = rows[rows["method"].isin(names)]
    figure = budget_scatter(rows, task_split=task_split, gallery=gallery, k=k, theme=theme)
    # Its legend is on the page, where it takes as many lines as the width asks for.
    return figure.update_layout(showlegend=False, height=PANEL + AXIS, margin_b=AXIS)


def legend_html(names: Sequence[str]) -> str:
    """Return what the markers of rows mean as a list, all text escaped."""
    entries = []
    for name in names:
        style = variant_style(name)
        mark = f'<span style="color:{style.colour}" aria-hidden="true">{GLYPHS[style.symbol]}</span>'
        entries.append(f'<li title="{escape(name)}">{mark}{escape(readable(name))}</li>')
    return f'<ul class="legend">{"".join(entries)}</ul>'


def heatmap(
    comparison: Comparison,
    backbone: str,
    task_split: str,
    gallery: str,
    k: int,
    names: Sequence[str] | None = None,
    theme: Theme = "light",
) -> tuple[go.Figure | None, str]:
    """Plot the accuracy of some rows on every task; also say what is left out, or why there is no figure (None).

    Rows of bundled results may lack single tasks although they ran: those are left out, since "not run" would be wrong.
    """
    tasks = comparison.tasks
    if tasks.empty:
        return None, NOTHING if comparison.rows.empty else NO_TASKS
    if backbone not in comparison.config.backbones:
        return None, f"{backbone} is not among these results: choose another backbone."
    names = list(map(str, comparison.config.variants)) if names is None else list(names)
    ran, kept = (_methods(frame, backbone, gallery, k) & set(names) for frame in (comparison.rows, tasks))
    if not kept and ran:
        places = tasks[["gallery", "k"]].drop_duplicates().itertuples(index=False)
        kept_for = " and ".join(f"the {gallery} gallery at K = {k}" for gallery, k in places)
        return None, f"Accuracies of single tasks were kept for {kept_for} only: choose that."
    if not kept:
        return None, NOTHING
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
    if frame.empty:
        return set()
    chosen = (frame["backbone"] == backbone) & (frame["gallery"] == gallery) & (frame["k"] == k)
    return set(frame.loc[chosen, "method"])


def label(name: str) -> str:
    """Describe a row for a menu: its title and its name."""
    return f"{parse_variant(name).title} ({name})"
