"""The geometry of convolutions: which are products, which have narrow groups, and their output by another weight."""

import copy
from typing import Any

import torch
from timm.layers import Conv2dSame
from timm.layers.conv2d_same import conv2d_same
from torch import Tensor, nn

Base = nn.Linear | nn.Conv2d
NARROW_GROUP = 16  # outputs


def strides_over_pixels(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is a product at every few pixels, of inputs so narrow that torch's own is unsafe.

    On a CPU, the gradient of a 1×1 convolution's weight is written over other memory (torch 2.14, oneDNN) where the
    stride does not end on the last pixel, the batch is in channels_last, and channels are 2 to 7. With the pixels
    chosen first, the product is the same.
    """
    return (
        conv.kernel_size == (1, 1)
        and conv.stride != (1, 1)
        and conv.padding in ((0, 0), "valid")
        and conv.in_channels < 8
    )


def has_narrow_groups(layer: Base) -> bool:
    """Return whether a layer is a convolution of several groups so narrow that A would be wider: depthwise, mostly."""
    return isinstance(layer, nn.Conv2d) and layer.groups > 2 and layer.out_channels // layer.groups <= NARROW_GROUP


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the output of a convolution of any class with another weight and bias, its number of outputs its own."""
    if isinstance(conv, Conv2dSame):
        geometry: Any = (conv.stride, conv.padding, conv.dilation, conv.groups)
        return conv2d_same(x, weight, bias, *geometry)
    if type(conv).forward is nn.Conv2d.forward:
        return conv._conv_forward(x, weight, bias)
    twin = copy.copy(conv)  # a class of its own, which pads in a way of its own, for instance
    twin._parameters = {"weight": weight, "bias": bias}  # type: ignore[dict-item]
    return type(conv).forward(twin, x)


@torch.no_grad()
def is_linear_in_weight(conv: nn.Conv2d) -> bool:
    """Return whether the output of a convolution's class is that of its weight, then its bias, and not of more."""
    rng = torch.Generator().manual_seed(0)
    sides = [3 * (size - 1) * dilation + 8 for size, dilation in zip(conv.kernel_size, conv.dilation, strict=True)]
    x = torch.randn(1, conv.in_channels, *sides, generator=rng).to(conv.weight)
    kernels = (2 * conv.groups, *conv.weight.shape[1:])
    first, second = (torch.randn(kernels, generator=rng).to(conv.weight) for _ in range(2))
    try:
        parts = convolve(conv, x, first) + convolve(conv, x, second)
        whole, own = convolve(conv, x, first + second), convolve(conv, x, conv.weight)
        if conv.bias is not None:
            own = own + conv.bias[:, None, None]
        pairs = ((parts, whole), (own, conv(x)))
        return all(torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(other.std())) for one, other in pairs)
    except Exception:  # whatever a class of a person's own raises for a weight that is not its own
        return False
