"""Embeddings of many images, in chunks: with own cores, cores of sets, shuffled cores, or those of true factors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metalora.evaluation.batchnorm_adaptation import embed_renormalised
from metalora.evaluation.feature_cache import FeatureCache
from metalora.models.adapted_model import AdaptedModel
from metalora.models.mapping_net import mean_by_group
from metalora.suites.suite import Examples
from metalora.util.device import autocast, pick_device
from metalora.util.errors import InputError
from metalora.util.seeding import generator


@dataclass(frozen=True)
class EmbedConfig:
    """How images are embedded.

    Attributes:
        set_size: images of one task and side that share a core; None: all of them.
        shuffled: every image gets the code of another one of its side (a control).
        use: what a static method makes of a set: its features are "standardised" together, its BatchNorm layers are
            "bn-adapted" with the set's own statistics, its search is "routed" to the gallery sets of nearest mean, or
            its shift is "inverted" as far as a reader of factors tells it from the set.
        told: every image gets the core of its task's true factors (a ceiling).
    """

    set_size: int | None = 1
    shuffled: bool = False
    set_use: str | None = None
    oracle: bool = False
    seed: int = 0
    batch_size: int = 128
    device: str = "auto"
    precision: str = "float32"

    def sets(self, examples: Examples) -> Tensor:
        """The number of each image's set, (N)."""
        return draw_sets(examples.tasks, self.set_size, generator(self.seed, len(examples)))


def draw_sets(tasks: Tensor, size: int | None, rng: torch.Generator) -> Tensor:
    """Divide the images of every task into sets at random, blind to labels.

    Args:
        tasks: (N).
        size: images of a set (the last one of a task may be smaller); None: the whole task.

    Returns:
        (N), the number of each image's set.
    """
    if size is None:
        return tasks.unique(return_inverse=True)[1]
    sets = torch.empty_like(tasks)
    start = 0
    for task in tasks.unique():
        rows = (tasks == task).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=rng)]
        sets[rows] = start + torch.arange(len(rows)) // size
        start = int(sets[rows].max()) + 1
    return sets


@torch.inference_mode()
def embed(
    model: AdaptedModel,
    examples: Examples,
    embed_config: EmbedConfig | None = None,
    features: FeatureCache | None = None,
    factor_indices: Tensor | None = None,
) -> Tensor:
    """Embeddings of all examples, (N, D), float32 on the CPU.

    Args:
        features: what the extractor saw before of the suite's images.
        levels: the true factors of the suite's tasks, (tasks, factors), where the protocol says that they are told.

    Raises:
        InputError: shuffled cores of a method that generates none, or nothing to renormalise.
    """
    embed_config = embed_config or EmbedConfig()
    device = pick_device(embed_config.device)
    model.to(device).eval()
    generates = model.config.generates
    if embed_config.shuffled and not generates:
        raise InputError(f"{model.config.method} generates no cores that could be shuffled: use another method.")
    sets = embed_config.sets(examples)
    if embed_config.set_use == "bn-adapted":
        return embed_renormalised(model, examples, sets, device)
    chunks = list(examples.chunks(embed_config.batch_size))
    codes = None

    def read(chunk: Examples, images: Tensor) -> Tensor | None:
        return None if features is None else features(model, chunk, images)

    def code(chunk: Examples) -> Tensor:
        images = chunk.images().to(device)
        return model.codes(images, features=read(chunk, images))

    def embedding(chunk: Examples, part: Tensor | None) -> Tensor:
        images = chunk.images().to(device)
        if part is not None:
            return model(images, cores=model.cores(part))
        return model(images, features=read(chunk, images))

    with autocast(device, embed_config.precision):
        if embed_config.oracle:
            codes = model.mapping.factor_codes(factor_indices[examples.tasks].to(device))
        elif generates and (embed_config.shuffled or embed_config.set_size != 1):
            codes = torch.cat([code(chunk) for chunk in chunks])
            codes = model.mapping.pool(codes, sets)
            if embed_config.shuffled:
                order = torch.randperm(len(codes), generator=generator(embed_config.seed, 1))
                codes = codes[order.to(device)]
        parts = codes.split(embed_config.batch_size) if codes is not None else [None] * len(chunks)
        embeddings = torch.cat(
            [embedding(chunk, part).float().cpu() for chunk, part in zip(chunks, parts, strict=True)]
        )
    return standardise_sets(embeddings, sets) if embed_config.set_use == "standardised" else embeddings


def standardise_sets(features: Tensor, sets: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Every set's features shifted and scaled to mean 0 and deviation 1, channel by channel. (N, D)."""
    mean = mean_by_group(features, sets)
    deviation = mean_by_group((features - mean).square(), sets).add(epsilon).sqrt()
    return (features - mean) / deviation
