"""Adapted layers: a frozen layer plus an update in one of the formats.

The layers know the geometry (positions, groups, padding), the formats know the algebra. A forward pass hands its cores
to the layers through `forward_context`, so that a network's own forward needs no change.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _global_forward_hooks

from metalora.adapters.config import AdapterConfig
from metalora.adapters.convolutions import Base, convolve, has_narrow_groups, strides_over_pixels
from metalora.adapters.formats import Factorised, Format
from metalora.adapters.forward_context import ForwardState
from metalora.adapters.merging import merged_weight, merges
from metalora.adapters.places import weight_of
from metalora.adapters.products import add_product, linear
from metalora.adapters.recomputation import RecordedPass, state_of
from metalora.util.errors import InputError


def trained_dtype(base: Base, config: AdapterConfig) -> torch.dtype:
    """Return the precision of what is trained for a frozen layer."""
    own = weight_of(base).dtype
    return own if config.adapter_dtype == "backbone" else torch.promote_types(own, torch.float32)


class Adapter(nn.Module):
    """The trained part of one adapted layer: the tensors that its format needs for the frozen weight's shape.

    Args:
        base: the frozen layer.
        format: its update.
        scale: of the update.
        dropout: probability.
        rng: gives the first values.
        dtype: of the tensors; None is that of the frozen weight.
    """

    def __init__(
        self,
        base: Base,
        format: Format,
        scale: float,
        dropout: float,
        rng: torch.Generator,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like = weight_of(base)
        outputs, inputs, *kernel = like.shape
        self.format, self.scale = format, scale
        self.dropout = nn.Dropout(dropout)
        shapes = format.parameter_shapes(tuple(kernel), inputs, outputs)
        fan_in = inputs * torch.Size(kernel).numel()
        self._names = tuple(shapes)
        for name, shape in shapes.items():
            # The update is 0 at the start through its last factor alone, which therefore learns from the first step.
            last = name == self._names[-1] and format.starts_as_original
            bound = 0.0 if last else format.bound(name, fan_in)
            # Drawn on the CPU in float64: the same start on every device and in every precision.
            value = (2 * torch.rand(shape, generator=rng, dtype=torch.float64) - 1) * bound
            self.register_parameter(name, nn.Parameter(value.to(like.device, dtype or like.dtype)))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Adapter":
        # Flat, since a memory format means images, and torch refuses channels_last of factors with five axes.
        return super()._apply(lambda factor: fn(factor.flatten()).view(factor.shape), recurse)

    def factors(self) -> dict[str, Tensor]:
        """Return the static factors in the format's index order, with every static scale folded in."""
        return self.format.factors({name: getattr(self, name) for name in self._names}, self.scale)


