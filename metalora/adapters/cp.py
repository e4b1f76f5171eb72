"""Meta-LoRA CP (arXiv 2504.00460, Eq. 6): ΔW_n = Σ_r A[..,r] B[r,:] c_n[r], a diagonal core between LoRA's factors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metalora.adapters.formats import Factors, Shape
from metalora.adapters.lora import LoRA


@dataclass(frozen=True)
class CP(LoRA):
    """A and B as in `LoRA`, and a core c (R), at whose identity, ones, it is LoRA."""

    @property
    def core_shape(self) -> Shape:
        """(R)."""
        return (self.rank,)

    def dense(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Contract A, B and c over the one r that they share."""
        return torch.einsum("...ir,ro,nr->noi...", factors["A"], factors["B"], core)

    def mix(self, z: Tensor, core: Tensor) -> Tensor:
        """Scale every narrow channel."""
        return z * core[:, None]

    def fold(self, up: Tensor, core: Tensor) -> Tensor:
        """Scale every row of B."""
        return core[:, :, None] * up
