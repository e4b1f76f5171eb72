"""LoRA (Hu et al. 2106.09685), and Conv-LoRA in convolutions (arXiv 2504.00460, Eq. 5).

ΔW = Σ_r A[..,r] B[r,:]: a linear layer, or a small convolution, of width R, then a 1×1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from metalora.adapters.formats import Factorised, Factors, Shape


@dataclass(frozen=True)
class LoRA(Factorised):
    """A (*kernel, I, R) and B (R, O)."""

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shapes of A and B."""
        return {"A": (*kernel, inputs, self.rank), "B": (self.rank, outputs)}

    def dense(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Contract A and B over r."""
        return torch.einsum("...ir,ro->oi...", factors["A"], factors["B"])[None]

    def down(self, A: Tensor) -> Tensor:
        """Move r to the front."""
        return torch.einsum("...ir->ri...", A)

    def up(self, B: Tensor) -> Tensor:
        """Return B, which has the axes that are wanted."""
        return B
