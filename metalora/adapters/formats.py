"""The tensor algebra of the update formats: pure functions of static factors and generated cores.

One letter per axis: i input width (of one group), o output width, k kernel axes (two for a
convolution, none for a linear layer, written "..." in the contractions), r rank, m branches,
n sample. M stands for the width of the narrow side, where the core acts. Weights are laid out as
torch has them: (O, I) and (O, I, K, K).

LoRA: Hu et al. 2106.09685. Conv-LoRA: arXiv 2504.00460, Eq. 5. Multi-LoRA: Wang et al. 2311.11501.
Meta-LoRA CP and TR: arXiv 2504.00460, Eqs. 6 and 7 (tensor ring: Zhao et al. 1606.05535).
FiLM: Perez et al. 1709.07871.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LoRA:
    """ΔW = Σ_r A[..,r] B[r,:] (Conv-LoRA for a convolution: a small convolution, then a 1×1)."""

    rank: int
    generated: ClassVar[bool] = False
    random_core_init: ClassVar[bool] = True  # whether generated cores may differ from the neutral one at the start

    def fitted(self, outputs: int) -> "LoRA":
        """The format for a weight of so many outputs."""
        return self

    @property
    def width(self) -> int:
        """M, the width of the narrow side."""
        return self.rank

    @property
    def core_shape(self) -> Shape:
        """Shape of one sample's core; () where there is none."""
        return ()

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Shapes of the trained tensors of a layer."""
        return {"A": (*kernel, inputs, self.rank), "B": (self.rank, outputs)}

    def factors(self, parameters: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
        """Static factors with every static scale folded in."""
        return {"A": parameters["A"] * scale, "B": parameters["B"]}

    def dense(self, A: Tensor, B: Tensor, core: Tensor | None = None) -> Tensor:
        """ΔW of every sample, (N, *weight.shape); N is 1 without a core."""
        return torch.einsum("...ir,ro->oi...", A, B)[None]

    def down(self, A: Tensor) -> Tensor:
        """Weight of the first, narrow layer: (M, I, *kernel)."""
        return torch.einsum("...ir->ri...", A)

    def up(self, B: Tensor) -> Tensor:
        """Weight of the second layer, which follows the core: (M, O)."""
        return B


@dataclass(frozen=True)
class MultiLoRA(LoRA):
    """ΔW = Σ_m (A_m B_m) ⊙ s_m, with s_m (O) learned and 0 at the start."""

    branches: int = 3

    @property
    def width(self) -> int:
        return self.branches * self.rank

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        m, r = self.branches, self.rank
        return {"A": (m, *kernel, inputs, r), "B": (m, r, outputs), "s": (m, outputs)}

    def factors(self, parameters: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
        return {"A": parameters["A"] * scale, "B": parameters["B"] * parameters["s"][:, None]}

    def dense(self, A: Tensor, B: Tensor, core: Tensor | None = None) -> Tensor:
        return torch.einsum("m...ir,mro->oi...", A, B)[None]

    def down(self, A: Tensor) -> Tensor:
        return torch.einsum("m...ir->mri...", A).flatten(0, 1)

    def up(self, B: Tensor) -> Tensor:
        return B.flatten(0, 1)


@dataclass(frozen=True)
class CP(LoRA):
    """ΔW_n = Σ_r A[..,r] B[r,:] c_n[r]: a diagonal core between LoRA's factors."""

    generated: ClassVar[bool] = True

    @property
    def core_shape(self) -> Shape:
        return (self.rank,)

    def identity_core(self) -> Tensor:
        """The core at which this is the static method: ones, (R)."""
        return torch.ones(self.rank)

    def dense(self, A: Tensor, B: Tensor, core: Tensor) -> Tensor:
        return torch.einsum("...ir,ro,nr->noi...", A, B, core)

    def mix(self, z: Tensor, core: Tensor) -> Tensor:
        """The core applied to activations z (N, L, M), as wide as they came."""
        return z * core[:, None]

    def fold(self, up: Tensor, core: Tensor) -> Tensor:
        """The core applied to the second layer's weight (M, O) instead: (N, M, O)."""
        return core[:, :, None] * up


