"""Settings of a comparison, and the trainings that they amount to."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import method
from metalora.experiments.job import REFERENCE, JobConfig
from metalora.experiments.variants import CONTROLS, DEFAULT, Variant, parse_variant
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.checks import check_int
from metalora.util.errors import InputError
from metalora.util.renamed import upgrade_name, upgrade_settings

# One value, so that other settings of it make no other cell.
NO_FREE_CODE = {"head_init_std": None, "code_norm_limit": 0.0}


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
    head_init_std: float | None = None
    code_norm_limit: float = 4.0
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    targets: tuple[str, ...] | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tune: bool = False
    download: bool = False

    def __post_init__(self) -> None:
        check_int("seeds", self.seeds)
        # Refused where no row has a mapping net, too.
        AdapterConfig(hidden=self.hidden, head_init_std=self.head_init_std, code_norm_limit=self.code_norm_limit)
        if not self.methods or not self.backbones:
            raise InputError("Name at least one method and one backbone.")
        object.__setattr__(self, "backbones", tuple(dict.fromkeys(self.backbones)))
        factor_code = [row.name for row in self.variants if row.factor_code]  # unknown names are told at once
        if factor_code and not self.suite.factors:
            raise InputError(
                f"{factor_code[0]} needs a suite of named factors, {self.suite.name} has none: leave it out."
            )

    @property
    def variants(self) -> list[Variant]:
        """The rows, in order."""
        return [parse_variant(name) for name in dict.fromkeys((*self.methods, *(CONTROLS if self.controls else ())))]

    def jobs(self, seed: int, lr: float) -> list[JobConfig]:
        """One cell per training and backbone."""
        groups: dict[tuple, list[Variant]] = {}
        for row in self.variants:
            groups.setdefault(row.training, []).append(row)
        return [self._job(rows, backbone, seed, lr) for backbone in self.backbones for rows in groups.values()]

    def _job(self, rows: list[Variant], backbone: str, seed: int, lr: float) -> JobConfig:
        first = rows[0]
        equal = first.control == "equal-budget"
        free = _generates(first) and not first.factor_code
        training = replace(self.training, seed=seed, lr=lr, set_size=first.training_set_size)
        training = replace(training, **_idle(rows, training))
        if equal:  # the largest of the rows that it is held against
            first = next(
                (row for row in self.variants if row.method == REFERENCE and row.factor_code), parse_variant(REFERENCE)
            )
        code = {"head_init_std": self.head_init_std, "code_norm_limit": self.code_norm_limit} if free else NO_FREE_CODE
        reads = {} if equal or _maps(rows) else NO_MAPPING_NET
        adapter = replace(self._adapter(first.method, first, seed), **code, **reads)
        names = tuple(row.name for row in rows)
        return JobConfig(names, backbone, self.suite, adapter, training, self.ks, equal, self.download)

    def _adapter(self, name: str, row: Variant, seed: int) -> AdapterConfig:
        ranks = {"metalora-tr": self.rank, "multi-lora": max(1, self.rank**2 // 3)}
        return AdapterConfig(
            name,
            rank=ranks.get(name, self.rank**2),
            core=row.core,
            factors=self.suite.factors if row.factor_code else (),
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
        values = upgrade_settings(values)
        known = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        try:
            suite = dict(known["suite"])
            known["methods"] = tuple(map(upgrade_name, known["methods"]))
            known["suite"] = SuiteConfig(**{**suite, "hold_out": tuple(suite["hold_out"])})
            known["training"] = TrainingConfig(**known["training"])
            return cls(**known)
        except (KeyError, TypeError) as error:
            raise InputError(f"These are no settings of a comparison ({error}): run it again.") from error


def _generates(row: Variant) -> bool:
    """Whether a mapping net makes its cores."""
    return method(row.method).generated and row.core == "generated"


def _maps(rows: list[Variant]) -> bool:
    """Whether a mapping net is trained for these rows: one that makes their cores, or reads the shifts to undo."""
    return _generates(rows[0]) or any(row.set_use == "inverted" for row in rows)


def _idle(rows: list[Variant], training: TrainingConfig) -> dict[str, float]:
    """One value for every setting that does not concern the training of these rows, so that it makes no other one."""
    first, idle = rows[0], {}
    generates = _generates(first)
    free = generates and not first.factor_code
    if not free or training.set_size > 1:
        idle["identity_core_prob"] = 0.0
    if not free or training.set_size == 1:
        idle["identity_core_prob_sets"] = 0.0
    if not _maps(rows):
        idle["mapping_lr_scale"] = 1.0
    if not (generates and first.factor_code):
        idle["teacher_forcing_ratio"] = TrainingConfig.teacher_forcing_ratio
    if not first.factor_code:
        idle["factor_loss_weight"] = TrainingConfig.factor_loss_weight
    return idle
