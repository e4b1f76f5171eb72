"""A prefix of keys and values with a gate that starts at zero (Zhang et al. 2303.16199, LLaMA-Adapter).

    o = softmax(q Kᵀ) V + g · softmax(q K_Pᵀ) V_P,   K_P = P W_K, V_P = P W_V

The R tokens P of a layer have a softmax of their own, whose result the gate g weights. (The paper has a gate for each
head "in practice"; here a layer has one.)
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from metalora.adapters.formats import Factors, Shape
from metalora.adapters.places import ATTENTION, Place
from metalora.adapters.tokens import Tokens


@dataclass(frozen=True)
class Prefix(Tokens):
    """P (R, D), and g (1)."""

    place: ClassVar[Place] = ATTENTION
    not_a_weight: ClassVar[str] = "its prefix of keys and values changes no weight"

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shapes of P and g."""
        return {"P": (self.rank, inputs), "g": (1,)}

    def run(self, base: Any, x: Tensor, factors: Factors) -> Tensor:
        """Return what the attention makes of x (N, L, D), and of the prefix."""
        prefix = factors["P"].to(x.dtype).expand(len(x), -1, -1)
        qkv = base.qkv(torch.cat([prefix, x], dim=1)).unflatten(-1, (3, base.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k, v = q[:, :, self.rank :], k[:, :, : self.rank], v[:, :, : self.rank]
        found = F.scaled_dot_product_attention(base.q_norm(q), base.k_norm(k), v)
        added = F.linear(found.transpose(1, 2).flatten(2), base.proj.weight)  # linear: it can be added behind
        return base(x) + factors["g"].to(x.dtype) * added
