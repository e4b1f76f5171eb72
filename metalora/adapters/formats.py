"""What a format is: the algebra between a layer's trained parameters, its generated core and its output.

One letter per axis: i input width (of one group), o output width, k kernel axes (two for a convolution, none for a
linear layer, written "..." in the contractions), r rank, m branches, n sample. M is the width of the narrow side, where
a core acts. Weights have the axes of torch's: (O, I) and (O, I, K, K).

Every method's format has a module of its own beside this one: a low-rank one extends `Factorised`, any other `Format`.
"""

import pkgutil
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import method
from metalora.adapters.places import WEIGHT, Place
from metalora.util.errors import InputError

Shape = tuple[int, ...]
Factors = dict[str, Tensor]


class Layer(Protocol):
    """What a format may ask of the adapted layer: see `AdaptedLayer`."""

    @property
    def output_gain(self) -> Tensor | None:
        """(O), what the frozen layer multiplies its outputs with behind the weight; None: nothing."""

    @property
    def output_bias(self) -> Tensor | None:
        """(O), what the frozen layer adds to its outputs."""

    def factors(self) -> Factors:
        """Return the static factors, scales folded in."""

    def narrow(self, x: Tensor, weight: Tensor, samples: int) -> Tensor:
        """Return the narrow activations (N, L, M) of an input, by a weight (M, I, *kernel)."""

    def widen(self, out: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        """Return `out` plus the narrow activations (N, L, M) times a weight (N, M, O) or (1, M, O)."""


@dataclass(frozen=True)
class Format(ABC):
    """How one layer's output is updated, at a rank.

    Attributes:
        rank: R.
        random_core_init: whether generated cores may differ from the identity core at the start.
        shared: names of the trained tensors that layers have in common whose weights are of one shape.
        routes: whether the core comes from the layer's own input, by `route`.
        ranked: whether the rank has an effect.
        place: kind of modules that it is for.
        starts_as_original: whether the network gives at the start what it gave without adapters.
        not_a_weight: why no weight gives the update for every input, in words after "since"; "" where one does.
    """

    rank: int
    random_core_init: ClassVar[bool] = True
    shared: ClassVar[tuple[str, ...]] = ()
    routes: ClassVar[bool] = False
    ranked: ClassVar[bool] = True
    place: ClassVar[Place] = WEIGHT
    starts_as_original: ClassVar[bool] = True
    not_a_weight: ClassVar[str] = ""

    @classmethod
    def from_config(cls, config: AdapterConfig, rank: int, outputs: int) -> Self:
        """Build the format of a layer of this rank with so many outputs."""
        return cls(rank)

    @classmethod
    def max_rank(cls, inputs: int, outputs: int, *, by_pattern: bool = False) -> int:
        """Return the largest rank for a weight with sides inputs I·K·K and outputs O: the smaller side, if `ranked`.

        Args:
            inputs: I·K·K.
            outputs: O.
            by_pattern: whether `AdapterConfig.rank_pattern` sets this layer's rank.
        """
        return min(inputs, outputs) if cls.ranked else sys.maxsize

    @classmethod
    def rank_error(cls, rank: int, layer: str, *, by_pattern: bool = False) -> str:
        """Say what is wrong with a rank above `max_rank`, after "Rank R"."""
        return f"exceeds the smaller side of {layer}"

    @property
    def core_shape(self) -> Shape:
        """Shape of one sample's core; () where there is none."""
        return ()

    def identity_core(self) -> Tensor:
        """Return the core that generated ones are offsets from."""
        return torch.ones(self.core_shape)

    def constrain(self, core: Tensor) -> Tensor:
        """Return the core (N, *core_shape) that is used for one that was generated; the identity core stays itself."""
        return core

    def route(self, factors: Factors, mean_input: Tensor) -> Tensor:
        """Return the core (N, …) for the mean input (N, I) of a layer, where the format `routes`."""
        raise NotImplementedError(f"{type(self).__name__} routes, but does not say how.")

    @abstractmethod
    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shapes of a layer's trained tensors. The last starts at 0, if the format `starts_as_original`."""

    def bound(self, name: str, fan_in: int) -> float:
        """Return b of the uniform distribution over ±b from which a trained tensor, but for the last, starts.

        Args:
            name: of the tensor.
            fan_in: I·K·K.
        """
        return self.rank**-0.5 if name == "B" else fan_in**-0.5

    @abstractmethod
    def factors(self, parameters: Factors, scale: float) -> Factors:
        """Return the static factors of the trained tensors, with every static scale folded in."""

    @abstractmethod
    def apply(self, layer: Layer, out: Tensor, x: Tensor, core: Tensor | None, samples: int) -> Tensor:
        """Return the layer's updated output.

        Args:
            layer: the adapted layer.
            out: the frozen layer's output, (N, O, H, W) or (N · L, O), which may be overwritten.
            x: the layer's input, (N, I, H, W) or (N · L, I).
            core: (N, *core_shape), or one sample for all; None without a core.
            samples: N.
        """

    @abstractmethod
    def dense(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Return ΔW of every sample, (N, *weight.shape), from the frozen weight; N is 1 without a core."""

    def bias_delta(self, core: Tensor | None) -> Tensor | None:
        """Return what is added to the bias, (N, O); None where the format leaves it alone."""
        return None

    def update_norm(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Return ‖ΔW‖ (Frobenius) of every sample, (N)."""
        return self.dense(weight, factors, core).flatten(1).norm(dim=1)


class Factorised(Format):
    """A low-rank update: down to the narrow side by A, through the core, up by B.

    It is never built per sample on the way to an output: the core meets the narrow activations or B.

    Attributes:
        linear: whether nothing but the core stands between A and B.
    """

    linear: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """M, the width of the narrow side."""
        return self.rank

    def factors(self, parameters: Factors, scale: float) -> Factors:
        """Return A, scaled, and B."""
        return {"A": parameters["A"] * scale, "B": parameters["B"]}

    @abstractmethod
    def down(self, A: Tensor) -> Tensor:
        """Return the weight of the first, narrow layer: (M, I, *kernel)."""

    @abstractmethod
    def up(self, B: Tensor) -> Tensor:
        """Return the weight of the second layer, which follows the core: (M, O)."""

    def mix(self, z: Tensor, core: Tensor) -> Tensor:
        """Apply the core to narrow activations (N, L, M), whose shape stays."""
        raise NotImplementedError(f"{type(self).__name__} has a core, but does not say how it mixes.")

    def fold(self, up: Tensor, core: Tensor) -> Tensor:
        """Apply the core to the second layer's weight (M, O) instead: (N, M, O)."""
        raise NotImplementedError(f"{type(self).__name__} has a core, but does not say how it folds.")

    def apply(self, layer: Layer, out: Tensor, x: Tensor, core: Tensor | None, samples: int) -> Tensor:
        """Return `out` plus the update's, by two thin layers."""
        factors, gain = layer.factors(), layer.output_gain
        z = layer.narrow(x, self.down(factors["A"]).to(out.dtype), samples)
        up = self.up(factors["B"])
        return layer.widen(out, *self.apply_core(z, up if gain is None else up * gain, core))

    def apply_core(self, z: Tensor, up: Tensor, core: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply the core where it costs less: to the narrow activations, or to the weight behind them.

        Args:
            z: (N, L, M): samples, positions, narrow width.
            up: the second layer's weight, (M, O).
            core: (N, …) or (1, …); None for a static format.

        Returns:
            z, and the weight that is left to multiply it with, (N, M, O) or (1, M, O).
        """
        if core is None:
            return z, up[None]
        if z.shape[1] > up.shape[1]:  # more positions than outputs: the weight is the smaller one to mix
            return z, self.fold(up, core.to(up))
        return self.mix(z, core.to(z)), up[None]

    def update_norm(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Return ‖ΔW‖ of every sample without a dense ΔW.

        ΔW = Uᵀ V with U (M, I·K·K) and V (M, O) the two layers' weights, the core folded into V, so that
        ‖ΔW‖² = ⟨UUᵀ, VVᵀ⟩: small differences of large products, best in float64.
        """
        U, V = self.down(factors["A"]).flatten(1), self.up(factors["B"])
        V = V[None] if core is None else self.fold(V, core)
        return ((U @ U.T) * (V @ V.mT)).sum((1, 2)).clamp(min=0).sqrt()


def format_class(name: str) -> type[Format]:
    """Return the class of a method's format.

    Raises:
        InputError: unknown method, one without a format, or its class cannot be imported.
    """
    source = method(name).format
    if source is None:
        raise InputError(f"Method {name!r} has no format: it leaves the backbone as it is.")
    try:
        return pkgutil.resolve_name(source) if isinstance(source, str) else source
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"The format {source} of method {name!r} cannot be imported ({error}): correct it.") from error


def make_format(config: AdapterConfig, rank: int, outputs: int) -> Format:
    """Build the format of a layer of this rank with so many outputs.

    Raises:
        InputError: as `format_class`, or the method's entry contradicts its format.
    """
    made, generated = format_class(config.method).from_config(config, rank, outputs), method(config.method).generated
    if bool(made.core_shape) != generated:
        raise InputError(
            f"Method {config.method!r} has generated={generated}, but its format's core has shape {made.core_shape}: "
            "make the entry agree with the format."
        )
    return made
