"""A comparison: its settings, which amount to cells, and its results as one table."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from metalora.arms import CONTROLS, DEFAULT, Arm, arm
from metalora.bounds import whole
from metalora.config import AdapterConfig
from metalora.errors import InputError
from metalora.evaluation.cells import REFERENCE, CellConfig, SuiteConfig
from metalora.evaluation.statistics import CELL, compare_to_static, summarise
from metalora.evaluation.table_writers import to_csv, to_latex, to_markdown
from metalora.evaluation.tables import Table, build_table
from metalora.methods import method
from metalora.states import write_text
from metalora.training import TrainingConfig

RESULTS = "comparison.json"
WRITERS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
# One value, so that other settings of it make no other cell.
NO_FREE_CODE = {"spread": None, "radius": 0.0}
NO_MAPPING_NET = {"hidden": AdapterConfig.hidden, "extractor": AdapterConfig.extractor}


@dataclass(frozen=True)
class ComparisonConfig:
    """Settings of a comparison.

    Attributes:
        hidden: width of the mapping net.
        spread, radius: as in `AdapterConfig`, of rows with free codes.
        rank_pattern: regular expression → R of Meta-LoRA TR in layers of that name.
        rank: R of Meta-LoRA TR; LoRA and CP get R², each Multi-LoRA branch a third of that.
        tune: try every rate of `running.RATES` with the first seed, for every training and backbone alike, and go on
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
    spread: float | None = None
    radius: float = 4.0
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    targets: tuple[str, ...] | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tune: bool = False
    download: bool = False

    def __post_init__(self) -> None:
        whole("seeds", self.seeds)
        # Refused where no row has a mapping net, too.
        AdapterConfig(hidden=self.hidden, spread=self.spread, radius=self.radius)
        if not self.methods or not self.backbones:
            raise InputError("Name at least one method and one backbone.")
        object.__setattr__(self, "backbones", tuple(dict.fromkeys(self.backbones)))
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
        free = _generates(first) and not first.named
        training = replace(self.training, seed=seed, rate=rate, set_size=first.training_set_size)
        training = replace(training, **_idle(rows, training))
        if equal:  # the largest of the rows that it is held against
            first = next((row for row in self.arms if row.method == REFERENCE and row.named), arm(REFERENCE))
        code = {"spread": self.spread, "radius": self.radius} if free else NO_FREE_CODE
        reads = {} if equal or _maps(rows) else NO_MAPPING_NET
        adapter = replace(self._adapter(first.method, first, seed), **code, **reads)
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


def _generates(row: Arm) -> bool:
    """Whether a mapping net makes its cores."""
    return method(row.method).generated and row.core == "generated"


def _maps(rows: list[Arm]) -> bool:
    """Whether a mapping net is trained for these rows: one that makes their cores, or reads the shifts to undo."""
    return _generates(rows[0]) or any(row.use == "undone" for row in rows)


def _idle(rows: list[Arm], training: TrainingConfig) -> dict[str, float]:
    """One value for every setting that does not concern the training of these rows, so that it makes no other one."""
    first, idle = rows[0], {}
    generates = _generates(first)
    free = generates and not first.named
    if not free or training.set_size > 1:
        idle["neutral"] = 0.0
    if not free or training.set_size == 1:
        idle["neutral_sets"] = 0.0
    if not _maps(rows):
        idle["mapping_rate"] = 1.0
    if not (generates and first.named):
        idle["told"] = TrainingConfig.told
    if not first.named:
        idle["name_factors"] = TrainingConfig.name_factors
    return idle


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
        assumed: dict[str, list[str]] = {}
        for row in self.config.arms:
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
            parts.append(f"{row.method} {row.split} {100 * row.gain:+.1f}{interval}")
        best = f"Points over {against} on {backbone}, the best static row that knows sets of that size"
        found.append(f"{best}: {', '.join(parts)}.")
    return found
