"""The noises of Hendrycks and Dietterich: `Corruption` says what the values of each are."""

import torch
from torch import Tensor

from metalora.suites.corruptions.fields import Draws


def gaussian_noise(images: Tensor, draws: Draws, unit: float, deviation: float) -> Tensor:
    """Add normal noise to every value."""
    return images + deviation * draws.normal(*images.shape[1:])


def shot_noise(images: Tensor, draws: Draws, unit: float, photons: float) -> Tensor:
    """Count photons: every value becomes a Poisson number, divided by what white has on average."""
    return draws.poisson(images * photons) / photons


def impulse_noise(images: Tensor, draws: Draws, unit: float, share: float) -> Tensor:
    """Set a share of the values to 0 or 1, either as often."""
    chance = draws.uniform(*images.shape[1:])
    return torch.where(chance < share, (chance < share / 2).to(images), images)
