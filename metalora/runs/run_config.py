"""A run: one configuration trained on a suite, in a folder of its own.

run.json                 settings, versions, status ("queued", "running", "stopped", "failed", "finished"), worker
events.jsonl             a line for every step: losses, rates, images per second, time left
log.txt                  what a worker printed
checkpoint.safetensors   until the run is finished
adapter/                 what `metalora.load` reads, of a stopped run too
result.json              k-NN accuracies, budget
stop                     asks whoever trains the run to stop after the step at hand

A run that was not queued writes nothing before the suite is read and the model stands; the same settings go on where
the folder's run was stopped. Whoever looks from outside is told the truth: a run whose worker is gone does not run.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from metalora.adapters.config import AdapterConfig
from metalora.evaluation.embedding import EmbedConfig
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.checks import check_ks
from metalora.util.errors import InputError
from metalora.util.renamed import upgrade_settings


@dataclass(frozen=True)
class RunConfig:
    """Settings of a run.

    Attributes:
        start: saved adapter to go on from, a folder or a bundled name; None: updates begin at zero.
    """

    backbone: str = "resnet20"
    suite: SuiteConfig = field(default_factory=SuiteConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    ks: tuple[int, ...] = (5, 10)
    start: str | None = None

    def __post_init__(self) -> None:
        check_ks(self.ks)
        if self.start is None:  # what has learnt to name factors may go on without naming
            self.adapter.check_factors(self.suite.name, self.suite.factors)

    def with_factor_code(self) -> "RunConfig":
        """The same with codes that name the factors of the suite's tasks.

        Raises:
            InputError: they have none.
        """
        if not self.suite.factors:
            raise InputError("This suite's tasks combine no named factors: choose another suite, or a free code.")
        return replace(self, adapter=replace(self.adapter, factors=self.suite.factors))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return json.loads(json.dumps({**asdict(self), "adapter": self.adapter.to_dict()}))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """The settings that `to_dict` wrote."""
        values = upgrade_settings(values)
        suite = {**values["suite"], "hold_out": tuple(values["suite"]["hold_out"])}
        return cls(
            values["backbone"],
            SuiteConfig(**suite),
            AdapterConfig.from_dict(values["adapter"]),
            TrainingConfig(**values["training"]),
            tuple(values["ks"]),
            values.get("start"),
        )

    @property
    def embed_config(self) -> EmbedConfig:
        """How its model is evaluated: as it was trained."""
        training = self.training
        return EmbedConfig(
            set_size=training.set_size if self.adapter.generates else 1,
            seed=training.seed,
            batch_size=2 * training.batch_size,
            device=training.device,
            precision=training.precision,
        )
