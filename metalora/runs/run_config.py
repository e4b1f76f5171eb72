"""Settings of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from metalora.adapters.config import AdapterConfig
from metalora.evaluation.config import EmbedConfig
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig, identity_of
from metalora.util.checks import check_float, check_ks
from metalora.util.config import from_plain, to_plain
from metalora.util.errors import InputError
from metalora.util.paths import expand


@dataclass(frozen=True)
class RunConfig:
    """Settings of a run: one adapter, trained on a suite and measured.

    Attributes:
        backbone: Bundled backbone or timm name.
        suite: Settings of the suite.
        adapter: Settings of the adapter.
        training: Settings of the training.
        ks: K of k-NN.
        start: Adapter to train further, RUN/adapter or a bundled one such as resnet20/metalora-tr. None: a new adapter.
        minutes: Time that the training may take, roughly; the steps follow from it and from the images, and the state
            of the best validation is kept. None: as the training's settings say.
        tune: Choose the learning rate by three short trials on validation.

    Raises:
        InputError: there is no K, or the suite does not have the factors that a new adapter is to predict.
    """

    backbone: str = "resnet20"
    suite: SuiteConfig = field(default_factory=SuiteConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    ks: tuple[int, ...] = (5, 10)
    start: str | None = None
    minutes: float | None = None
    tune: bool = False

    def __post_init__(self) -> None:
        check_ks(self.ks)
        if self.minutes is not None:
            check_float("minutes", self.minutes, lambda value: value > 0, "a number above 0")
        if self.start is None:  # a trained factor code may be trained further by classes alone
            self.adapter.check_factors(self.suite.name, self.suite.factors)

    def with_factor_code(self) -> "RunConfig":
        """Return the same settings with a code that predicts the factors of the suite's tasks.

        Raises:
            InputError: the suite has none.
        """
        if not self.suite.factors:
            raise InputError("This suite's tasks combine no named factors: choose another suite, or a latent code.")
        return replace(self, adapter=replace(self.adapter, factors=self.suite.factors))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Build the settings from what `to_dict` returned, or an earlier version of it."""
        return from_plain(cls, values)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that decide the result, in canonical form, each under a name such as "training.lr"."""
        kind, colon, path = self.suite.name.partition(":")
        suite = to_plain(self.suite) | {"name": f"{kind}:{expand(path).absolute()}" if colon else kind}
        suite["hold_out"] = sorted(suite["hold_out"])
        del suite["data"], suite["download"]  # where bundled data sets are, not what is in them
        predicts = self.adapter.predicts(self.suite.factors)
        parts = {"suite": suite, **identity_of(self.training, self.adapter, predicts=predicts)}
        flat = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
        for name, is_open in (("steps", self.minutes is not None), ("lr", self.tune)):
            if is_open:
                del flat[f"training.{name}"]
        if self.minutes is not None:
            flat.pop("training.keep_best", None)
        chosen = {"minutes": self.minutes, "tune": self.tune} if self.minutes or self.tune else {}
        return {"backbone": self.backbone, **flat, "ks": sorted(self.ks), "start": self.start, **chosen}

    @property
    def embed_config(self) -> EmbedConfig:
        """How its model is evaluated: as it was trained."""
        embed_config = self.training.embed_config
        return embed_config if self.adapter.reads_sets else replace(embed_config, set_size=1)
