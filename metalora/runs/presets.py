"""Sizes of training that the app offers by name."""

from dataclasses import dataclass

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import method
from metalora.training.config import TrainingConfig

VALIDATIONS = 10


@dataclass(frozen=True)
class Preset:
    """A size of adapters and trainings.

    Attributes:
        rank: R of Meta-LoRA TR, from which other methods derive theirs.
        hidden: width of the mapping net.
        steps: training steps.
        batch_size: images of a step.
    """

    rank: int
    hidden: int
    steps: int
    batch_size: int

    def adapter(self, name: str) -> AdapterConfig:
        """Return the settings of a method at this size."""
        return AdapterConfig(name, rank=method(name).rank_for(self.rank), hidden=self.hidden)

    def training(self) -> TrainingConfig:
        """Return the settings of a training of this size, validated ten times."""
        every = max(1, self.steps // VALIDATIONS)
        return TrainingConfig(steps=self.steps, batch_size=self.batch_size, validate_every=every)


PRESETS = {"Tiny": Preset(2, 16, 60, 32), "Default": Preset(3, 32, 300, 64), "Large": Preset(4, 64, 1000, 64)}
