"""Full fine-tuning: ΔW = A, every entry of the weight trained. The rank has no effect."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from metalora.adapters.formats import Factors, Shape
from metalora.adapters.lora import LoRA


@dataclass(frozen=True)
class Full(LoRA):
    """A (*kernel, I, O), as a `LoRA` whose B is the identity."""

    ranked: ClassVar[bool] = False

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shape of A."""
        return {"A": (*kernel, inputs, outputs)}

    def factors(self, parameters: Factors, scale: float) -> Factors:
        """Return A, scaled, and the identity."""
        A = parameters["A"] * scale
        return {"A": A, "B": torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)}
