"""Numbers that describe an image: moments of its channels, and of the outputs of a network's stages."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-6


def input_statistics(images: Tensor) -> Tensor:
    """Return mean, standard deviation, skew of every channel and correlations of channel pairs: (N, 12) for RGB.

    Colour transforms are read from these, not from deep features.
    """
    pixels = images.flatten(2)
    mean = pixels.mean(2, keepdim=True)
    centred = pixels - mean
    std = centred.square().mean(2, keepdim=True).add(EPSILON).sqrt()
    unit = centred / std
    skew = unit.pow(3).mean(2)
    channels = images.shape[1]
    first, second = torch.triu_indices(channels, channels, 1, device=images.device)
    correlation = (unit[:, first] * unit[:, second]).mean(2)
    return torch.cat([mean[..., 0], std[..., 0], skew, correlation], dim=1)


def stage_statistics(output: Tensor, channels: int, prefix: int = 0, *, layout: bool = True) -> Tensor:
    """Return mean, standard deviation and 2×2 layout of a stage's output: (N, 6 · channels).

    The layout shows rotation, which global means hide.

    Args:
        output: (N, C, H, W), (N, H, W, C), or tokens (N, T, C).
        channels: C.
        prefix: tokens before the grid (class token, registers).
        layout: whether the layout is among them; otherwise (N, 2 · channels).
    """
    if output.ndim == 3:
        output = output[:, prefix:].transpose(1, 2)
        side = math.isqrt(output.shape[2])
        output = output.unflatten(2, (side, side)) if side * side == output.shape[2] else output[..., None]
    elif output.shape[1] != channels:
        output = output.movedim(-1, 1)
    mean = output.mean((2, 3))
    # Ten times as fast as torch.std_mean on a CPU.
    variance = (output - mean[..., None, None]).square().mean((2, 3))
    std = variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt()  # the gradient of √0 is infinite
    parts = [mean, std, F.adaptive_avg_pool2d(output, 2).flatten(1)] if layout else [mean, std]
    return torch.cat(parts, dim=1)
