"""Multi-LoRA (Wang et al. 2311.11501): ΔW = Σ_m (A_m B_m) ⊙ s_m, with learned scales s_m (O) that start at 0."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from metalora.adapters.config import AdapterConfig
from metalora.adapters.formats import Factorised, Factors, Shape


@dataclass(frozen=True)
class MultiLoRA(Factorised):
    """A (m, *kernel, I, R), B (m, R, O) and s (m, O); the rank is each branch's."""

    branches: int = AdapterConfig.branches

    @classmethod
    def from_config(cls, config: AdapterConfig, rank: int, outputs: int) -> Self:
        """Build it with as many branches as the settings say."""
        return cls(rank, config.branches)

    @property
    def width(self) -> int:
        """M, the width of all branches."""
        return self.branches * self.rank

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shapes of A, B and s."""
        m, r = self.branches, self.rank
        return {"A": (m, *kernel, inputs, r), "B": (m, r, outputs), "s": (m, outputs)}

    def factors(self, parameters: Factors, scale: float) -> Factors:
        """Return A, scaled, and B times s."""
        return {"A": parameters["A"] * scale, "B": parameters["B"] * parameters["s"][:, None]}

    def dense(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Contract A and B over m and r."""
        return torch.einsum("m...ir,mro->oi...", factors["A"], factors["B"])[None]

    def down(self, A: Tensor) -> Tensor:
        """Put the branches side by side."""
        return torch.einsum("m...ir->mri...", A).flatten(0, 1)

    def up(self, B: Tensor) -> Tensor:
        """Put the branches below each other."""
        return B.flatten(0, 1)
