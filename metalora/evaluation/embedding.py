"""Embeddings of many images, in chunks: each with its own core, a set's, another image's, or that of true factors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from metalora.evaluation.augbn import embed_augbn
from metalora.evaluation.batchnorm_adaptation import embed_bn_adapted
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.feature_cache import FeatureCache
from metalora.evaluation.given_images import GivenImages, given_images
from metalora.models.adapted_model import AdaptedModel
from metalora.models.backbones import check_embeddings
from metalora.models.mapping_net import mean_by_group
from metalora.suites.suite import Examples
from metalora.util.device import autocast, pick_device
from metalora.util.distributed import current_processes
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

Rows = Examples | GivenImages


def assign_sets(examples: Rows, config: EmbedConfig) -> Tensor:
    """Return the number of each image's set, (N)."""
    return draw_sets(examples.tasks, config.set_size, seeded_generator(config.seed, len(examples)))


def draw_sets(tasks: Tensor, size: int | None, rng: torch.Generator) -> Tensor:
    """Divide the images of every task into sets at random, blind to labels.

    Args:
        tasks: (N).
        size: images of a set (the last one of a task may be smaller); None: the whole task; 0: each by itself.
        rng: draws the sets.

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
        sets[rows] = start + torch.arange(len(rows)) // max(1, size)
        start = int(sets[rows].max()) + 1
    return sets


@torch.inference_mode()
def embed(
    model: AdaptedModel,
    examples: Examples | GivenImages | Tensor | Sequence[Image.Image | str | Path] | str | Path,
    config: EmbedConfig | None = None,
    features: FeatureCache | None = None,
    factor_indices: Tensor | None = None,
) -> Tensor:
    """Embed all examples: (N, D), float32 on the CPU. Of several processes each embeds a part; all return all rows.

    Args:
        model: moved to the device of `config`.
        examples: N images: of a suite; a tensor (float in [0, 1], (N, 3, H, W), for a foreign backbone whatever that
            takes); or images of Pillow, files, folders and archives. These are one set where `config` has sets.
        config: how they are embedded; None: each with its own core.
        features: cache of what the extractor reads of the suite's images.
        factor_indices: the true factors of the suite's tasks, (tasks, factors), which `config.oracle` needs.

    Raises:
        InputError: images that cannot be used, shuffled or identity cores of a method that generates none, or no
            BatchNorm to adapt.
    """
    config = config or EmbedConfig()
    if not isinstance(examples, Examples | GivenImages):
        examples = given_images(model, examples)
    device = pick_device(config.device)
    model.to(device).eval()
    if config.shuffled and not model.config.generates:
        raise InputError(f"{model.config.method} generates no cores that could be shuffled: use another method.")
    if config.set_size == 0 and not model.config.generates:
        raise InputError(f"{model.config.method} generates no cores that could be left out: use sets of 1 or more.")
    sets = assign_sets(examples, config)
    if config.set_use == "bn-adapted":
        return embed_bn_adapted(model, examples, sets, device)
    if config.set_use == "augbn":
        settings: dict[str, Any] = {"device": device, "seed": config.seed, "batch_size": config.batch_size}
        return embed_augbn(model, examples, config.augbn_share, **settings)
    if model.context is not None and config.set_size != 1:
        with autocast(device, config.precision):
            return _embed_sets(model, examples, sets, config, features, device)
    chunks: Any = list(examples.chunks(config.batch_size))
    with autocast(device, config.precision):
        if config.oracle:
            assert factor_indices is not None, "the oracle needs a suite with named factors"
            codes: Tensor | None = model.mapping.factor_codes(factor_indices[examples.tasks].to(device))
        else:
            codes = _shared_codes(model, chunks, sets, config, features, device)
        parts = codes.split(config.batch_size) if codes is not None else [None] * len(chunks)
        pairs = list(zip(chunks, parts, strict=True))
        embeddings = torch.cat(current_processes().map(lambda pair: _embed(model, *pair, features, device), pairs))
    return standardise_sets(embeddings, sets) if config.set_use == "standardised" else embeddings


def _shared_codes(
    model: AdaptedModel,
    chunks: list[Rows],
    sets: Tensor,
    config: EmbedConfig,
    features: FeatureCache | None,
    device: torch.device,
) -> Tensor | None:
    """Return codes (N, code) that are pooled or shuffled over all chunks; None: each image has its own."""
    if not model.config.generates or (config.set_size == 1 and not config.shuffled):
        return None

    if config.set_size == 0:
        return code_of_nothing(model).expand(len(sets), -1)

    def codes_of(chunk: Rows) -> Tensor:
        images, known = _read(model, chunk, features, device)
        return model.codes(images, features=known)

    pooled = model.mapping.pool(torch.cat(current_processes().map(codes_of, chunks)).to(device), sets)
    if config.shuffled:
        order = torch.randperm(len(pooled), generator=seeded_generator(config.seed, 1))
        pooled = pooled[order.to(pooled.device)]
    return pooled


def code_of_nothing(model: AdaptedModel) -> Tensor:
    """Return the code where no image was read, (1, code): that of the identity core, or equal probabilities of factors.

    A product of no images' probabilities is uniform, as their mean is the core of an image that leaves all open.
    """
    mapping, factors = model.mapping, model.config.factors
    made = mapping.identity.new_full  # on its device, so that nothing waits for a copy
    parts = [made((1, count), 1 / count) for count in factors] or [made((1, mapping.code.out_features), 0)]
    return torch.cat(parts, dim=1)


def _embed_sets(
    model: AdaptedModel,
    examples: Rows,
    sets: Tensor,
    config: EmbedConfig,
    features: FeatureCache | None,
    device: torch.device,
) -> Tensor:
    """Embed images with those of their set, whole sets at a time."""
    order, count = sets.argsort(stable=True), 0
    chunks: list[list[Tensor]] = []
    for rows in order.split(sets.bincount().tolist()):
        if not count or count + len(rows) > config.batch_size:
            chunks.append([])
            count = 0
        chunks[-1].append(rows)
        count += len(rows)

    def embed_chunk(parts: list[Tensor]) -> Tensor:
        rows = torch.cat(parts)
        chunk = examples[rows]
        images, known = _read(model, chunk, features, device)
        return check_embeddings(model(images, groups=sets[rows], features=known), len(images)).float().cpu()

    embeddings = torch.cat(current_processes().map(embed_chunk, chunks))
    return torch.empty_like(embeddings).index_copy_(0, order, embeddings)


def _embed(
    model: AdaptedModel,
    chunk: Rows,
    codes: Tensor | None,
    features: FeatureCache | None,
    device: torch.device,
) -> Tensor:
    images, known = _read(model, chunk, features if codes is None else None, device)
    cores = None if codes is None else model.cores(codes)
    return check_embeddings(model(images, cores=cores, features=known), len(images)).float().cpu()


def _read(
    model: AdaptedModel, chunk: Rows, features: FeatureCache | None, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Return images on `device` and what the cache gives for them."""
    images = chunk.images().to(device)
    return images, features(model, chunk, images) if features is not None and isinstance(chunk, Examples) else None


def standardise_sets(features: Tensor, sets: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Shift and scale every set's features (N, D) to mean 0 and standard deviation 1, channel by channel."""
    mean = mean_by_group(features, sets)
    deviation = mean_by_group((features - mean).square(), sets).add(epsilon).sqrt()
    return (features - mean) / deviation
