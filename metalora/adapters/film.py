"""Generated FiLM (Perez et al. 1709.07871): (1 + γ_n) ⊙ W x + β_n, a gain and an offset of every output.

Nothing is static, and the rank has no effect.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from metalora.adapters.config import AdapterConfig
from metalora.adapters.formats import Factors, Format, Layer, Shape


@dataclass(frozen=True)
class FiLM(Format):
    """A core (2, O) of γ and β, at whose identity, zeros, nothing changes."""

    outputs: int
    ranked: ClassVar[bool] = False
    random_core_init: ClassVar[bool] = False  # nothing else makes the update 0 at the start

    @classmethod
    def from_config(cls, config: AdapterConfig, rank: int, outputs: int) -> Self:
        """Build it for the layer's outputs."""
        return cls(rank, outputs)

    @property
    def core_shape(self) -> Shape:
        """(2, O)."""
        return (2, self.outputs)

    def identity_core(self) -> Tensor:
        """Return zeros, (2, O)."""
        return torch.zeros(self.core_shape)

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return none."""
        return {}

    def factors(self, parameters: Factors, scale: float) -> Factors:
        """Return none."""
        return {}

    def apply(self, layer: Layer, out: Tensor, x: Tensor, core: Tensor | None, samples: int) -> Tensor:
        """Modulate `out`: the weight's part of it gets the gain, the bias does not."""
        assert core is not None
        core, shape = core.to(out.dtype), (-1, *[1] * (out.ndim - 2))
        if out.ndim == 4:
            core = core[..., None, None]
        elif core.shape[0] > 1:
            core = core.repeat_interleave(out.shape[0] // core.shape[0], dim=0)
        bias, gain = layer.output_bias, layer.output_gain
        product = out if bias is None else out - bias.view(shape)
        return out + core[:, 0] * product + core[:, 1] * (1 if gain is None else gain.view(shape))

    def dense(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Multiply every output's weight with its γ."""
        assert core is not None
        return torch.einsum("o...,no->no...", weight, core[:, 0])

    def bias_delta(self, core: Tensor | None) -> Tensor | None:
        """Return β."""
        return None if core is None else core[:, 1]

    def update_norm(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Return ‖γ ⊙ W‖ of every sample, from the norms of W's rows."""
        assert core is not None
        return (weight.flatten(1).norm(dim=1) * core[:, 0]).norm(dim=1)
