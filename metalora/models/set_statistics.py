"""BatchNorm layers that normalise with statistics of sets of images, in one pass over several sets.

    y = γ (x − μ) / √(σ² + ε) + β,   μ = (1 − s) μ_stored + s μ_set,   σ² = (1 − s) σ²_stored + s σ²_set

Mean and variance of a set are over its images and their positions. With a share s of 1 that is a BatchNorm in training
mode that gets each set by itself; nothing stored is changed.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from metalora.models.context import shared_by_set
from metalora.util.errors import InputError


class _State(threading.local):
    """Sets of the images that pass in this thread, None: each by itself; and the share of their statistics."""

    groups: Tensor | None = None
    share: float = 0.0


_state = _State()


@contextlib.contextmanager
def set_statistics(groups: Tensor | None, share: float = 1.0) -> Iterator[None]:
    """Let the BatchNorm layers that were prepared use the statistics of sets, in this thread.

    Args:
        groups: (N); images of equal numbers are a set. None: each image by itself.
        share: s, of the sets' own statistics.
    """
    before = _state.groups, _state.share
    _state.groups, _state.share = groups, share
    try:
        yield
    finally:
        _state.groups, _state.share = before


def prepare_batchnorm(net: nn.Module) -> int:
    """Make the BatchNorm layers of a network heed `set_statistics`; return how many there are."""
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]
    for norm in norms:
        norm.register_forward_hook(_normalise)
    return len(norms)


def _normalise(norm: Any, args: tuple[Tensor], output: Tensor) -> Tensor | None:
    """Return what a BatchNorm gives with the statistics of sets; None leaves its output as it is."""
    groups, share = _state.groups, _state.share
    if not share:
        return None
    (x,) = args
    if groups is not None and len(x) != len(groups):
        raise InputError(f"A BatchNorm gets {len(x)} rows for {len(groups)} images: its leading axis is not the batch.")
    wide = torch.promote_types(x.dtype, torch.float32)
    flat = (x.flatten(2) if x.ndim > 2 else x[..., None]).to(wide)
    mean = shared_by_set(flat.mean(2), groups)
    variance = shared_by_set((flat - mean[..., None]).square().mean(2), groups)
    if share < 1:
        mean = torch.lerp(norm.running_mean.to(wide), mean, share)
        variance = torch.lerp(norm.running_var.to(wide), variance, share)
    gain = (variance + norm.eps).rsqrt()
    gain = gain if norm.weight is None else gain * norm.weight.to(wide)
    offset = -mean * gain if norm.bias is None else norm.bias.to(wide) - mean * gain
    normal = torch.addcmul(offset[..., None], flat, gain[..., None]).view(x.shape).to(output.dtype)
    return norm.act(norm.drop(normal)) if isinstance(norm, BatchNormAct2d) else normal
