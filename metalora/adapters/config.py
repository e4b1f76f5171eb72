"""What a person can set about an adapter, validated."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from metalora.adapters.methods import method
from metalora.adapters.patterns import check_pattern
from metalora.util.checks import MAX_SEED, check_float, check_int
from metalora.util.config import from_plain, to_plain
from metalora.util.errors import InputError

MAX_WIDTH, MAX_TASKS = 65_536, 1_000_000


def _patterns(name: str, value: object) -> tuple[str, ...]:
    """Return one regular expression, or several, as a tuple."""
    patterns = (value,) if isinstance(value, str) else value
    if not isinstance(patterns, Iterable) or not all(isinstance(pattern, str) for pattern in patterns):
        raise InputError(f"{name} is {value!r}: use a regular expression or a list of them.")
    for pattern in patterns:
        check_pattern(pattern)
    return tuple(patterns)


@dataclass(frozen=True)
class AdapterConfig:
    """Settings of an adapter.

    Attributes:
        method: Method, as `metalora info` lists them.
        rank: Rank R; of each branch in Multi-LoRA.
        alpha: The update is scaled by alpha / rank; None is scale 1.
        targets: Regular expressions over the names of layers to adapt; None is every Conv2d and Linear.
        exclude: Regular expressions over the names of layers to leave alone.
        modules_to_save: Regular expressions over the names of modules, such as norms or a head, that are trained as a
            whole, saved and loaded with the adapter.
        branches: Branches of Multi-LoRA, experts of mixtures.
        extractor: What cores are read from: self, stem, the name of a backbone, or (in Python) a module that maps
            images to features (N, F) and has num_features.
        condition: Numbers of the condition that cores are generated from, given to the model with the images; 0: they
            are generated from the images. For methods that are told the task, the number of tasks.
        hidden: Width of the mapping net.
        code: Width of the mapping net's latent code.
        factors: Number of values of each factor of the suite, which the code then predicts; none is a latent code.
        head_init_std: Standard deviation of the first weights of the mapping net's last layer; None is 0.1 for a
            factor code, 0.03 for a latent code.
        code_norm_limit: Length that a latent code stays below; 0 is no limit.
        core: Whether cores are generated for each image, or one constant core is learned for all.
        core_distribution: What is generated for each value of a core: point, the value itself, or gaussian, the mean
            and variance of a normal distribution, as in C-LoRA: training draws from it, use takes the mean.
        rank_pattern: Regular expression → rank of the layers whose name it matches.
        dropout: Probability of dropout on the adapter's input, in training.
        adapter_dtype: Precision of what is trained: float32, also beside a backbone of half precision (float64 beside
            one of float64), or that of the backbone.
        seed: Seed of the initial values.

    Raises:
        InputError: a value that no adapter can have.
    """

    method: str = "metalora-tr"
    rank: int = 4
    alpha: float | None = None
    targets: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    branches: int = 3
    extractor: str | Any = "self"
    condition: int = 0
    hidden: int = 32
    code: int = 16
    factors: tuple[int, ...] = ()
    head_init_std: float | None = None
    code_norm_limit: float = 4.0
    core: str = "generated"
    core_distribution: str = "point"
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    dropout: float = 0.0
    adapter_dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        method(self.method)
        self._check_patterns()
        self._check_integers()
        if self.alpha is not None:
            check_float("alpha", self.alpha, lambda value: value > 0, "a positive number, or leave it out for scale 1")
        if self.head_init_std is not None:
            use = "a number of 0 or more, or leave it out"
            check_float("head_init_std", self.head_init_std, lambda value: value >= 0, use)
        use = "a length above 0, or 0 for none"
        check_float("code_norm_limit", self.code_norm_limit, lambda value: value >= 0, use)
        check_float("dropout", self.dropout, lambda value: 0 <= value < 1, "a fraction from 0 to below 1")
        if self.adapter_dtype not in ("float32", "backbone"):
            raise InputError(f"adapter_dtype is {self.adapter_dtype!r}: use float32 or backbone.")
        if self.core not in ("generated", "constant"):
            raise InputError(f"core is {self.core!r}: use generated or constant.")
        self._check_distribution()
        if not isinstance(self.extractor, str) and not hasattr(self.extractor, "state_dict"):
            raise InputError(f"extractor is {self.extractor!r}: use self, stem, a backbone's name or a module.")

    def __hash__(self) -> int:
        pairs = frozenset(self.rank_pattern.items())
        return hash(tuple(pairs if f.name == "rank_pattern" else getattr(self, f.name) for f in fields(self)))

    def _check_distribution(self) -> None:
        if self.core_distribution not in ("point", "gaussian"):
            raise InputError(f"core_distribution is {self.core_distribution!r}: use point or gaussian.")
        if self.gaussian and (self.told or not self.generates):
            title = method(self.method).title + (" with a constant core" if self.core == "constant" else "")
            raise InputError(
                f"core_distribution is gaussian, but {title} generates no core of an image: use point, or generated "
                "cores of another method, such as metalora-tr."
            )

    def _check_patterns(self) -> None:
        for name in ("targets", "exclude", "modules_to_save"):  # one expression or a list, kept as a tuple
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _patterns(name, value))
        if not isinstance(self.rank_pattern, Mapping):
            raise InputError(f"rank_pattern is {self.rank_pattern!r}: use a mapping from patterns to ranks.")
        object.__setattr__(self, "rank_pattern", dict(self.rank_pattern))
        _patterns("rank_pattern", self.rank_pattern)

    def _check_integers(self) -> None:
        check_int("seed", self.seed, 0, MAX_SEED)
        check_int("condition", self.condition, 0, MAX_TASKS)
        check_int("rank", self.rank)
        for name in ("branches", "hidden", "code"):
            check_int(name, getattr(self, name), 1, MAX_WIDTH)
        for pattern, rank in self.rank_pattern.items():
            check_int(f"rank_pattern[{pattern!r}]", rank)
        object.__setattr__(self, "factors", tuple(self.factors))
        for count in self.factors:
            check_int("factors", count, 2, MAX_WIDTH)

    @property
    def told(self) -> bool:
        """Whether cores are generated from the image's task, which is told."""
        return method(self.method).told and self.generates

    def with_tasks(self, count: int) -> "AdapterConfig":
        """Return the settings for so many seen tasks, which only methods that are told the task depend on."""
        return replace(self, condition=count) if self.told else self

    @property
    def generates(self) -> bool:
        """Whether cores are generated for each image."""
        return method(self.method).generated and self.core == "generated"

    @property
    def reads_sets(self) -> bool:
        """Whether it makes something of images that are known to come from one task."""
        return self.generates or method(self.method).context is not None

    @property
    def gaussian(self) -> bool:
        """Whether every image gets a normal distribution of cores."""
        return self.core_distribution == "gaussian"

    @property
    def initial_head_std(self) -> float:
        """Standard deviation of the first weights of the mapping net's last layer.

        A factor code is at most 1 long for each factor, a latent code several times as long: at 0.1 its cores are so
        far apart at first that most trainings on single images end below a constant core, and at 0.01 short trainings
        are slow to leave it.
        """
        return (0.1 if self.factors else 0.03) if self.head_init_std is None else self.head_init_std

    def predicts(self, factors: tuple[int, ...]) -> bool:
        """Return whether the code predicts factors of these numbers of values."""
        return bool(self.factors) and self.factors == factors

    def check_factors(self, suite: str, factors: tuple[int, ...]) -> None:
        """Check that the code predicts the factors of a suite, if it predicts any.

        Args:
            suite: name of the suite.
            factors: numbers of values of its factors; () where it has none.

        Raises:
            InputError: it predicts others.
        """
        if self.factors and not self.predicts(factors):
            has = factors or "none"
            raise InputError(
                f"The adapter predicts factors of {self.factors} values, {suite} has {has}: set factors to the suite's."
            )

    def scale(self, rank: int) -> float:
        """Return the factor on the update of a layer of this rank."""
        return 1.0 if self.alpha is None else self.alpha / rank

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; an extractor module is written as "module"."""
        return to_plain(self if isinstance(self.extractor, str) else replace(self, extractor="module"))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AdapterConfig":
        """Build the configuration with these values; an unknown field is an InputError."""
        return from_plain(cls, values)
