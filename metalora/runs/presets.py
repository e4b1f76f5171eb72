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
        hidden: Width of the mapping net.
        steps: Training steps.
        batch_size: Images of a step.
        lr: Learning rate.
        set_size: Images of a task that share a core or a context, where the method reads sets.
    """

    rank: int
    hidden: int
    steps: int
    batch_size: int = 64
    lr: float = TrainingConfig.lr
    set_size: int = 8

    def adapter(self, name: str) -> AdapterConfig:
        """Return the settings of a method at this size."""
        return AdapterConfig(name, rank=method(name).rank_for(self.rank), hidden=self.hidden)

    def training(self, name: str = "metalora-tr") -> TrainingConfig:
        """Return the settings of a method's training at this size, validated ten times."""
        return TrainingConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            lr=self.lr,
            set_size=self.set_size if method(name).reads_sets else 1,
            validate_every=max(1, self.steps // VALIDATIONS),
        )


# A smaller training has a higher rate, so that it gets somewhere in its steps.
PRESETS = {"Tiny": Preset(2, 16, 120, lr=6e-3), "Default": Preset(3, 32, 300), "Large": Preset(4, 64, 1000)}