@dataclass(frozen=True)
class TR(LoRA):
    """ΔW_n = Σ A[a,..,b] B[b,:,c] C_n[c,a]: a ring of A, B and the core."""

    generated: ClassVar[bool] = True

    @property
    def width(self) -> int:
        return self.rank**2

    @property
    def core_shape(self) -> Shape:
        return (self.rank, self.rank)

    def identity_core(self) -> Tensor:
        """The core at which this is R parallel LoRAs: the identity, (R, R)."""
        return torch.eye(self.rank)

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        return {"A": (self.rank, *kernel, inputs, self.rank), "B": (self.rank, outputs, self.rank)}

    def dense(self, A: Tensor, B: Tensor, core: Tensor) -> Tensor:
        return torch.einsum("a...ib,boc,nca->noi...", A, B, core)

    # The narrow side is (b, a) before the core and (b, c) behind it: mixing is then one product without a copy.
    def down(self, A: Tensor) -> Tensor:
        return torch.einsum("a...ib->bai...", A).flatten(0, 1)

    def up(self, B: Tensor) -> Tensor:
        return B.transpose(1, 2).flatten(0, 1)

    def mix(self, z: Tensor, core: Tensor) -> Tensor:
        rows = z.reshape(len(z), z.shape[1] * self.rank, self.rank)
        return (rows @ core.mT).reshape(z.shape)

    def fold(self, up: Tensor, core: Tensor) -> Tensor:
        return torch.einsum("bco,nca->nbao", up.unflatten(0, self.core_shape), core).flatten(1, 2)


@dataclass(frozen=True)
class Full(LoRA):
    """ΔW = A, every entry of the weight trained: fine-tuning without a format. The rank has no say."""

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        return {"A": (*kernel, inputs, outputs)}

    def factors(self, parameters: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
        A = parameters["A"] * scale
        return {"A": A, "B": torch.eye(A.shape[-1]).to(A)}


@dataclass(frozen=True)
class FiLM(LoRA):
    """A generated gain and offset of every output: (1 + γ_n) ⊙ W x + β_n. Nothing is static, the rank has no say."""

    outputs: int = 0
    generated: ClassVar[bool] = True
    random_core_init: ClassVar[bool] = False  # nothing else makes the update 0 at the start

    def fitted(self, outputs: int) -> "FiLM":
        return replace(self, outputs=outputs)

    @property
    def core_shape(self) -> Shape:
        return (2, self.outputs)

    def identity_core(self) -> Tensor:
        """No change: γ and β are 0, (2, O)."""
        return torch.zeros(self.core_shape)

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        return {}

    def factors(self, parameters: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
        return {}

    def dense_of(self, weight: Tensor, core: Tensor) -> Tensor:
        """ΔW of every sample, from the frozen weight (O, …): (N, O, …)."""
        return torch.einsum("o...,no->no...", weight, core[:, 0])


Format = LoRA | MultiLoRA | CP | TR | Full | FiLM


def largest_rank(kind: type, inputs: int, outputs: int) -> int:
    """The largest rank that serves a weight with sides inputs (I·K·K) and outputs (O).

    The narrow side is at most as wide as the smaller of the two.
    """
    side = min(inputs, outputs)
    return math.isqrt(side) if kind is TR else side


def largest_family(kind: type, inputs: int, outputs: int) -> int:
    """The largest rank at which generated cores still reach new updates of a weight with these sides.

    A single ΔW of TR gains nothing beyond `largest_rank`, but those of all cores span up to R² dimensions of
    inputs · outputs: W times any exchange of its I channels takes R = K² of the kernel's positions, for instance.
    """
    return math.isqrt(inputs * outputs) if kind is TR else largest_rank(kind, inputs, outputs)
