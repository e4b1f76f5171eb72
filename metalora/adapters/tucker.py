"""Meta-LoRA Tucker (Tucker 1966): ΔW_n = Σ A[..,p] G_n[p,q] B[q,:], a generated matrix between LoRA's factors.

CP's core is its diagonal; LoRA-XS (Bałazy et al. 2405.17604) learns one such matrix for all inputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from metalora.adapters.formats import Factors, Shape
from metalora.adapters.lora import LoRA


@dataclass(frozen=True)
class Tucker(LoRA):
    """A and B as in `LoRA`, and a core G (R, R), at whose identity it is LoRA."""

    @property
    def core_shape(self) -> Shape:
        """(R, R)."""
        return (self.rank, self.rank)

    def identity_core(self) -> Tensor:
        """Return the identity, (R, R)."""
        return torch.eye(self.rank)

    def dense(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Contract A, G and B."""
        return torch.einsum("...ip,npq,qo->noi...", factors["A"], core, factors["B"])

    def mix(self, z: Tensor, core: Tensor) -> Tensor:
        """Multiply the narrow activations with G."""
        return z @ core

    def fold(self, up: Tensor, core: Tensor) -> Tensor:
        """Multiply G with B."""
        return core @ up
