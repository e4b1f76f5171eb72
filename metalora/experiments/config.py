"""Settings of a comparison, and the trainings that they amount to."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import method
from metalora.experiments.job import REFERENCE, CellConfig
from metalora.experiments.rows import CONTROLS, DEFAULT, Arm, arm
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.checks import whole
from metalora.util.errors import InputError

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
