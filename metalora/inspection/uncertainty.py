"""How uncertain Gaussian cores are: how far their samples lie apart, and what that changes for an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from metalora.inspection.gallery import Gallery
from metalora.models.adapted_model import AdaptedModel
from metalora.util.checks import check_int
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Samples of the cores of N images, compared with their mean cores.

    Attributes:
        core_std: standard deviation of the samples' cores, root mean square over a core's values, a row per image, a
            column per layer.
        spread: mean cosine distance between the samples' embeddings and that of the mean core, 0 (none) to 2, (N).
        agreement: fraction of the samples whose class by k-NN is that of the mean core, (N); None without a gallery.
    """

    core_std: pd.DataFrame
    spread: Tensor
    agreement: Tensor | None


@torch.inference_mode()
def core_uncertainty(
    model: AdaptedModel,
    images: Tensor,
    names: Sequence[str] | None = None,
    gallery: Gallery | None = None,
    *,
    pool: bool = False,
    k: int = 5,
    samples: int = 16,
    seed: int = 0,
) -> Uncertainty:
    """Draw cores of every image's distribution, and embed the image with each.

    All images share the random numbers, so that the result of one depends on no other, and two images differ by their
    distributions alone.

    Args:
        model: with Gaussian cores, see `AdapterConfig.core_distribution`.
        images: float RGB in [0, 1], (N, 3, H, W).
        names: of the images; None: their numbers.
        gallery: of the same adapter, for the votes.
        pool: the images come from one task and share the distribution of their pooled code.
        k: neighbours that vote.
        samples: cores of each image, 2 or more.
        seed: of the random numbers.

    Raises:
        InputError: cores without a distribution, another number of names, too few samples, or a gallery of another
            adapter.
    """
    if not model.config.gaussian:
        raise InputError("This adapter's cores have no distribution: train one with core_distribution gaussian.")
    check_int("samples", samples, 2)
    names = tuple(names) if names is not None else tuple(f"image {i + 1}" for i in range(len(images)))
    if len(names) != len(images):
        raise InputError(f"There are {len(names)} names for {len(images)} images: give one for each.")
    if gallery is not None:
        gallery.check_adapter(model)
    images = images.to(next(model.parameters()).device)
    codes = model.eval().codes(images)
    if pool:
        codes = model.mapping.pool(codes, torch.zeros(len(codes), dtype=torch.int64))
    mean, rng = model(images, cores=model.cores(codes)).float().cpu(), seeded_generator(seed)
    drawn, embeddings = [], []
    for _ in range(samples):
        cores = model.mapping.sample_cores(codes, torch.randn(1, model.mapping.total, generator=rng))
        drawn.append(cores.to("cpu"))
        embeddings.append(model(images, cores=cores).float().cpu())
    std = {
        layer: torch.stack([cores[layer] for cores in drawn]).flatten(2).var(0).mean(1).sqrt().tolist()
        for layer in model.layers
    }
    distances = torch.stack([1 - cosine_similarity(mean.double(), one.double()).clamp(max=1) for one in embeddings])
    agreement = None if gallery is None else _agreement(gallery, mean, embeddings, k)
    return Uncertainty(pd.DataFrame(std, index=list(names)), distances.mean(0), agreement)


def _agreement(gallery: Gallery, mean: Tensor, embeddings: list[Tensor], k: int) -> Tensor:
    predicted = gallery.predict(torch.cat([mean, *embeddings]), "adapted", k)
    votes = [predicted[i : i + len(mean)] for i in range(0, len(predicted), len(mean))]
    same = [[vote == own for vote, own in zip(sample, votes[0], strict=True)] for sample in votes[1:]]
    return torch.tensor(same, dtype=torch.float64).mean(0)
