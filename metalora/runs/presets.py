"""Sizes of training that the app offers by name."""

from dataclasses import dataclass, replace

from metalora.adapters.config import AdapterConfig
from metalora.training.config import TrainingConfig

VALIDATIONS = 10


@dataclass(frozen=True)
class Preset:
    """A size for everyone: R of Meta-LoRA TR, and how long it is trained."""

    ring_rank: int
    hidden: int
    steps: int
    batch_size: int

    def adapter(self, method: str) -> AdapterConfig:
        """Settings of `method` at this size: R for the tensor ring, R² elsewhere, a third of that a branch."""
        ranks = {"metalora-tr": self.ring_rank, "multi-lora": max(1, self.ring_rank**2 // 3)}
        return AdapterConfig(method, rank=ranks.get(method, self.ring_rank**2), hidden=self.hidden)

    def training(self) -> TrainingConfig:
        """Steps and batch, validated ten times; everything else at its default."""
        every = max(1, self.steps // VALIDATIONS)
        return replace(TrainingConfig(), steps=self.steps, batch_size=self.batch_size, validate_every=every)


PRESETS = {"Tiny": Preset(2, 16, 60, 32), "Default": Preset(3, 32, 300, 64), "Large": Preset(4, 64, 1000, 64)}
