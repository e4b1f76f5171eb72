"""Mixtures of LoRAs: ΔW_n = Σ_e ω_n[e] A_e B_e, experts e with weights ω_n for each image.

Where the weights come from tells the methods apart:

* `Mixture`: a mapping net generates them for each image; or in MOELoRA (Liu et al. 2310.18339, Eq. 6-9) a gate reads
  them from the image's task, which is told;
* `TaskLoRA`: 1 for the task that is told;
* `MTLoRA` (Agiza et al. 2403.20320, Eq. 3): the same, beside an expert for all tasks;
* `MoLoRA`, in a module of its own: each layer's router reads them from the layer's input.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from metalora.adapters.config import AdapterConfig
from metalora.adapters.formats import Factors, Shape
from metalora.adapters.multi_lora import MultiLoRA


@dataclass(frozen=True)
class Mixture(MultiLoRA):
    """A (e, *kernel, I, R), B (e, R, O), and a core ω (e) of positive weights that sum to 1; R is each expert's rank.

    Routing by a softmax over experts as in mixtures of experts (Shazeer et al. 1701.06538), all of them in use.
    """

    @property
    def core_shape(self) -> Shape:
        """(e)."""
        return (self.branches,)

    def identity_core(self) -> Tensor:
        """Return equal weights."""
        return torch.full((self.branches,), 1 / self.branches)

    def constrain(self, core: Tensor) -> Tensor:
        """Turn scores into weights; equal ones, as at the start, give the identity core."""
        return core.softmax(dim=-1)

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shapes of A and B."""
        return {"A": (self.branches, *kernel, inputs, self.rank), "B": (self.branches, self.rank, outputs)}

    def factors(self, parameters: Factors, scale: float) -> Factors:
        """Return A, scaled, and B."""
        return {"A": parameters["A"] * scale, "B": parameters["B"]}

    def dense(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Contract A, B and the weights; without weights they are equal."""
        weights = self.identity_core().to(factors["A"])[None] if core is None else core
        return torch.einsum("e...ir,ero,ne->noi...", factors["A"], factors["B"], weights)

    def mix(self, z: Tensor, core: Tensor) -> Tensor:
        """Weigh the experts' narrow activations."""
        return z * self._by_row(core, z.shape[-1])[:, None]

    def fold(self, up: Tensor, core: Tensor) -> Tensor:
        """Weigh the experts' B."""
        return self._by_row(core, len(up))[:, :, None] * up

    def _by_row(self, core: Tensor, rows: int) -> Tensor:
        """Repeat each expert's weight for its rows: (N, rows)."""
        return core.repeat_interleave(rows // self.branches, dim=1)


@dataclass(frozen=True)
class TaskLoRA(Mixture):
    """One LoRA for each task: the weights are 1 for the image's task and 0 for the others, or a mean over tasks."""

    @classmethod
    def from_config(cls, config: AdapterConfig, rank: int, outputs: int) -> Self:
        """Build it with as many experts as there are tasks."""
        return cls(rank, config.condition)

    def constrain(self, core: Tensor) -> Tensor:
        """Leave the weights as they are told."""
        return core


@dataclass(frozen=True)
class MTLoRA(TaskLoRA):
    """A LoRA for all tasks, the first expert, and one for each task, as in `TaskLoRA`."""

    @classmethod
    def from_config(cls, config: AdapterConfig, rank: int, outputs: int) -> Self:
        """Build it with one expert more than there are tasks."""
        return cls(rank, config.condition + 1)

    def constrain(self, core: Tensor) -> Tensor:
        """Put 1, the shared expert's weight, before those that are told."""
        return torch.cat([torch.ones_like(core[:, :1]), core], dim=1)
