"""Meta-LoRA TR (arXiv 2504.00460, Eq. 7; tensor ring: Zhao et al. 1606.05535).

ΔW_n = Σ A[a,..,b] B[b,:,c] C_n[c,a]: a ring of A, B and the core, or R parallel LoRAs that share one core.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metalora.adapters.formats import Factorised, Factors, Shape


@dataclass(frozen=True)
class TR(Factorised):
    """A (R, *kernel, I, R), B (R, O, R) and a core C (R, R), at whose identity it is R parallel LoRAs."""

    @classmethod
    def max_rank(cls, inputs: int, outputs: int, *, by_pattern: bool = False) -> int:
        """Return the root of the smaller side, or of the whole weight where a pattern sets the rank.

        A single ΔW gains nothing beyond the former, but those of all cores span up to R² dimensions of
        inputs · outputs: W times any exchange of its I channels takes R = K² of the kernel's positions, for instance.
        """
        return math.isqrt(inputs * outputs if by_pattern else min(inputs, outputs))

    @classmethod
    def rank_error(cls, rank: int, layer: str, *, by_pattern: bool = False) -> str:
        """Say what has R² numbers."""
        if by_pattern:
            return f"has cores of {rank}² numbers, more than the weight of {layer} has"
        return f"needs a width of {rank}², over the smaller side of {layer}"

    @property
    def width(self) -> int:
        """M, the R² pairs of two legs of the ring."""
        return self.rank**2

    @property
    def core_shape(self) -> Shape:
        """(R, R)."""
        return (self.rank, self.rank)

    def identity_core(self) -> Tensor:
        """Return the identity, (R, R)."""
        return torch.eye(self.rank)

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shapes of A and B."""
        return {"A": (self.rank, *kernel, inputs, self.rank), "B": (self.rank, outputs, self.rank)}

    def dense(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Contract the ring."""
        return torch.einsum("a...ib,boc,nca->noi...", factors["A"], factors["B"], core)

    # The narrow side is (b, a) before the core and (b, c) behind it: mixing is then one product without a copy.
    def down(self, A: Tensor) -> Tensor:
        """Flatten the legs (b, a) to the front."""
        return torch.einsum("a...ib->bai...", A).flatten(0, 1)

    def up(self, B: Tensor) -> Tensor:
        """Flatten the legs (b, c) to the front."""
        return B.transpose(1, 2).flatten(0, 1)

    def mix(self, z: Tensor, core: Tensor) -> Tensor:
        """Exchange leg a for leg c."""
        rows = z.reshape(z.shape[0], z.shape[1] * self.rank, self.rank)
        return (rows @ core.mT).reshape(z.shape)

    def fold(self, up: Tensor, core: Tensor) -> Tensor:
        """Exchange leg c for leg a."""
        return torch.einsum("bco,nca->nbao", up.unflatten(0, self.core_shape), core).flatten(1, 2)
