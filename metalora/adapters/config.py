"""What a person can set about an adapter, validated, JSON both ways."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn

from metalora.adapters.formats import MultiLoRA
from metalora.adapters.methods import method
from metalora.util.checks import LARGEST_SEED, check_float, check_int
from metalora.util.errors import InputError, choices
from metalora.util.renamed import upgrade_settings


def _patterns(name: str, value: object) -> tuple[str, ...]:
    """One regular expression, or several, as a tuple."""
    several = (value,) if isinstance(value, str) else value
    if not isinstance(several, Iterable) or not all(isinstance(pattern, str) for pattern in several):
        raise InputError(f"{name} is {value!r}: use a regular expression or a list of them.")
    for pattern in several:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(f"{pattern!r} is not a regular expression ({error}): correct it.") from error
    return tuple(several)


@dataclass(frozen=True)
class AdapterConfig:
    """Settings of an adapter.

    Raises:
        InputError: a value that no adapter can have.
    """

    method: str = "metalora-tr"  # a name of methods.py
    rank: int = 4  # R; of each branch for Multi-LoRA
    alpha: float | None = None  # scale is alpha / rank; None: scale 1
    targets: tuple[str, ...] | None = None  # regular expressions over module names; None: every Conv2d and Linear
    exclude: tuple[str, ...] = ()  # regular expressions of modules to leave alone
    branches: int = 3  # Multi-LoRA's m
    extractor: str | nn.Module = "self"  # "self", "stem", a backbone's name, or images → (N, F) with num_features
    hidden: int = 32  # width of the mapping net
    code: int = 16  # width of its code
    factors: tuple[int, ...] = ()  # values of each named factor: then the code names them, see `MappingNet`
    head_init_std: float | None = (
        None  # of the last map's first weights; None: 0.1 where the code names factors, else 0.03
    )
    code_norm_limit: float = 4.0  # that the length of a free code stays below, see `MappingNet`; 0: any length
    core: str = "generated"  # or "constant": one learned core for all images, the nested static control
    rank_pattern: Mapping[str, int] = field(default_factory=dict)  # regular expression → rank
    dropout: float = 0.0  # on the adapter's input, in training
    seed: int = 0  # of the initial values

    def __post_init__(self) -> None:
        method(self.method)
        for name in ("targets", "exclude"):  # one expression or a list, kept as a tuple
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _patterns(name, value))
        if not isinstance(self.rank_pattern, Mapping):
            raise InputError(f"rank_pattern is {self.rank_pattern!r}: use a mapping from patterns to ranks.")
        object.__setattr__(self, "rank_pattern", dict(self.rank_pattern))
        _patterns("rank_pattern", self.rank_pattern)
        check_int("seed", self.seed, 0, LARGEST_SEED)
        ranks = {"rank": self.rank, **{f"rank_pattern[{key!r}]": r for key, r in self.rank_pattern.items()}}
        for name, value in {**ranks, "branches": self.branches, "hidden": self.hidden, "code": self.code}.items():
            check_int(name, value)
        object.__setattr__(self, "factors", tuple(self.factors))
        for count in self.factors:
            check_int("factors", count, 2)
        if self.alpha is not None:
            check_float("alpha", self.alpha, lambda value: value > 0, "a positive number, or leave it out for scale 1")
        if self.head_init_std is not None:
            check_float(
                "head_init_std", self.head_init_std, lambda value: value >= 0, "a number of 0 or more, or leave it out"
            )
        check_float("dropout", self.dropout, lambda value: 0 <= value < 1, "a share from 0 to below 1")
        check_float(
            "code_norm_limit", self.code_norm_limit, lambda value: value >= 0, "a length above 0, or 0 for none"
        )
        if self.core not in ("generated", "constant"):
            raise InputError(f"core is {self.core!r}: use generated or constant.")
        if not isinstance(self.extractor, str | nn.Module):
            raise InputError(f"extractor is {self.extractor!r}: use self, stem, a backbone's name or a module.")

    @property
    def generates(self) -> bool:
        """Whether cores are generated for each image."""
        return method(self.method).generated and self.core == "generated"

    @property
    def initial_head_std(self) -> float:
        """Standard deviation of the last map's first weights.

        A code that names factors is at most 1 long for each of them. A free code is several times as long: at 0.1 its
        cores lie so far apart at first that most trainings on single images end below a constant core;
        at 0.01 short trainings are slow to leave it.
        """
        return (0.1 if self.factors else 0.03) if self.head_init_std is None else self.head_init_std

    def predicts(self, factors: tuple[int, ...]) -> bool:
        """Whether the code names factors of these numbers of values."""
        return bool(self.factors) and self.factors == factors

    def check_factors(self, suite: str, factors: tuple[int, ...]) -> None:
        """See that the code names the factors of a suite, if it names any.

        Args:
            suite: its name.
            factors: numbers of values of its factors; () where they have no names.

        Raises:
            InputError: it names others.
        """
        if self.factors and not self.predicts(factors):
            has = factors or "none"
            raise InputError(f"The adapter names factors of {self.factors} values, {suite} has {has}: set factors so.")

    def format(self, rank: int) -> Any:
        """The update format of a layer of this rank (an object of `formats.py`)."""
        kind = method(self.method).format
        return kind(rank, self.branches) if kind is MultiLoRA else kind(rank)

    def scale(self, rank: int) -> float:
        """Factor on the update of a layer of this rank."""
        return 1.0 if self.alpha is None else self.alpha / rank

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; an extractor module is written as "module"."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extractor"}
        extractor = self.extractor if isinstance(self.extractor, str) else "module"
        return json.loads(json.dumps({**plain, "extractor": extractor}))

    def to_json(self) -> str:
        """JSON text."""
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AdapterConfig":
        """The configuration with these values; an unknown field is an InputError."""
        values = upgrade_settings(values)
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise InputError(f"Unknown setting {name!r} of an adapter: use {choices(name, known)}.")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> "AdapterConfig":
        """The configuration that `to_json` wrote."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"The configuration is not JSON ({error}): correct it.") from error
        if not isinstance(values, dict):
            raise InputError('The configuration is not a JSON object: write {"method": …}.')
        return cls.from_dict(values)