def has_hooks(module: nn.Module) -> bool:
    """Return whether a hook sees a module's inputs or outputs."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks) or bool(_global_forward_hooks)


class AdaptedLayer(nn.Module):
    """A frozen `base` whose output is updated, unless adapters are disabled in this thread.

    It has the attributes of its base, so that a network that reads them works as before.

    Attributes:
        name: in the backbone.
        base: the frozen layer.
        rows_by_image: whether the rows of an input may be several for each image, image by image.
    """

    base: Base

    def __init__(self, name: str, base: Base, adapter: Adapter, *, rows_by_image: bool = False):
        super().__init__()
        self.name, self.base, self.rows_by_image = name, base, rows_by_image
        self.link(adapter)

    def link(self, adapter: Adapter) -> None:
        """Take `adapter` as the trained part. It stays out of the module tree: it is a child of another module."""
        self._adapter = (adapter,)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base" or name.startswith("_"):  # not there yet, in a copy or a pickle
                raise
            return getattr(self.base, name)

    @property
    def adapter(self) -> Adapter:
        """The trained part."""
        return self._adapter[0]

    @property
    def weight(self) -> Tensor:
        """The frozen weight, for networks that read its dtype or shape."""
        return weight_of(self.base)

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias."""
        return self.base.bias

    @property
    def output_gain(self) -> Tensor | None:
        """What a BatchNorm that is folded into the frozen layer multiplies its outputs with, (O); None without one."""
        fold = getattr(self.base, "fold", None)
        return None if fold is None else fold.gain

    @property
    def output_bias(self) -> Tensor | None:
        """What the frozen layer adds to its outputs, (O), a folded BatchNorm included."""
        fold = getattr(self.base, "fold", None)
        return self.base.bias if fold is None else fold.bias

    @property
    def output_weight(self) -> Tensor:
        """What the frozen layer multiplies its inputs with, a folded BatchNorm's gain included."""
        folded = getattr(getattr(self.base, "fold", None), "folded", None)
        return self.base.weight if folded is None else folded.weight

    def factors(self) -> dict[str, Tensor]:
        """Return the static factors {"A": …, "B": …} in the format's index order, scales folded in.

        With the core (and the frozen weight, in FiLM), they give the dense ΔW.
        """
        return self.adapter.factors()

    def delta(self, core: Tensor | None = None) -> Tensor:
        """Return ΔW of every sample, (N, *weight.shape)."""
        return self.adapter.format.dense(self.weight, self.factors(), core)

    def bias_delta(self, core: Tensor | None = None) -> Tensor | None:
        """Return what is added to the bias, (N, O); None where the format leaves it alone."""
        return self.adapter.format.bias_delta(core)

    def strength(self, core: Tensor | None = None) -> Tensor:
        """Return ‖ΔW‖ / ‖W‖ (Frobenius) of every sample, (N), in float64 on the CPU, as not every device has that."""
        factors = {name: factor.cpu().double() for name, factor in self.factors().items()}
        core = None if core is None else core.cpu().double()
        norm = self.adapter.format.update_norm(self.weight.cpu().double(), factors, core)
        return norm / self.weight.norm().cpu().double().clamp(min=1e-12)

    def forward(self, input: Tensor) -> Tensor:
        """Return the frozen layer's output, updated."""
        state = state_of(self)
        if not state.enabled:
            return self.base(input)
        core, hooked = self._core(input, state), has_hooks(self.base)
        if not hooked and (merged := self._merged(input, core)) is not None:
            return merged
        out = self.base(input)
        # What a hook has seen stays as it was.
        return self._update(out.clone() if hooked else out, input, core, input.shape[0])

    def _merged(self, x: Tensor, core: Tensor | None) -> Tensor | None:
        """Return the output by the merged weight, see `merging`; None if it is not used."""
        return None

    def _update(self, out: Tensor, x: Tensor, core: Tensor | None, samples: int) -> Tensor:
        return self.adapter.format.apply(self, out, x, core, samples)

    def _core(self, input: Tensor, state: ForwardState | RecordedPass) -> Tensor | None:
        format, rows = self.adapter.format, input.shape[0]
        if format.routes:
            return format.route(self.factors(), self._mean_input(input))
        if not format.core_shape:
            return None
        if state.cores is None:
            raise InputError(
                f"Layer {self.name!r} was called without cores: call the adapted model, not its parts; a network that "
                "calls torch.utils.checkpoint itself has to say so, by the attribute gradient_checkpointing = True."
            )
        core = state.cores[self.name]
        images = core.shape[0]
        if images == 1 or images == rows:
            return core
        if (self.rows_by_image or state.spread) and rows % images == 0:
            return core.repeat_interleave(rows // images, dim=0)
        raise InputError(
            f"The input of layer {self.name!r} has {rows} rows for {images} images: its leading axis is not "
            "the batch; leave the layer out with exclude."
        )

    def _mean_input(self, input: Tensor) -> Tensor:
        """Return the mean input (N, I) over all positions."""
        raise NotImplementedError(f"{type(self).__name__} does not say where it has positions: override _mean_input.")

    def narrow(self, x: Tensor, weight: Tensor, samples: int) -> Tensor:
        """Return the narrow activations (N, L, M) of an input, after dropout, by a weight (M, I, *kernel)."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it applies a weight: override narrow.")

    def widen(self, out: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        """Add the narrow activations (N, L, M) times a weight, (N, M, O) or (1, M, O), to `out`."""
        return add_product(out, z, weight)


class AdaptedLinear(AdaptedLayer):
    """An adapted `nn.Linear`, for input (N, …, I)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the frozen layer's output, updated."""
        state = state_of(self)
        if not state.enabled:
            return self.base(input)
        *rows, width = input.shape
        x = input.reshape(math.prod(rows), width)
        core = self._core(input, state)
        if not has_hooks(self.base) and merges(self, x, core, x.shape[0]):
            return F.linear(x, merged_weight(self, core), self.output_bias).view(*rows, -1)
        # Flat, since autograd copies what is written into a view, which is what torch makes of more dimensions.
        out = self.base(input).clone().flatten(0, -2) if has_hooks(self.base) else self.base(x)
        return self._update(out, x, core, rows[0]).view(*rows, out.shape[-1])

    def _mean_input(self, input: Tensor) -> Tensor:
        return input.flatten(1, -2).mean(1) if input.ndim > 2 else input

    def narrow(self, x: Tensor, weight: Tensor, samples: int) -> Tensor:
        """Return the narrow activations (N, L, M) of rows (N · L, I)."""
        z = linear(self.adapter.dropout(x).to(weight.dtype), weight)
        return z.view(samples, x.shape[0] // (samples or 1), z.shape[-1])


class AdaptedConv2d(AdaptedLayer):
    """An adapted `nn.Conv2d` of any geometry, for input (N, C, H, W).

    In a grouped convolution I is the width of one group and every group's input meets the same A.
    """

    base: nn.Conv2d

    def forward(self, input: Tensor) -> Tensor:
        """Return the frozen layer's output, updated."""
        return super().forward(input) if input.ndim == 4 else super().forward(input[None])[0]

    def _merged(self, x: Tensor, core: Tensor | None) -> Tensor | None:
        positions = x.shape[0] * math.prod(x.shape[2:]) // math.prod(self.base.stride)
        if has_narrow_groups(self.base) or not merges(self, x, core, positions):
            return None
        return convolve(self.base, x, merged_weight(self, core), self.output_bias)

    def _update(self, out: Tensor, x: Tensor, core: Tensor | None, samples: int) -> Tensor:
        format = self.adapter.format
        if not has_narrow_groups(self.base) or not isinstance(format, Factorised) or not format.linear:
            return super()._update(out, x, core, samples)
        # ΔW has fewer numbers here than A, and images become groups of one convolution.
        delta = self.delta(core)
        if self.output_gain is not None:
            delta = delta * self.output_gain[:, None, None, None]
        z = self.adapter.dropout(x)
        if delta.shape[0] == 1:
            return out + convolve(self.base, z, delta[0].to(z.dtype))
        twin = copy.copy(self.base)
        twin.groups = samples * twin.groups
        images = convolve(twin, z.reshape(1, -1, *z.shape[2:]), delta.flatten(0, 1).to(z.dtype))
        return out + images.unflatten(1, (samples, -1))[0]

    def _mean_input(self, input: Tensor) -> Tensor:
        return input.mean((2, 3)).unflatten(1, (self.base.groups, -1)).mean(1)

    def narrow(self, x: Tensor, weight: Tensor, samples: int) -> Tensor:
        """Return the narrow activations (N, groups · L, M) of an input (N, C, H, W)."""
        base, groups, x = self.base, self.base.groups, self.adapter.dropout(x)
        weight = weight.repeat(groups, 1, 1, 1)
        if strides_over_pixels(base):
            stride = base.stride
            z = F.conv2d(x[:, :, :: stride[0], :: stride[1]], weight, groups=groups)
            return self._by_position(z)
        z = convolve(base, x, weight)
        return self._by_position(z)

    def _by_position(self, z: Tensor) -> Tensor:
        """Turn a map (N, groups · M, H, W) into rows (N, groups · H · W, M)."""
        return z.unflatten(1, (self.base.groups, -1)).flatten(3).transpose(2, 3).flatten(1, 2)

    def widen(self, out: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        """Add the narrow activations (N, groups · L, M) times a weight, group by group, to `out`."""
        groups = self.base.groups
        if groups == 1:
            return add_product(out, z, weight)
        product = z.unflatten(1, (groups, -1)) @ weight.unflatten(-1, (groups, -1)).movedim(2, 1)
        return out + product.transpose(2, 3).reshape(out.shape)


ADAPTED = {nn.Linear: AdaptedLinear, nn.Conv2d: AdaptedConv2d}
