"""AugBN (Khurana et al. 2112.02355, SITA): BatchNorm statistics of the one image, from its augmentations.

    μ = (1 − s) μ_stored + s μ_image,   σ² = (1 − s) σ²_stored + s σ²_image

Statistics of an image are those of all positions of itself and its augmentations, layer by layer, in one forward pass
without training. Augmentations are random shifts by up to an eighth of the side and mirror images, as the bundled
backbones were trained with; those of the paper that our tasks consist of, such as rotations, would not keep the task.
The share s is the one of `SHARES` that is best on validation images; the paper also chooses it for each image by the
entropy of a classifier, which k-NN does not have.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from metalora.evaluation.given_images import GivenImages
from metalora.models.adapted_model import AdaptedModel
from metalora.models.set_statistics import prepare_batchnorm, set_statistics
from metalora.suites.suite import Examples
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

AUGMENTATIONS = 7  # beside the image itself
SHARES = (0.05, 0.1, 0.2, 0.4)  # of the image's own statistics


@torch.inference_mode()
def embed_augbn(
    model: AdaptedModel,
    examples: Examples | GivenImages,
    share: float,
    *,
    device: torch.device,
    seed: int = 0,
    batch_size: int = 128,
) -> Tensor:
    """Embed images (N, D) by a static method's network whose BatchNorm layers use AugBN for each of them.

    Args:
        model: of a static method.
        examples: N images.
        share: s.
        device: where to compute.
        seed: of the augmentations.
        batch_size: images at a time, augmentations included.

    Raises:
        InputError: the network has no BatchNorm, or its update depends on the image.
    """
    net = model.fold().to(device).eval()
    if not prepare_batchnorm(net):
        raise InputError(f"{model.backbone.name} has no BatchNorm to adapt: leave that row out.")
    views, parts = 1 + AUGMENTATIONS, []
    chunks: Any = examples.chunks(max(1, batch_size // views))
    for number, chunk in enumerate(chunks):
        images = chunk.images()
        rng = seeded_generator(seed, number)
        augmented = torch.cat([images, *(augment(images, rng) for _ in range(AUGMENTATIONS))])
        with set_statistics(torch.arange(len(images)).repeat(views), share):
            parts.append(net(augmented.to(device))[: len(images)].float().cpu())
    return torch.cat(parts)


def augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Shift every image (N, C, H, W) by up to an eighth of its side, its edge repeated, and mirror it at random."""
    count, _, height, width = images.shape
    margin = max(1, min(height, width) // 8)
    padded = F.pad(images, [margin] * 4, mode="replicate")
    offsets = torch.randint(2 * margin + 1, (count, 2), generator=rng)
    mirrored = torch.rand(count, generator=rng) < 0.5
    moved = torch.stack(
        [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, offsets.tolist(), strict=True)]
    )
    return torch.where(mirrored[:, None, None, None], moved.flip(-1), moved)
