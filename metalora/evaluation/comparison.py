"""`compare`, the main job: methods × backbones × seeds as independent cells, then one table."""

import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

from metalora.arms import CONTROLS, DEFAULT, Arm, arm
from metalora.bounds import whole
from metalora.config import AdapterConfig
from metalora.device import pick_device
from metalora.errors import InputError
from metalora.evaluation.cells import REFERENCE, CellConfig, SuiteConfig, run_cell
from metalora.evaluation.statistics import CELL, compare_to_static, summarise
from metalora.evaluation.tables import Table, build_table, to_csv, to_latex, to_markdown
from metalora.methods import method
from metalora.states import write_text
from metalora.training import TrainingConfig

RATES = (1e-3, 3e-3, 6e-3)  # that `tune` tries
CELLS, RESULTS = "cells", "comparison.json"


@dataclass(frozen=True)
class ComparisonConfig:
    """Settings of a comparison.

    Attributes:
        hidden: width of the mapping net.
        rank_pattern: regular expression → R of Meta-LoRA TR in layers of that name.
        rank: R of Meta-LoRA TR; LoRA and CP get R², each Multi-LoRA branch a third of that.
        tune: try every rate of `RATES` with the first seed, for every training and backbone alike, and go on
            with the one that is best on validation.
    """

    suite: SuiteConfig = field(default_factory=SuiteConfig)
    backbones: tuple[str, ...] = ("resnet20", "mixer_nano")
    methods: tuple[str, ...] = DEFAULT
    controls: bool = False
    seeds: int = 1
    ks: tuple[int, ...] = (5, 10)
    rank: int = 3
    extractor: str = "self"
    hidden: int = 32
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    targets: tuple[str, ...] | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tune: bool = False
    download: bool = False

    def __post_init__(self) -> None:
        whole("seeds", self.seeds)
        if not self.methods or not self.backbones:
            raise InputError("Name at least one method and one backbone.")
        named = [row.name for row in self.arms if row.named]  # unknown names are told at once
        if named and not self.suite.factors:
            raise InputError(f"{named[0]} needs a suite of named factors, {self.suite.name} has none: leave it out.")

    @property
    def arms(self) -> list[Arm]:
        """The rows, in order."""
        return [arm(name) for name in dict.fromkeys((*self.methods, *(CONTROLS if self.controls else ())))]

    def cells(self, seed: int, rate: float) -> list[CellConfig]:
        """One cell per training and backbone."""
        groups: dict[tuple, list[Arm]] = {}
        for row in self.arms:
            groups.setdefault(row.training, []).append(row)
        return [self._cell(rows, backbone, seed, rate) for backbone in self.backbones for rows in groups.values()]

    def _cell(self, rows: list[Arm], backbone: str, seed: int, rate: float) -> CellConfig:
        first = rows[0]
        equal = first.variant == "equal-budget"
        training = replace(self.training, seed=seed, rate=rate, set_size=first.training_set_size)
        if equal:  # the largest of the rows that it is held against
            first = next((row for row in self.arms if row.method == REFERENCE and row.named), arm(REFERENCE))
        adapter = self._adapter(first.method, first, seed)
        names = tuple(row.name for row in rows)
        return CellConfig(names, backbone, self.suite, adapter, training, self.ks, equal, self.download)

    def _adapter(self, name: str, row: Arm, seed: int) -> AdapterConfig:
        ranks = {"metalora-tr": self.rank, "multi-lora": max(1, self.rank**2 // 3)}
        return AdapterConfig(
            name,
            rank=ranks.get(name, self.rank**2),
            core=row.core,
            factors=self.suite.factors if row.named else (),
            extractor=self.extractor,
            hidden=self.hidden,
            rank_pattern=self.rank_pattern if name == REFERENCE else {},
            targets=self.targets,
            seed=seed,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ComparisonConfig":
        """The settings that `to_dict` wrote.

        Raises:
            InputError: they are not settings of a comparison.
        """
        known = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        try:
            suite = dict(known["suite"])
            known["suite"] = SuiteConfig(**{**suite, "hold_out": tuple(suite["hold_out"])})
            known["training"] = TrainingConfig(**known["training"])
            return cls(**known)
        except (KeyError, TypeError) as error:
            raise InputError(f"These are no settings of a comparison ({error}): run it again.") from error


@dataclass(frozen=True)
class CellDone:
    """Told after every finished cell."""

    done: int
    total: int
    name: str
    result: dict[str, Any]
    seconds_left: float


@dataclass(frozen=True)
class Comparison:
    """Results: `rows` per seed, `summary` over seeds, `gains` over the best static row, `trials` of tuning.

    Attributes:
        primary: the gallery that is read first.
        missing: cells that were not run yet; then there are no gains: the best static row is chosen among all.
        kept_gains: gains as an earlier run wrote them; None: `gains` computes them.
    """

    config: ComparisonConfig
    rows: pd.DataFrame
    tasks: pd.DataFrame
    confusion: pd.DataFrame
    trials: pd.DataFrame
    primary: str
    notes: tuple[str, ...] = ()
    missing: int = 0
    kept_gains: pd.DataFrame | None = None

    @property
    def summary(self) -> pd.DataFrame:
        """Means over seeds, see `summarise`."""
        if self.rows.empty:
            budgets = ["static_parameters", "generator_parameters", "generator_flops", "ms_per_step"]
            return pd.DataFrame(columns=[*CELL, "mean", "std", "n_seeds", *budgets])
        return summarise(self.rows)

    @property
    def gains(self) -> pd.DataFrame | None:
        """Generated methods against the best static row, see `compare_to_static`; None without a static row."""
        if self.kept_gains is not None:
            return self.kept_gains
        if self.missing or self.rows.empty:
            return None
        return self._compared(self.rows)

    @property
    def set_gains(self) -> pd.DataFrame | None:
        """Generated rows of sets against the best static row that knows sets of the same size; None without either."""
        if self.missing or self.rows.empty:
            return None
        found = []
        for size in dict.fromkeys(row.set_size for row in self.config.arms if row.set_size != 1):
            knowing = {row.name: row.static for row in self.config.arms if row.set_size == size}
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
            tasks = tasks[(tasks["split"] == "unseen") & (tasks["k"] == k) & (tasks["gallery"] == self.primary)]
        return compare_to_static(rows, k=k, gallery=self.primary, tasks=tasks if len(tasks) else None)

    def table(self, gallery: str | None = None) -> Table:
        """The table of a gallery, None: the primary one; what was not run has cells that say so."""
        gallery = gallery or self.primary
        footnotes = [row.assumption for row in self.config.arms if row.assumption]
        if self.missing:
            footnotes.append("Stars wait until every training is there: the best static row is chosen among all.")
        sets = self.set_gains if gallery == self.primary else None
        footnotes += [] if sets is None else [_against_sets(row) for row in sets.itertuples()]
        # Whole results have the columns that they have: a suite without unseen tasks has none for them.
        planned = {"backbones": self.config.backbones, "ks": self.config.ks} if self.missing else {}
        return build_table(
            self.summary,
            self.gains if gallery == self.primary else None,
            [row.name for row in self.config.arms],
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
            "config": self.config.to_dict(),
            "primary": self.primary,
            "notes": list(self.notes),
            "missing": self.missing,
            **{
                name: json.loads(frame.to_json(orient="records", double_precision=10)) for name, frame in frames.items()
            },
        }

    def write(self, folder: Path) -> None:
        """Write comparison.json, and the table as CSV, Markdown and LaTeX."""
        table = self.table()
        write_text(folder / RESULTS, json.dumps(self.to_dict(), indent=1) + "\n")
        for suffix, writer in (("csv", to_csv), ("md", to_markdown), ("tex", to_latex)):
            write_text(folder / f"comparison.{suffix}", writer(table))


def _against_sets(row: Any) -> str:
    interval = "" if pd.isna(row.low) else f" ({100 * row.low:.1f} to {100 * row.high:.1f})"
    return (
        f"{row.method} on {row.backbone}, {row.split}: {100 * row.gain:+.1f} points{interval} over {row.against}, the "
        "best static row that knows sets of that size."
    )


def run_comparison(config: ComparisonConfig, folder: Path, *, jobs: int | None = None) -> Iterator[CellDone]:
    """Run the cells that `folder` lacks, yielding after each; then `read_comparison` has the results.

    Args:
        jobs: processes at a time; None: one per core for small networks on a CPU, one on an accelerator.
    """
    rates = {}
    tuning = [config.cells(0, rate) for rate in RATES] if config.tune else []
    trials = [cell for cells in tuning for cell in cells if _is_trained(cell)]
    total = len(config.cells(0, config.training.rate)) * config.seeds + len(trials)
    started = _Clock(total)
    for cell, result in _execute(trials, folder, jobs):
        yield started.tell(cell, result)
    if tuning:
        rates = best_rates([_read(folder, cell) for cell in trials])
    cells = [
        with_rate(cell, rates) for seed in range(config.seeds) for cell in config.cells(seed, config.training.rate)
    ]
    for cell, result in _execute(cells, folder, jobs):
        yield started.tell(cell, result)


def read_comparison(
    config: ComparisonConfig,
    folder: Path,
    primary: str,
    notes: Sequence[str] = (),
    *,
    partial: bool = False,
    known: Mapping[str, dict[str, Any]] | None = None,
) -> Comparison:
    """Gather the cells of a run.

    Args:
        partial: take the cells that are there and count the missing ones; not for a comparison that tunes, whose
            rates are known at the end.
        known: results of cells that need not be in the folder, by the cell's key.

    Raises:
        InputError: a cell is missing (unless `partial`) or damaged.
    """
    trials = [cell for rate in RATES for cell in config.cells(0, rate) if _is_trained(cell)] if config.tune else []
    tried = [_read(folder, cell) for cell in trials]
    rates = best_rates(tried)
    wanted = [
        with_rate(cell, rates) for seed in range(config.seeds) for cell in config.cells(seed, config.training.rate)
    ]
    known = known or {}
    present = [cell for cell in wanted if not partial or cell.key in known or cell_file(folder, cell).exists()]
    found = [known[cell.key] if cell.key in known else _read(folder, cell) for cell in present]
    rows, tasks, confusion = (
        pd.DataFrame([row for cell in found for row in cell[name]]) for name in ("rows", "tasks", "confusion")
    )
    if len(rows):
        order = {row.name: i for i, row in enumerate(config.arms)}
        rows = rows.sort_values("method", key=lambda names: names.map(order), kind="stable")
    missing = len(wanted) - len(present)
    return Comparison(config, rows, tasks, confusion, _trial_rows(tried), primary, tuple(notes), missing)


def best_rates(trials: list[dict[str, Any]]) -> dict[tuple, float]:
    """(backbone, first arm) → the rate with the best validation accuracy among the trials."""
    frame = _trial_rows(trials)
    if frame.empty:
        return {}
    best = frame.loc[frame.groupby(["backbone", "method"])["validation"].idxmax()]
    return {(row.backbone, row.method): row.rate for row in best.itertuples()}


def _trial_rows(trials: list[dict[str, Any]]) -> pd.DataFrame:
    # The first arm of a cell is the one whose validation chooses.
    names = ("backbone", "method", "rate", "seed", "validation")
    return pd.DataFrame([{name: trial["rows"][0][name] for name in names} for trial in trials])


def _is_trained(cell: CellConfig) -> bool:
    return method(cell.adapter.method).format is not None


def with_rate(cell: CellConfig, rates: dict[tuple, float]) -> CellConfig:
    """The cell at the rate chosen for it, see `best_rates`; its own where there is none."""
    rate = rates.get((cell.backbone, cell.arms[0]), cell.training.rate)
    return replace(cell, training=replace(cell.training, rate=rate))


class _Clock:
    """Counts cells and estimates the time left from those that had to run."""

    def __init__(self, total: int):
        self.total, self.done, self.ran, self.started = total, 0, 0, time.monotonic()

    def tell(self, cell: CellConfig, result: dict[str, Any]) -> CellDone:
        self.done += 1
        self.ran += not result.get("reused", False)
        pace = (time.monotonic() - self.started) / max(1, self.ran)
        name = f"{cell.arms[0]} on {cell.backbone}, seed {cell.training.seed}, rate {cell.training.rate:g}"
        return CellDone(self.done, self.total, name, result, pace * (self.total - self.done))


def cell_file(folder: Path, cell: CellConfig) -> Path:
    """Where the result of a cell lies, or will lie."""
    return folder / CELLS / f"{cell.key}.json"


def _read(folder: Path, cell: CellConfig) -> dict[str, Any]:
    try:
        return json.loads(cell_file(folder, cell).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder} lacks the cell {cell.key}: run the comparison again to complete it.") from error
    except ValueError as error:
        raise InputError(f"{cell_file(folder, cell)} is not whole: delete it and run the comparison again.") from error


def _execute(cells: list[CellConfig], folder: Path, jobs: int | None) -> Iterator[tuple[CellConfig, dict[str, Any]]]:
    missing = []
    for cell in cells:
        if cell_file(folder, cell).exists():
            yield cell, {**_read(folder, cell), "reused": True}
        else:
            missing.append(cell)
    if not missing:
        return
    missing.sort(key=_is_trained, reverse=True)  # short ones last, where they fill a gap
    if jobs is None:
        jobs = joblib.cpu_count() if pick_device(missing[0].training.device).type == "cpu" else 1
    jobs = max(1, min(jobs, len(missing)))
    # joblib gives each of its processes its share of the cores as threads.
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    tasks = (joblib.delayed(_run_and_write)(cell, folder) for cell in missing)
    for index, result in parallel(tasks):
        yield next(cell for cell in missing if cell.key == index), result


def _run_and_write(cell: CellConfig, folder: Path) -> tuple[str, dict[str, Any]]:
    """Run one cell in whatever process this is, and put its result away at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # check_comparison has told them, once for all seeds
        result = run_cell(cell)
    write_text(cell_file(folder, cell), json.dumps(result) + "\n")
    return cell.key, result
