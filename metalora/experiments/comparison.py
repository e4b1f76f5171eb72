"""A comparison: its settings, which amount to jobs, and its results as one table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from metalora.experiments.config import ComparisonConfig
from metalora.experiments.statistics import PLACE, compare_to_static, summarise
from metalora.experiments.table import WORST, Table, build_table
from metalora.experiments.table_writers import to_csv, to_latex, to_markdown
from metalora.experiments.worst_task import worst_gains, worst_rows
from metalora.util.files import write_text

RESULTS = "comparison.json"
FORMAT_VERSION = 2
COLUMNS = [*PLACE, "accuracy", "std", "n_seeds"]
WRITERS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


@dataclass(frozen=True)
class Comparison:
    """Results of a comparison.

    Attributes:
        config: The settings.
        rows: Accuracies per seed.
        tasks: Accuracies of single tasks.
        confusion: How often each class was taken for each.
        trials: Validation accuracies that chose learning rates.
        primary: The gallery that is read first.
        notes: Sentences for below the table.
        missing: Number of jobs without a result; then there are no gains, since the best static row is chosen among
            all.
        stored: Frames that were computed before, by name ("gains", "set_gains", "worst_gains").
    """

    config: ComparisonConfig
    rows: pd.DataFrame
    tasks: pd.DataFrame
    confusion: pd.DataFrame
    trials: pd.DataFrame
    primary: str
    notes: tuple[str, ...] = ()
    missing: int = 0
    stored: Mapping[str, pd.DataFrame | None] = field(default_factory=dict)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Means over seeds, see `summarise`."""
        if self.rows.empty:
            budgets = ["static_parameters", "generator_parameters", "generator_flops", "ms_per_step"]
            return pd.DataFrame(columns=[*PLACE, "mean", "std", "n_seeds", *budgets])
        return summarise(self.rows)

    @cached_property
    def gains(self) -> pd.DataFrame | None:
        """Generated rows against the best static row, see `compare_to_static`; None without a static row."""
        if "gains" in self.stored:
            return self.stored["gains"]
        return None if self.missing else self._gains(self.rows)

    @cached_property
    def set_gains(self) -> pd.DataFrame | None:
        """Generated rows with sets against the best static row with sets of the same size; None without either."""
        if "set_gains" in self.stored:
            return self.stored["set_gains"]
        if self.missing or self.rows.empty:
            return None
        frames = []
        for size in dict.fromkeys(variant.set_size for variant in self.config.variants if variant.set_size != 1):
            static = {str(variant): variant.static for variant in self.config.variants if variant.set_size == size}
            rows = self.rows[self.rows["method"].isin(static)]
            frames.append(self._gains(rows.assign(static=rows["method"].map(static).astype(bool))))
        frames = [frame for frame in frames if frame is not None]
        return pd.concat(frames, ignore_index=True) if frames else None

    @cached_property
    def worst(self) -> pd.DataFrame:
        """Accuracies per seed on the worst task, at the first K of the primary gallery; see `worst_rows`."""
        tasks = self.tasks
        if len(tasks):
            tasks = tasks[(tasks["gallery"] == self.primary) & (tasks["k"] == self.config.ks[0])]
        return worst_rows(self.rows, tasks)

    @cached_property
    def worst_summary(self) -> pd.DataFrame:
        """Means of `worst` over seeds, see `summarise`."""
        return summarise(self.worst)

    @cached_property
    def worst_gains(self) -> pd.DataFrame | None:
        """Generated rows against the best static row on the worst tasks; None without a static row."""
        if "worst_gains" in self.stored:
            return self.stored["worst_gains"]
        if self.missing or not _comparable(self.worst):
            return None
        return worst_gains(self.worst, k=self.config.ks[0], gallery=self.primary)

    def _gains(self, rows: pd.DataFrame) -> pd.DataFrame | None:
        if not _comparable(rows):
            return None
        k = self.config.ks[0]
        tasks = self.tasks
        if len(tasks):
            tasks = tasks[(tasks["task_split"] == "unseen") & (tasks["k"] == k) & (tasks["gallery"] == self.primary)]
        return compare_to_static(rows, k=k, gallery=self.primary, tasks=tasks if len(tasks) else None)

    def table(self, gallery: str | None = None) -> Table:
        """Return the table of a gallery, None: the primary one; what was not run has cells that say so."""
        gallery = gallery or self.primary
        is_primary = gallery == self.primary
        # Complete results have the columns that they have: a suite without unseen tasks has none for them.
        planned: dict[str, Any] = {"backbones": self.config.backbones, "ks": self.config.ks} if self.missing else {}
        return build_table(
            self.summary,
            self.gains if is_primary else None,
            list(map(str, self.config.variants)),
            gallery=gallery,
            **planned,
            footnotes=self._footnotes(is_primary=is_primary),
            ceilings=[str(variant) for variant in self.config.variants if variant.is_told],
            worst=self.worst_summary if is_primary and len(self.worst) else None,
            heads=[str(variant) for variant in self.config.variants if variant.has_head] if is_primary else None,
        )

    def _footnotes(self, *, is_primary: bool) -> list[str]:
        assumed: dict[str, list[str]] = {}
        for variant in self.config.variants:
            assumed.setdefault(variant.assumption or "", []).append(str(variant))
        footnotes = [f"{', '.join(names)}: {words}" for words, names in assumed.items() if words]
        if self.missing:
            footnotes.append("Stars need every training: the best static row is chosen among all.")
        if is_primary and self.set_gains is not None:
            footnotes += _gain_notes(self.set_gains, ", the best static row with sets of that size")
        if is_primary and len(self.worst) and self.worst_gains is not None:
            footnotes += _gain_notes(self.worst_gains, f" on the {WORST}")
        return [*footnotes, *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: config, rows and worst (means over seeds), seeds (each), gains, tasks and the rest."""
        worst = self.worst_summary.rename(columns={"mean": "accuracy"})[COLUMNS] if len(self.worst) else None
        frames = {
            "rows": self.summary.rename(columns={"mean": "accuracy"}),
            "seeds": self.rows,
            "tasks": self.tasks,
            "confusion": self.confusion,
            "gains": self.gains,
            "set_gains": self.set_gains,
            "worst": worst,
            "worst_gains": self.worst_gains,
            "trials": self.trials if len(self.trials) else None,
        }
        return {
            "format_version": FORMAT_VERSION,
            "config": self.config.to_dict(),
            "primary": self.primary,
            "notes": list(self.notes),
            "missing": self.missing,
            **{name: to_records(frame) for name, frame in frames.items() if frame is not None},
        }

    def write(self, folder: Path, table: Table | None = None) -> dict[str, Path]:
        """Write comparison.json, and a table as CSV, Markdown and LaTeX; return the files by suffix.

        Args:
            folder: where to.
            table: another than that of the primary gallery.
        """
        table = self.table() if table is None else table
        files = write_tables(table, folder)
        write_text(folder / RESULTS, json.dumps(self.to_dict(), indent=1) + "\n")
        return {**files, "json": folder / RESULTS}


def write_tables(table: Table, folder: Path) -> dict[str, Path]:
    """Write a table as CSV, Markdown and LaTeX; return the files by suffix."""
    files = {suffix: (folder / RESULTS).with_suffix(f".{suffix}") for suffix in WRITERS}
    for suffix, write in WRITERS.items():
        write_text(files[suffix], write(table))
    return files


def to_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows as plain values, NaN as None."""
    return json.loads(frame.to_json(orient="records", double_precision=10))


def _comparable(rows: pd.DataFrame) -> bool:
    return len(rows) > 0 and rows["static"].any() and rows["generated"].any()


def _gain_notes(gains: pd.DataFrame, where: str) -> list[str]:
    """Return a sentence per backbone and static row, with the gains of all rows that are compared with it.

    Args:
        gains: from `compare_to_static`.
        where: what follows the backbone's name.
    """
    notes = []
    for (backbone, against), group in gains.groupby(["backbone", "against"], sort=False):
        parts = []
        for row in group.itertuples():
            interval = "" if pd.isna(row.low) else f" ({100 * row.low:.1f} to {100 * row.high:.1f})"
            parts.append(f"{row.method} {row.task_split} {100 * row.gain:+.1f}{interval}")
        notes.append(f"Points over {against} on {backbone}{where}: {', '.join(parts)}.")
    return notes
