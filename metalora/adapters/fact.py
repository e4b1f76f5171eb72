"""FacT (Jie and Deng 2212.03145): updates of all layers factorised together, so that layers share A and B.

    ΔW_l = A Σ_l B,   tensor train: Σ_l is free;   Tucker: Σ_l = Σ_k P_l[k] C[k] with a C that is shared

The paper shares among all layers of a Vision Transformer, here layers whose weights have equal shapes share.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from metalora.adapters.formats import Factors, Shape
from metalora.adapters.lora import LoRA


@dataclass(frozen=True)
class FacTTrain(LoRA):
    """A (*kernel, I, R) and B (R, O), shared, and the layer's own S (R, R)."""

    shared: ClassVar[tuple[str, ...]] = ("A", "B")

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shapes of A, S and B."""
        r = self.rank
        return {"A": (*kernel, inputs, r), "S": (r, r), "B": (r, outputs)}

    def bound(self, name: str, fan_in: int) -> float:
        """Return bounds by which A S starts as large as LoRA's A, on average."""
        return (3 / self.rank) ** 0.5 if name == "S" else super().bound(name, fan_in)

    def factors(self, parameters: Factors, scale: float) -> Factors:
        """Return A, scaled, and S B."""
        return {"A": parameters["A"] * scale, "B": parameters["S"] @ parameters["B"]}


@dataclass(frozen=True)
class FacTTucker(FacTTrain):
    """A (*kernel, I, R), C (R, R, R) and B (R, O), shared, and the layer's own P (R)."""

    shared: ClassVar[tuple[str, ...]] = ("A", "C", "B")

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shapes of A, P, C and B."""
        r = self.rank
        return {"A": (*kernel, inputs, r), "P": (r,), "C": (r, r, r), "B": (r, outputs)}

    def bound(self, name: str, fan_in: int) -> float:
        """Return bounds by which A S starts as large as LoRA's A, on average."""
        return {"P": 3**0.5, "C": 3**0.5 / self.rank}.get(name) or LoRA.bound(self, name, fan_in)

    def factors(self, parameters: Factors, scale: float) -> Factors:
        """Contract C with P to S, and go on as a train."""
        S = torch.einsum("k,kpq->pq", parameters["P"], parameters["C"])
        return super().factors({**parameters, "S": S}, scale)
