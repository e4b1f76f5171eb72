"""Adapted layers: a frozen layer plus an update in one of the formats.

Cores travel to the layers in one `threading.local`, so that a network's own forward needs no change
and two threads can run one model. (A ContextVar would break `torch.compile(fullgraph=True)`.)
"""

from typing import Any

import torch
from timm.layers import Conv2dSame
from timm.layers.conv2d_same import conv2d_same
from torch import Tensor, nn
from torch.nn import functional as F

from metalora.adapters.formats import FiLM, Format
from metalora.adapters.forward_context import current
from metalora.util.errors import InputError


class Adapter(nn.Module):
    """The trained part of one adapted layer: A, B (and s), of a format, for a weight's geometry."""

    def __init__(self, base: nn.Module, format: Format, scale: float, dropout: float, rng: torch.Generator):
        super().__init__()
        outputs, inputs, *kernel = base.weight.shape
        self.format, self.scale = format.fitted(outputs), scale
        self.dropout = nn.Dropout(dropout)
        shapes = format.parameter_shapes(tuple(kernel), inputs, outputs)
        fan_in = inputs * torch.Size(kernel).numel()
        # ΔW is 0 at the start through its last factor alone, which therefore learns at once.
        bounds = {"A": fan_in**-0.5, "B": format.rank**-0.5, **dict.fromkeys(list(shapes)[-1:], 0.0)}
        for name, shape in shapes.items():
            # Drawn on the CPU in float64: the same start on every device and in every precision.
            value = (2 * torch.rand(shape, generator=rng, dtype=torch.float64) - 1) * bounds[name]
            self.register_parameter(name, nn.Parameter(value.to(base.weight)))

    def factors(self) -> dict[str, Tensor]:
        """A and B in the format's index order, with every static scale folded in."""
        return self.format.factors(dict(self.named_parameters(recurse=False)), self.scale)

    def apply_core(self, z: Tensor, up: Tensor, core: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply the core where that costs less: to the narrow activations, or to the weight behind them.

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
            return z, self.format.fold(up, core.to(z))
        return self.format.mix(z, core.to(z)), up[None]


class _Narrow(torch.autograd.Function):
    """x @ weightᵀ as `F.linear` has it, whose own gradient of a narrow weight is ten times as slow on a processor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x = gradient @ weight if ctx.needs_input_grad[0] else None
        return of_x, gradient.mT @ x if ctx.needs_input_grad[1] else None


class _AddProduct(torch.autograd.Function):
    """`out` + z @ weight, written into `out`, which torch.baddbmm would copy where autograd looks."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        _rows(out, len(z)).baddbmm_(z, weight.expand(len(z), -1, -1))
        ctx.mark_dirty(out)
        ctx.save_for_backward(z, weight)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z, weight = ctx.saved_tensors
        rows = _rows(gradient, len(z))
        of_z = rows @ weight.mT if ctx.needs_input_grad[1] else None
        of_weight = None
        if ctx.needs_input_grad[2]:
            shared = len(weight) == 1
            of_weight = (z.flatten(0, 1).mT @ rows.flatten(0, 1))[None] if shared else z.mT @ rows
        return gradient, of_z, of_weight


def _rows(out: Tensor, samples: int) -> Tensor:
    """Samples, positions, width: (N, L, O) of a convolution's output (N, O, H, W) or a linear layer's (N · L, O)."""
    return (
        out.flatten(2).transpose(1, 2)
        if out.ndim == 4
        else out.view(samples, len(out) // max(1, samples), out.shape[1])
    )


def add_product(out: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """Add z @ weight to a frozen layer's output in one pass; what is returned replaces `out`.

    Args:
        out: (N, O, H, W), or (N · L, O).
        z: (N, L, M).
        weight: (N, M, O) or (1, M, O).
    """
    weight = weight.to(z.dtype)
    if torch.compiler.is_compiling():  # which fuses by itself, and knows no function that writes into its argument
        product = z @ weight
        return out + (product.transpose(1, 2) if out.ndim == 4 else product).reshape(out.shape)
    return _AddProduct.apply(out, z, weight)


class AdaptedLayer(nn.Module):
    """A frozen `base` whose output gets the update's, unless adapters are disabled in this thread."""

    def __init__(self, name: str, base: nn.Module, adapter: Adapter, *, rows_by_image: bool = False):
        super().__init__()
        self.name, self.base, self.rows_by_image = name, base, rows_by_image
        # A tuple keeps it out of the module tree: the trained part lives apart from the frozen one.
        self._adapter = (adapter,)

    @property
    def adapter(self) -> Adapter:
        """The trained part."""
        return self._adapter[0]

    @property
    def weight(self) -> Tensor:
        """The frozen weight, for networks that look at its dtype or shape."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias."""
        return self.base.bias

    def factors(self) -> dict[str, Tensor]:
        """Static factors {"A": …, "B": …} in the index order of `formats.py`, scales folded in.

        Dense ΔW follows from them and the core alone.
        """
        return self.adapter.factors()

    def delta(self, core: Tensor | None = None) -> Tensor:
        """ΔW of every sample, (N, *weight.shape)."""
        format = self.adapter.format
        if isinstance(format, FiLM):
            return format.dense_of(self.base.weight, core)
        return format.dense(**self.factors(), core=core)

    def bias_delta(self, core: Tensor | None = None) -> Tensor | None:
        """What is added to the bias, (N, O); None where the format leaves it alone."""
        return core[:, 1] if isinstance(self.adapter.format, FiLM) else None

    def forward(self, x: Tensor) -> Tensor:
        """The frozen layer's output plus the update's."""
        if not current.enabled:
            return self.base(x)
        return self._updated(self.base(x), x, self._core(len(x)), len(x))

    def _updated(self, out: Tensor, x: Tensor, core: Tensor | None, samples: int) -> Tensor:
        if isinstance(self.adapter.format, FiLM):  # changes the output, and adds nothing made of the input
            return self._modulate(out, core)
        return self.add_update(out, self.adapter.dropout(x), core, samples)

    def _modulate(self, out: Tensor, core: Tensor) -> Tensor:
        """`out` with the gain and offset of every sample's core; the weight's part of it gets the gain, not the bias.

        Args:
            out: (N, O, H, W), or (N · L, O).
            core: (N, 2, O) or (1, 2, O).
        """
        core = core.to(out.dtype)
        if out.ndim == 4:
            core = core[..., None, None]
        elif len(core) > 1:
            core = core.repeat_interleave(len(out) // len(core), dim=0)
        base, shape = self.base, (-1, *[1] * (out.ndim - 2))
        folded = hasattr(base, "folded_bias")  # of a BatchNorm behind it
        bias, gain = (base.folded_bias, base.gain) if folded else (base.bias, None)
        own = out if bias is None else out - bias.view(shape)
        return out + core[:, 0] * own + core[:, 1] * (1 if gain is None else gain.view(shape))

    def add_update(self, out: Tensor, x: Tensor, core: Tensor | None, samples: int) -> Tensor:
        """`out`, written over, plus what the update gives for the input x of so many samples.

        Args:
            core: (N, …), (1, …) or None.
        """
        raise TypeError(f"{type(self).__name__} does not say how it is updated")

    def _core(self, rows: int) -> Tensor | None:
        if not self.adapter.format.generated:
            return None
        if current.cores is None:
            raise InputError(
                f"Layer {self.name!r} was called without cores: call the adapted model, not its parts, "
                "and switch activation checkpointing off."
            )
        core = current.cores[self.name]
        if len(core) in (1, rows):
            return core
        if self.rows_by_image and rows % len(core) == 0:
            return core.repeat_interleave(rows // len(core), dim=0)
        raise InputError(
            f"The input of layer {self.name!r} has {rows} rows for {len(core)} images: its leading axis is not "
            "the batch; leave the layer out with exclude."
        )


class AdaptedLinear(AdaptedLayer):
    """An adapted `nn.Linear`, for input (N, …, I)."""

    def forward(self, x: Tensor) -> Tensor:
        if not current.enabled:
            return self.base(x)
        # Flat, for autograd copies what is written into a view, which is what torch makes of more dimensions.
        rows = x.reshape(x.shape[:-1].numel(), x.shape[-1])
        out = self._updated(self.base(rows), rows, self._core(len(x)), len(x))
        return out.view(*x.shape[:-1], out.shape[-1])

    def add_update(self, out: Tensor, x: Tensor, core: Tensor | None, samples: int) -> Tensor:
        factors, format = self.factors(), self.adapter.format
        narrow = F.linear if torch.compiler.is_compiling() else _Narrow.apply
        z = narrow(x.to(out.dtype), format.down(factors["A"]).to(out.dtype))
        z = z.view(samples, len(x) // max(1, samples), z.shape[-1])
        return add_product(out, *self.adapter.apply_core(z, format.up(factors["B"]), core))


class AdaptedConv2d(AdaptedLayer):
    """An adapted `nn.Conv2d` of any geometry, for input (N, C, H, W).

    In a grouped convolution I is the width of one group and every group's input meets the same A.
    """

    def add_update(self, out: Tensor, x: Tensor, core: Tensor | None, samples: int) -> Tensor:
        if x.ndim == 3:
            return self.add_update(out[None], x[None], core, 1)[0]
        factors, format, groups = self.factors(), self.adapter.format, self.base.groups
        z = self._convolve(x, format.down(factors["A"]).repeat(groups, 1, 1, 1))
        narrow = z.unflatten(1, (groups, -1)).flatten(3).transpose(2, 3).flatten(1, 2)
        up = format.up(factors["B"])
        gain = getattr(self.base, "gain", None)  # of a BatchNorm that is folded into the base
        narrow, weight = self.adapter.apply_core(narrow, up if gain is None else up * gain, core)
        if groups == 1:
            return add_product(out, narrow, weight)
        product = narrow.unflatten(1, (groups, -1)) @ weight.unflatten(-1, (groups, -1)).movedim(2, 1)
        return out + product.transpose(2, 3).reshape(out.shape)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The base's convolution with another weight: its stride, padding, padding mode, dilation and groups."""
        base = self.base
        if isinstance(base, Conv2dSame):
            return conv2d_same(x, weight, None, base.stride, base.padding, base.dilation, base.groups)
        return base._conv_forward(x, weight, None)


ADAPTED = {nn.Linear: AdaptedLinear, nn.Conv2d: AdaptedConv2d}
