"""Meta-LoRA TT: a tensor train (Oseledets 2011, Novikov et al. 1509.06569) with a generated core in its middle.

With the input's index i = (i1, i2) and the output's o = (o1, o2):

    ΔW_n = Σ A1[..,i1,a] A2[a,i2,p] G_n[p,q] B1[q,o1,b] B2[b,o2]

It is Tucker's format with A and B themselves trains, for layers too wide for LoRA's factors.
"""

import math
from dataclasses import dataclass

import torch

from metalora.adapters.formats import Factors, Shape
from metalora.adapters.tucker import Tucker


def split_width(width: int) -> tuple[int, int]:
    """Return the two factors of a width that are closest to each other, the smaller one first."""
    small = next(a for a in range(math.isqrt(width), 0, -1) if width % a == 0)
    return small, width // small


@dataclass(frozen=True)
class TensorTrain(Tucker):
    """A1 (*kernel, i1, R), A2 (R, i2, R), B1 (R, o1, R) and B2 (R, o2), and a core G (R, R)."""

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shapes of the four trained cores."""
        (i1, i2), (o1, o2), r = split_width(inputs), split_width(outputs), self.rank
        return {"A1": (*kernel, i1, r), "A2": (r, i2, r), "B1": (r, o1, r), "B2": (r, o2)}

    def bound(self, name: str, fan_in: int) -> float:
        """Return bounds by which A starts as large as LoRA's, on average."""
        return {"A1": fan_in**-0.5}.get(name, (3 / self.rank) ** 0.5)

    def factors(self, parameters: Factors, scale: float) -> Factors:
        """Contract either half: A (*kernel, I, R), scaled, and B (R, O)."""
        A = torch.einsum("...ia,ajp->...ijp", parameters["A1"], parameters["A2"]).flatten(-3, -2)
        B = torch.einsum("qib,bj->qij", parameters["B1"], parameters["B2"]).flatten(1)
        return {"A": A * scale, "B": B}
