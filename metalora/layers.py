"""Adapted layers: a frozen layer plus an update in one of the formats.

Cores travel to the layers in one `threading.local`, so that a network's own forward needs no change
and two threads can run one model. (A ContextVar would break `torch.compile(fullgraph=True)`.)
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

import torch
from timm.layers import Conv2dSame
from timm.layers.conv2d_same import conv2d_same
from torch import Tensor, nn
from torch.nn import functional as F

from metalora.cores import Cores
from metalora.errors import InputError
from metalora.formats import Format


class _Pass(threading.local):
    """What the forward pass that runs in this thread carries."""

    cores: Cores | None = None
    enabled: bool = True
    on_stage: Callable[[str, Tensor], None] | None = None  # told the name and output of every stage


current = _Pass()


@contextlib.contextmanager
def carrying(
    *,
    cores: Cores | None = None,
    enabled: bool | None = None,
    on_stage: Callable[[str, Tensor], None] | None = None,
) -> Iterator[None]:
    """Run a forward pass that carries these; what was carried before comes back at the end."""
    before = current.cores, current.enabled, current.on_stage
    current.cores, current.on_stage = cores, on_stage
    current.enabled = before[1] if enabled is None else enabled
    try:
        yield
    finally:
        current.cores, current.enabled, current.on_stage = before


class Adapter(nn.Module):
    """The trained part of one adapted layer: A, B (and s), of a format, for a weight's geometry."""

    def __init__(self, base: nn.Module, format: Format, scale: float, dropout: float, rng: torch.Generator):
        super().__init__()
        outputs, inputs, *kernel = base.weight.shape
        self.format, self.scale = format, scale
        self.dropout = nn.Dropout(dropout)
        shapes = format.parameter_shapes(tuple(kernel), inputs, outputs)
        fan_in = inputs * torch.Size(kernel).numel()
        # ΔW is 0 at the start through its last factor alone, which therefore learns at once.
        last = "s" if "s" in shapes else "B"
        bounds = {"A": fan_in**-0.5, "B": format.rank**-0.5, last: 0.0}
        for name, shape in shapes.items():
            # Drawn on the CPU in float64: the same start on every device and in every precision.
            value = (2 * torch.rand(shape, generator=rng, dtype=torch.float64) - 1) * bounds[name]
            self.register_parameter(name, nn.Parameter(value.to(base.weight)))

    def factors(self) -> dict[str, Tensor]:
        """A and B in the format's index order, with every static scale folded in."""
        return self.format.factors(dict(self.named_parameters(recurse=False)), self.scale)

    def contract(self, z: Tensor, B: Tensor, core: Tensor | None) -> Tensor:
        """From the narrow side to the output, by way of the core.

        Args:
            z: (N, G, L, M): samples, groups of channels, positions, narrow width.
            B: the static factor.
            core: (N, …) or (1, …); None for a static format.

        Returns:
            (N, G, L, O / G).
        """
        if core is None:
            weight = self.format.up(B)[None]
        elif z.shape[2] > B.shape[1]:  # more positions than outputs: the weight is the smaller one to mix
            weight = self.format.fold(B, core.to(z))
        else:
            z, weight = self.format.mix(z, core.to(z)), self.format.up(B)[None]
        if z.shape[1] == 1:
            return z @ (weight[0] if len(weight) == 1 else weight[:, None])
        return z @ weight.unflatten(-1, (z.shape[1], -1)).movedim(2, 1)


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
        return self.adapter.format.dense(**self.factors(), core=core)

    def forward(self, x: Tensor) -> Tensor:
        """The frozen layer's output plus the update's."""
        out = self.base(x)
        if not current.enabled:
            return out
        return out + self.update(self.adapter.dropout(x), self._core(len(x)))

    def update(self, x: Tensor, core: Tensor | None) -> Tensor:
        """What the update adds to the output for input x; `core` (N, …), (1, …) or None."""
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

    def update(self, x: Tensor, core: Tensor | None) -> Tensor:
        factors = self.factors()
        z = F.linear(x, self.adapter.format.down(factors["A"]))
        if core is None:
            return z @ self.adapter.format.up(factors["B"])
        positions = z.reshape(len(z), 1, z.shape[1:-1].numel(), z.shape[-1])
        out = self.adapter.contract(positions, factors["B"], core)
        return out.reshape(*z.shape[:-1], out.shape[-1])


class AdaptedConv2d(AdaptedLayer):
    """An adapted `nn.Conv2d` of any geometry, for input (N, C, H, W).

    In a grouped convolution I is the width of one group and every group's input meets the same A.
    """

    def update(self, x: Tensor, core: Tensor | None) -> Tensor:
        if x.ndim == 3:
            return self.update(x[None], core)[0]
        factors, groups = self.factors(), self.base.groups
        down = self.adapter.format.down(factors["A"])
        z = self._convolve(x, down.repeat(groups, 1, 1, 1))
        size = z.shape[-2:]
        z = z.movedim(1, -1).reshape(len(z), size.numel(), groups, len(down)).transpose(1, 2)
        out = self.adapter.contract(z, factors["B"], core)
        return out.transpose(1, 2).flatten(2).unflatten(1, size).movedim(-1, 1)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The base's convolution with another weight: its stride, padding, padding mode, dilation and groups."""
        base = self.base
        if isinstance(base, Conv2dSame):
            return conv2d_same(x, weight, None, base.stride, base.padding, base.dilation, base.groups)
        return base._conv_forward(x, weight, None)


ADAPTED = {nn.Linear: AdaptedLinear, nn.Conv2d: AdaptedConv2d}
