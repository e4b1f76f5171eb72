"""CondConv (Yang et al. 1904.04971): ΔW_n = Σ_e α_n[e] W_e, whole weights as experts, α_n = sigmoid(W_r x̄_n).

The paper trains a network of such layers; here they are the update of frozen ones. The rank has no effect.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metalora.adapters.formats import Factors, Shape
from metalora.adapters.molora import MoLoRA


@dataclass(frozen=True)
class CondConv(MoLoRA):
    """router (I, e) and A (e, *kernel, I, O), as a `MoLoRA` whose B are identities."""

    ranked: ClassVar[bool] = False

    def identity_core(self) -> Tensor:
        """Return the weights at scores of 0."""
        return torch.full((self.branches,), 0.5)

    def constrain(self, core: Tensor) -> Tensor:
        """Turn scores into weights from 0 to 1, each expert by itself."""
        return core.sigmoid()

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shapes of router and A."""
        return {"router": (inputs, self.branches), "A": (self.branches, *kernel, inputs, outputs)}

    def factors(self, parameters: Factors, scale: float) -> Factors:
        """Return A, scaled, an identity for each expert, and the router."""
        A = parameters["A"] * scale
        identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        return {"A": A, "B": identity.expand(len(A), -1, -1), "router": parameters["router"]}
