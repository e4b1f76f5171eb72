"""Products of activations and narrow weights, with less copying and faster gradients than torch's own."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from metalora.util.compiling import transformed


class _Linear(torch.autograd.Function):
    """x @ weightᵀ, with a gradient of a narrow weight ten times as fast on a CPU as that of `F.linear`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        x_grad = gradient @ weight if ctx.needs_input_grad[0] else None
        return x_grad, gradient.mT @ x if ctx.needs_input_grad[1] else None


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Return x @ weightᵀ, for x (L, I) and a narrow weight (M, I)."""
    return F.linear(x, weight) if transformed() else _Linear.apply(x, weight)


class _AddProduct(torch.autograd.Function):
    """`out` + z @ weight, written into `out`, which torch.baddbmm would copy when gradients are recorded."""

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
        z_grad = rows @ weight.mT if ctx.needs_input_grad[1] else None
        weight_grad = None
        if ctx.needs_input_grad[2]:
            shared = len(weight) == 1
            weight_grad = (z.flatten(0, 1).mT @ rows.flatten(0, 1))[None] if shared else z.mT @ rows
        return gradient, z_grad, weight_grad


def _rows(out: Tensor, samples: int) -> Tensor:
    """View a convolution's output (N, O, H, W), or a linear layer's (N · L, O), as (N, L, O)."""
    if out.ndim == 4:
        return out.flatten(2).transpose(1, 2)
    return out.view(samples, len(out) // max(1, samples), out.shape[1])


def add_product(out: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """Add z @ weight to a frozen layer's output in one pass.

    Args:
        out: (N, O, H, W), or (N · L, O); it may be overwritten.
        z: (N, L, M).
        weight: (N, M, O) or (1, M, O).
    """
    weight = weight.to(z.dtype)
    if transformed():
        product = z @ weight
        return out + (product.transpose(1, 2) if out.ndim == 4 else product).reshape(out.shape)
    return _AddProduct.apply(out, z, weight)
