"""Settings of a comparison, and of the jobs that it amounts to."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import METHODS, method
from metalora.experiments.variants import CONTROLS, DEFAULT, REFERENCE, Variant, expand_contexts, parse_variant
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.checks import check_int
from metalora.util.config import from_plain, to_plain
from metalora.util.errors import InputError

ALL = "all"  # among the methods of a comparison: every one that fits any backbone
MOST_SEEDS = 1_000


@dataclass(frozen=True)
class JobConfig:
    """Settings of one job: a training, and the variants that are measured on it.

    Attributes:
        variants: Variants that share the training, as values or as text.
        backbone: Bundled backbone or timm name.
        suite: The suite.
        adapter: The adapter; of a row of equal budget, the one whose budget it gets.
        training: The training.
        ks: K of k-NN.
        download: Fetch data and weights that are not on this machine.
        trial_steps: Steps of a trial at each of three learning rates, of which the training takes the best on
            validation; None: that of `training`.
    """

    variants: tuple[Variant, ...]
    backbone: str
    suite: SuiteConfig
    adapter: AdapterConfig
    training: TrainingConfig
    ks: tuple[int, ...] = (5, 10)
    download: bool = False
    trial_steps: int | None = None

    def __post_init__(self) -> None:
        variants = (parse_variant(v) if isinstance(v, str) else v for v in self.variants)
        object.__setattr__(self, "variants", tuple(variants))

    @property
    def trained(self) -> Variant:
        """The variant that stands for the training."""
        return self.variants[0].training

    @property
    def equal_budget(self) -> bool:
        """Whether LoRA gets the total budget of `adapter`."""
        return self.trained.control == "equal-budget"

    @property
    def in_several_sizes(self) -> bool:
        """Whether it is trained with sets of several sizes."""
        return len(self.training.set_sizes) > 1

    @property
    def has_reader(self) -> bool:
        """Whether a reader of factors is trained beside, for rows whose transforms are inverted."""
        return any(variant.set_use == "inverted" for variant in self.variants)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The settings that have an effect on the results, in canonical form."""
        values = {name: getattr(getattr(self, part), name) for part, name in _effective(self)}
        values |= _canonical_suite(self.suite)
        if "head_init_std" in values:
            values["head_init_std"] = self.adapter.initial_head_std
        numbers = {name: float(value) for name, value in values.items() if type(value) is int}
        if self.trial_steps is not None and self.trained.is_trained:
            values |= {"trial_steps": self.trial_steps, "lr": None}
        return values | numbers | {"variants": list(map(str, self.variants)), "backbone": self.backbone, "ks": self.ks}

    @property
    def title(self) -> str:
        """The job as people read it."""
        title = f"{self.variants[0]} on {self.backbone}, seed {self.training.seed}"
        if not self.trained.is_trained:
            return title
        return f"{title}, {'lr chosen by trials' if self.trial_steps else f'lr {self.training.lr:g}'}"

    @cached_property
    def key(self) -> str:
        """A short name for a file, the same for all settings of one identity."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        return f"{self.trained}-{self.backbone}-{self.training.seed}-{digest[:12]}".replace("/", "_")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return to_plain(self) | {"variants": list(map(str, self.variants))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "JobConfig":
        """Read what `to_dict` returned, also that of an earlier version.

        Raises:
            InputError: These are not settings of a job.
        """
        values = {"variants" if name == "arms" else name: value for name, value in values.items()}
        return from_plain(cls, {name: value for name, value in values.items() if name != "equal_budget"})


# The settings of adapter and training that decide the results of a job, and of which jobs. All others (device, compile,
# validate_every) decide none. A new setting has to leave the identities of jobs as they are where it is at its default.
_EFFECTS: dict[str, Callable[[JobConfig], bool]] = {
    "training: precision seed": lambda job: True,
    "training: steps batch_size lr": lambda job: job.trained.is_trained or job.has_reader,
    "training: max_grad_norm": lambda job: job.trained.is_trained,
    "training: keep_best validation_interval": lambda job: job.trained.is_trained and job.training.keep_best,
    "adapter: rank rank_pattern targets exclude alpha branches dropout": lambda job: job.trained.is_trained,
    "adapter: extractor hidden": lambda job: (
        job.trained.has_mapping_net or job.trained.has_context or job.equal_budget or job.has_reader
    ),
    "adapter: code factors": lambda job: job.trained.has_mapping_net or job.trained.has_context or job.equal_budget,
    "training: mapping_lr_scale": lambda job: job.trained.has_mapping_net or job.has_reader,
    "adapter: head_init_std code_norm_limit": lambda job: job.trained.has_latent_code,
    "training: set_size": lambda job: job.in_several_sizes,
    "training: identity_core_prob": lambda job: job.trained.has_latent_code and not job.trained.in_sets,
    "training: identity_core_prob_sets": lambda job: (
        job.trained.has_latent_code and job.trained.in_sets and not job.in_several_sizes
    ),
    "training: fit_gate": lambda job: job.training.fit_gate and job.trained.reads_images,
    "training: teacher_forcing_ratio": lambda job: job.trained.has_mapping_net and job.trained.factor_code,
    "training: factor_loss_weight": lambda job: job.trained.factor_code,
    "adapter: core_distribution": lambda job: job.adapter.gaussian,
    "training: kl_weight": lambda job: job.adapter.gaussian,
}


# Settings of a suite that always count; later ones do where they are not at their default.
_SUITE = ("draw_unseen", "development", "max_queries", "max_train_images")


def _effective(job: JobConfig) -> Iterator[tuple[str, str]]:
    for settings, concerns in _EFFECTS.items():
        part, names = settings.split(": ")
        if concerns(job):
            yield from ((part, name) for name in names.split())


def _canonical_suite(suite: SuiteConfig) -> dict[str, Any]:
    """Return what decides a suite's images: a person's images count by the name of their folder or file."""
    kind, colon, _ = suite.name.partition(":")
    defaults = asdict(SuiteConfig())
    counted = {name: value for name, value in asdict(suite).items() if name in _SUITE or value != defaults[name]}
    values = {f"suite_{name}": value for name, value in counted.items() if name not in ("data", "download")}
    name = kind + (f":{suite.source.resolve().name}" if colon else "")
    return values | {"suite_name": name, "suite_image_size": suite.pixels, "suite_hold_out": suite.unseen}


@dataclass(frozen=True)
class ComparisonConfig:
    """Settings of a comparison.

    Attributes:
        suite: The suite.
        backbones: Bundled backbones or timm names.
        methods: Rows of the table, such as lora or metalora-tr@8; all stands for every method that fits any backbone,
            METHOD@contexts for one training used with sets of 0, 1, 2, 4, 8, 25 and 50 images.
        controls: Add the control rows.
        seeds: Random seeds to average over; stars need 6.
        ks: K of k-NN.
        rank: R of Meta-LoRA TR; LoRA and CP get R², each branch of Multi-LoRA a third of that.
        extractor: What cores are generated from: self, stem, or a backbone's name.
        hidden: Width of the mapping net.
        head_init_std: Standard deviation of the mapping net's last weights at first, for latent codes.
        code_norm_limit: Length that a latent code stays below; 0 for any length.
        rank_pattern: R of Meta-LoRA TR in the layers whose name matches a regular expression.
        targets: Regular expressions over the names of layers to adapt; left out: all.
        training: Settings of every training; several set sizes are those of rows that are trained with sets.
        tune: Choose the learning rate of every training on validation images, with the first seed.
        trial_steps: Steps of a trial at each of three learning rates, of which every training takes the best on
            validation; None: that of the settings.
        download: Fetch data and weights that are not on this machine.

    Raises:
        InputError: A value cannot be used, or a row needs factors that the suite does not have.
    """

    suite: SuiteConfig = field(default_factory=SuiteConfig)
    backbones: tuple[str, ...] = ("resnet20", "mixer_nano")
    methods: tuple[str, ...] = DEFAULT
    controls: bool = False
    seeds: int = 1
    ks: tuple[int, ...] = (5, 10)
    rank: int = 3
    extractor: str = AdapterConfig.extractor
    hidden: int = AdapterConfig.hidden
    head_init_std: float | None = AdapterConfig.head_init_std
    code_norm_limit: float = AdapterConfig.code_norm_limit
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    targets: tuple[str, ...] | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tune: bool = False
    trial_steps: int | None = None
    download: bool = False

    def __post_init__(self) -> None:
        check_int("seeds", self.seeds, 1, MOST_SEEDS)
        if self.trial_steps is not None:
            check_int("trial_steps", self.trial_steps)
            if self.tune:
                raise InputError("Learning rates are tuned or tried, not both: leave tune or trial_steps out.")
        # Refused even where no row has a mapping net.
        of_mapping_net = ("extractor", "hidden", "head_init_std", "code_norm_limit")
        AdapterConfig(**{name: getattr(self, name) for name in of_mapping_net})
        if not self.methods or not self.backbones:
            raise InputError("Name at least one method and one backbone.")
        object.__setattr__(self, "backbones", tuple(dict.fromkeys(self.backbones)))
        fitting = [name for name, entry in METHODS.items() if not entry.needs]
        names = [one for name in self.methods for one in (fitting if name == ALL else expand_contexts(name))]
        object.__setattr__(self, "methods", tuple(str(parse_variant(name)) for name in names))
        with_factors = [variant for variant in self.variants if variant.factor_code]
        if with_factors and not self.suite.factors:
            raise InputError(
                f"{with_factors[0]} needs a suite with named factors, {self.suite.name} has none: leave that row out."
            )

    @cached_property
    def variants(self) -> list[Variant]:
        """The rows, in order."""
        return [parse_variant(name) for name in dict.fromkeys((*self.methods, *(CONTROLS if self.controls else ())))]

    def jobs(self, seed: int, lr: float) -> list[JobConfig]:
        """Return the jobs of one seed: one per backbone and training."""
        groups: dict[Variant, list[Variant]] = {}
        for variant in self.variants:
            groups.setdefault(variant.training, []).append(variant)
        return [
            self._job(trained, tuple(rows), backbone, replace(self.training, seed=seed, lr=lr))
            for backbone in self.backbones
            for trained, rows in groups.items()
        ]

    def _job(
        self, trained: Variant, variants: tuple[Variant, ...], backbone: str, training: TrainingConfig
    ) -> JobConfig:
        adapted = trained
        if trained.control == "equal-budget":  # gets the largest budget among the reference method's rows
            references = [v for v in self.variants if v.method == REFERENCE and v.factor_code]
            adapted = references[0] if references else Variant(REFERENCE)
        adapter = AdapterConfig(
            adapted.method,
            rank=method(adapted.method).rank_for(self.rank),
            core=adapted.core,
            factors=self.suite.factors if adapted.factor_code else (),
            extractor=self.extractor,
            hidden=self.hidden,
            head_init_std=self.head_init_std if trained.has_latent_code else None,
            code_norm_limit=self.code_norm_limit,
            rank_pattern=self.rank_pattern if adapted.method == REFERENCE else {},
            targets=self.targets,
            seed=training.seed,
        )
        if trained.training_set_size == 1 or len(training.set_sizes) == 1:
            training = replace(training, set_size=trained.training_set_size)
        return JobConfig(variants, backbone, self.suite, adapter, training, self.ks, self.download, self.trial_steps)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ComparisonConfig":
        """Read what `to_dict` returned, also that of an earlier version.

        Raises:
            InputError: These are not settings of a comparison.
        """
        if not isinstance(values, Mapping) or "suite" not in values:
            raise InputError("Settings of a comparison have a suite, these have none: run the comparison again.")
        return from_plain(cls, values)
