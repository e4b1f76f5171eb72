"""Prompt tokens of every block (Jia et al. 2203.12119, VPT-deep).

    [x', _] = block_l([x, P_l]),   P_l (R, D)

The R tokens of a block are its own, and what they become is dropped behind it. At the start they are uniform within
±√(6 / (3 K² + D)), K = 16 the side of a patch; so unlike other methods this one does not start as the original network.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metalora.adapters.formats import Factors, Shape
from metalora.adapters.places import BLOCK, Place
from metalora.adapters.tokens import Tokens

PATCH = 16  # K


@dataclass(frozen=True)
class Prompts(Tokens):
    """P (R, D), the tokens of a block."""

    place: ClassVar[Place] = BLOCK
    starts_as_original: ClassVar[bool] = False
    not_a_weight: ClassVar[str] = "its prompt tokens change no weight"

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shape of P."""
        return {"P": (self.rank, inputs)}

    def bound(self, name: str, fan_in: int) -> float:
        """Return √(6 / (3 K² + D))."""
        return (6 / (3 * PATCH**2 + fan_in)) ** 0.5

    def run(self, base: nn.Module, x: Tensor, factors: Factors) -> Tensor:
        """Return what the block makes of x (N, L, D) beside its prompt tokens."""
        prompts = factors["P"].to(x.dtype).expand(len(x), -1, -1)
        return base(torch.cat([x, prompts], dim=1))[:, : x.shape[1]]
