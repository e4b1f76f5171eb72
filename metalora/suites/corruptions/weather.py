"""The weather of Hendrycks and Dietterich: `Corruption` says what the values of each are."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from metalora.suites.corruptions.fields import Draws, streaked, zoomed

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
ICE = (0.65, 0.70, 0.75)  # colour of frost, near that of the authors' photographs
FINEST = 64  # pixels a side from which frost is drawn as it is
MEAN_FEATHER = 0.42  # light of a feather on average
BRANCH = math.radians(60)  # between a crystal's axis and its branches, as ice grows


def snow(
    images: Tensor,
    draws: Draws,
    unit: float,
    mean: float,
    deviation: float,
    zoom: float,
    threshold: float,
    radius: float,
    sigma: float,
    kept: float,
) -> Tensor:
    """Whiten the image and add flakes that fall both ways."""
    flakes = zoomed(mean + deviation * draws.normal(1, *images.shape[2:]), max(1, zoom * unit))
    flakes = flakes.where(flakes >= threshold, torch.zeros(())).clamp(0, 1)
    flakes = streaked(flakes, -135 + 90 * draws.uniform(), radius * unit, sigma * unit)
    grey = (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    return kept * images + (1 - kept) * images.maximum(1.5 * grey + 0.5) + flakes + flakes.rot90(2, (2, 3))


def frost(images: Tensor, draws: Draws, unit: float, kept: float, added: float) -> Tensor:
    """Mix with a picture of frost: not the authors' photographs but crystals that are rendered, see `ice`."""
    return kept * images + added * ice(draws, images.shape[-1])


def ice(draws: Draws, size: int) -> Tensor:
    """Return pictures of frost on glass, (N, 3, S, S): large feathers of ice, small ones, and rough patches."""
    finer = math.ceil(FINEST / size)  # small pictures are shrunk, as the authors' photographs are
    size = finer * size
    rough, haze = plasma(draws, size, 1.25), plasma(draws, size, 1.8)
    period = max(2.5 / size, 1 / 36)
    large = _feathers(draws, rough, 12, period)
    small = _feathers(draws, rough, 40, 0.6 * period)
    light = 0.24 * large * (0.4 + 1.2 * haze) + 0.2 * small * (1.5 - haze) + 0.25 * (rough - 0.5) + 0.35 * (haze - 0.5)
    light = light + 0.3 * (draws.uniform(1, 1) - 0.5)  # a pane is brighter than another
    return F.avg_pool2d((light.new_tensor(ICE)[:, None, None] + light[:, None]).clamp(0, 1), finer)


def _feathers(draws: Draws, rough: Tensor, count: int, period: float) -> Tensor:
    """Return the light of feathers that grow from `count` nuclei, (N, S, S).

    Every pixel belongs to the nearest nucleus, whose feather has an axis, and branches at 60° to it on either side.

    Args:
        draws: chance of N images.
        rough: clouds in [0, 1] that bend the feathers, (N, S, S).
        count: number of nuclei.
        period: from one branch to the next, as a fraction of the side.
    """
    line = (torch.arange(rough.shape[-1]).to(rough) + 0.5) / rough.shape[-1]
    x, y = line + 0.12 * (rough - 0.5), line[:, None] + 0.12 * (rough.flip(1) - 0.5)
    nuclei = draws.uniform(count, 4)  # place, angle of the axis, brightness
    places = torch.stack([x.flatten(1), y.flatten(1)], 1)
    # Image by image, which takes little memory at once; min is faster than argmin.
    nearest = [
        (n.square().sum(1, True) - 2 * n @ p).min(0).indices for n, p in zip(nuclei[..., :2], places, strict=True)
    ]
    chosen = nuclei.gather(1, torch.stack(nearest)[..., None].expand(-1, -1, 4)).unflatten(1, rough.shape[1:])
    x0, y0, turn, bright = chosen.unbind(3)
    across, down, angle = x - x0, y - y0, 2 * math.pi * turn
    along = across * angle.cos() + down * angle.sin()
    aside = (down * angle.cos() - across * angle.sin()).abs()
    phase = 2 * math.pi * (along - aside / math.tan(BRANCH)) / period
    coarse = 0.5 + 0.5 * torch.cos(phase + 6 * math.pi * rough)
    fine = 0.5 + 0.5 * torch.cos(2.7 * phase - 10 * math.pi * rough)
    branches = (0.55 * coarse.square() + 0.35 * fine) * torch.exp(-aside / (5 * period))
    return branches + torch.exp(-aside / period) + 0.5 * (bright - 0.5) - MEAN_FEATHER


def fog(images: Tensor, draws: Draws, unit: float, strength: float, decay: float) -> Tensor:
    """Add a cloud, and darken so that the brightest value stays."""
    brightest = images.amax((1, 2, 3), keepdim=True)
    cloud = plasma(draws, images.shape[-1], decay)[:, None]
    return (images + strength * cloud) * brightest / (brightest + strength)


def plasma(draws: Draws, size: int, decay: float) -> Tensor:
    """Return clouds (N, S, S) in [0, 1] by the diamond-square algorithm on a torus.

    Args:
        draws: chance of N images.
        size: S.
        decay: what the roughness is divided by, twice from one scale to the next finer one.
    """
    side = max(2, 2 ** math.ceil(math.log2(size)))
    noise = 2 * draws.uniform(side, side) - 1
    heights = torch.zeros_like(noise)
    step, amplitude = side, 1.0
    while step > 1:
        half = step // 2
        corners = heights[:, ::step, ::step]
        right = corners + corners.roll(-1, 2)
        centres = (right + right.roll(-1, 1)) / 4 + amplitude * noise[:, half::step, half::step]
        below = corners + corners.roll(-1, 1)
        heights[:, half::step, half::step] = centres
        heights[:, ::step, half::step] = (right + centres + centres.roll(1, 1)) / 4
        heights[:, half::step, ::step] = (below + centres + centres.roll(1, 2)) / 4
        heights[:, ::step, half::step] += amplitude * noise[:, ::step, half::step]
        heights[:, half::step, ::step] += amplitude * noise[:, half::step, ::step]
        step, amplitude = half, amplitude / decay**2
    heights = heights - heights.amin((1, 2), keepdim=True)
    return (heights / heights.amax((1, 2), keepdim=True))[:, :size, :size]


def brightness(images: Tensor, draws: Draws, unit: float, added: float) -> Tensor:
    """Raise the value of HSV, and keep hue and saturation; black becomes grey."""
    value = images.amax(1, keepdim=True)
    raised = (value + added).clamp(max=1)
    return torch.where(value > 0, images * raised / value.clamp(min=1e-6), raised)
