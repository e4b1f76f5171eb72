"""A comparison: its settings, which amount to jobs, and its results as one table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from metalora.experiments.config import ComparisonConfig
from metalora.experiments.statistics import CELL, compare_to_static, summarise
from metalora.experiments.table import Table, build_table
from metalora.experiments.table_writers import to_csv, to_latex, to_markdown
from metalora.util.files import write_text

RESULTS = "comparison.json"
FORMAT_VERSION = 2
WRITERS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


@dataclass(frozen=True)
class Comparison:
    """Results: `rows` per seed, `summary` over seeds, `gains` over the best static row, `trials` of tuning.

    Attributes:
        primary: the gallery that is read first.
        missing: number of jobs that did not run yet; then there are no gains, since the best static row is chosen
            among all.
        stored: frames that were computed before, by name ("gains", "set_gains"), as `load_comparison` found them.
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
            return pd.DataFrame(columns=[*CELL, "mean", "std", "n_seeds", *budgets])
        return summarise(self.rows)

    @cached_property
    def gains(self) -> pd.DataFrame | None:
        """Generated methods against the best static row, see `compare_to_static`; None without a static row."""
        if "gains" in self.stored:
            return self.stored["gains"]
        if self.missing or self.rows.empty:
            return None
        return self._compared(self.rows)

    @cached_property
    def set_gains(self) -> pd.DataFrame | None:
        """Generated rows of sets against the best static row that uses sets of the same size; None without either."""
        if "set_gains" in self.stored:
            return self.stored["set_gains"]
        if self.missing or self.rows.empty:
            return None
        found = []
        for size in dict.fromkeys(row.set_size for row in self.config.variants if row.set_size != 1):
            knowing = {row.name: row.static for row in self.config.variants if row.set_size == size}
            rows = self.rows[self.rows["method"].isin(knowing)]
            found.append(self._compared(rows.assign(static=rows["method"].map(knowing).astype(bool))))
        found = [gains for gains in found if gains is not None]
        return pd.concat(found, ignore_index=True) if found else None

    def _compared(self, rows: pd.DataFrame) -> pd.DataFrame | None:
        if not rows["static"].any() or not rows["generated"].any():
            return None
        k = self.config.ks[0]
        tasks = self.tasks
        if len(tasks):
            tasks = tasks[(tasks["task_split"] == "unseen") & (tasks["k"] == k) & (tasks["gallery"] == self.primary)]
        return compare_to_static(rows, k=k, gallery=self.primary, tasks=tasks if len(tasks) else None)

    def table(self, gallery: str | None = None) -> Table:
        """The table of a gallery, None: the primary one; what was not run has cells that say so."""
        gallery = gallery or self.primary
        assumed: dict[str, list[str]] = {}
        for row in self.config.variants:
            assumed.setdefault(row.assumption or "", []).append(row.name)
        footnotes = [f"{', '.join(names)}: {words}" for words, names in assumed.items() if words]
        if self.missing:
            footnotes.append("Stars wait until every training is there: the best static row is chosen among all.")
        sets = self.set_gains if gallery == self.primary else None
        footnotes += [] if sets is None else _against_sets(sets)
        # Whole results have the columns that they have: a suite without unseen tasks has none for them.
        planned = {"backbones": self.config.backbones, "ks": self.config.ks} if self.missing else {}
        return build_table(
            self.summary,
            self.gains if gallery == self.primary else None,
            [row.name for row in self.config.variants],
            gallery=gallery,
            **planned,
            footnotes=[*footnotes, *self.notes],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values: config, rows (means over seeds), seeds (single ones), gains, tasks, confusion, trials."""
        rows = self.summary.rename(columns={"mean": "accuracy"})
        frames = {"rows": rows, "seeds": self.rows, "tasks": self.tasks, "confusion": self.confusion}
        for name, gains in (("gains", self.gains), ("set_gains", self.set_gains)):
            if gains is not None:
                frames[name] = gains
        if len(self.trials):
            frames["trials"] = self.trials
        return {
            "format_version": FORMAT_VERSION,
            "config": self.config.to_dict(),
            "primary": self.primary,
            "notes": list(self.notes),
            "missing": self.missing,
            **{
                name: json.loads(frame.to_json(orient="records", double_precision=10)) for name, frame in frames.items()
            },
        }

    def write(self, folder: Path, table: Table | None = None) -> dict[str, Path]:
        """Write comparison.json, and a table as CSV, Markdown and LaTeX; the files by suffix: csv, md, tex, json.

        Args:
            table: another than that of the gallery that counts.
        """
        table = self.table() if table is None else table
        texts = {suffix: write(table) for suffix, write in WRITERS.items()}
        texts["json"] = json.dumps(self.to_dict(), indent=1) + "\n"
        files = {suffix: (folder / RESULTS).with_suffix(f".{suffix}") for suffix in texts}
        for suffix, text in texts.items():
            write_text(files[suffix], text)
        return files


def _against_sets(gains: pd.DataFrame) -> list[str]:
    """A sentence per backbone and static row, with the gains of all rows that are held against it."""
    found = []
    for (backbone, against), group in gains.groupby(["backbone", "against"], sort=False):
        parts = []
        for row in group.itertuples():
            interval = "" if pd.isna(row.low) else f" ({100 * row.low:.1f} to {100 * row.high:.1f})"
            parts.append(f"{row.method} {row.task_split} {100 * row.gain:+.1f}{interval}")
        best = f"Points over {against} on {backbone}, the best static row that knows sets of that size"
        found.append(f"{best}: {', '.join(parts)}.")
    return found
