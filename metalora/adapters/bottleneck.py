"""Bottleneck adapters (Houlsby et al. 1902.00751), beside the layer (He et al. 2110.04366, "parallel adapter").

    y = W x + B σ(A x),   σ = GELU

Houlsby's stands behind the layer. Beside it, it is a LoRA with a non-linearity, and that of a convolution reads the
convolution's own field.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from metalora.adapters.formats import Factors, Layer
from metalora.adapters.lora import LoRA

SLOPE = 0.5  # of GELU at 0


@dataclass(frozen=True)
class Bottleneck(LoRA):
    """A and B as in `LoRA`, with a GELU between them."""

    linear: ClassVar[bool] = False
    not_a_weight: ClassVar[str] = "its bottleneck is not linear"

    def apply(self, layer: Layer, out: Tensor, x: Tensor, core: Tensor | None, samples: int) -> Tensor:
        """Return `out` plus the bottleneck's."""
        factors, gain = layer.factors(), layer.output_gain
        z = F.gelu(layer.narrow(x, self.down(factors["A"]).to(out.dtype), samples))
        up = self.up(factors["B"])
        return layer.widen(out, z, (up if gain is None else up * gain)[None])

    def dense(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Return the derivative at 0, for the strength of the update; no weight gives the update itself."""
        return SLOPE * super().dense(weight, factors)

    def update_norm(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Return the norm of the derivative at 0."""
        return SLOPE * super().update_norm(weight, factors)
