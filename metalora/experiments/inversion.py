"""Invert the domain transform of a set of images, the rival of every adapter where tasks are known transforms.

The reader that predicts a set's factors is the mapping net of Meta-LoRA, trained alone with as many steps.
"""

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metalora.adapters.config import AdapterConfig
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import assign_sets, embed
from metalora.evaluation.feature_cache import FeatureCache
from metalora.models.adapt import adapt
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.suite import Examples, Suite
from metalora.training.config import TrainingConfig, identity_of
from metalora.training.fit import standardise
from metalora.training.loop import IMAGES, Progress, run_loop, warmup_cosine
from metalora.util.device import autocast, pick_device
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

READER = "metalora-tr"  # whose mapping net it is; its adapters stay untouched


def make_reader(
    backbone: torch.nn.Module, suite: Suite, adapter: AdapterConfig, *, download: bool = False
) -> AdaptedModel:
    """Return a model whose codes are to predict the suite's factors, before its training.

    Args:
        backbone: of the comparison.
        suite: whose factors are read.
        adapter: of the comparison; its extractor and the width of its mapping net count.
        download: fetch weights of an extractor that are not on this machine.

    Raises:
        InputError: the suite has no named factors, one of its transforms has no inverse, or the extractor is unknown
            or not on this machine.
    """
    if not suite.factors:
        raise InputError(f"{suite.name} has no named factors to read: leave out rows with inverted transforms.")
    transforms: tuple[Any, ...] = suite.splits["train"].transforms
    for transform in transforms:
        transform.inverse(torch.zeros(1, 3, 1, 1))
    counts = tuple(map(len, suite.factors))
    settings = AdapterConfig(READER, rank=1, extractor=adapter.extractor, hidden=adapter.hidden, factors=counts)
    return adapt(backbone, replace(settings, seed=adapter.seed), download=download)


def train_reader(
    backbone: torch.nn.Module,
    suite: Suite,
    adapter: AdapterConfig,
    config: TrainingConfig,
    features: FeatureCache,
    checkpoint: Path | None = None,
) -> Generator[Progress, None, AdaptedModel]:
    """Train a model whose codes predict the suite's factors, yielding progress; return it.

    Args:
        backbone: as in `make_reader`.
        suite: as in `make_reader`.
        adapter: as in `make_reader`.
        config: of the comparison's trainings.
        features: cache of what the extractor reads of the suite's images.
        checkpoint: file to resume from when it exists, and to write while training.

    Raises:
        InputError: as `make_reader` and `run_loop`.
    """
    reader = make_reader(backbone, suite, adapter).to(pick_device(config.device))
    device = next(reader.trained.parameters()).device
    standardise(reader, suite, config)
    trained = [*reader.mapping.hidden.parameters(), *reader.mapping.code.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=config.lr * config.mapping_lr_scale, weight_decay=0.0)
    schedule = warmup_cosine(optimizer, config.steps)

    def step(i: int) -> dict[str, float]:
        batch = suite.batch(config.batch_size, seeded_generator(config.seed, i), max(config.set_sizes))
        images = batch.images.to(device)
        with autocast(device, config.precision):
            codes = reader.codes(images, features=features(reader, batch.examples, images))
        optimizer.zero_grad(set_to_none=True)
        assert suite.factor_indices is not None and suite.combinations is not None
        factor_indices = suite.factor_indices[batch.tasks].to(device)
        loss = reader.mapping.factor_loss(codes, factor_indices, suite.combinations.to(device))
        loss.backward()
        optimizer.step()
        schedule.step()
        return {"loss": loss.item()}

    parts: dict[str, Any] = {"reader": reader.trained, "optimizer": optimizer, "schedule": schedule}
    of_suite = {"suite": suite.name, "suite_seed": suite.seed, IMAGES: suite.fingerprint}
    identity = {"reader": reader.backbone.name, **of_suite, **identity_of(config, reader.config, predicts=True)}
    yield from run_loop(step, config.steps, config.batch_size, optimizer, parts, identity, checkpoint=checkpoint)
    return reader.eval()


@torch.inference_mode()
def invert_examples(
    reader: AdaptedModel, suite: Suite, split: Examples, embed_config: EmbedConfig, features: FeatureCache
) -> Examples:
    """Return the images of a split, each with the transform inverted that the reader predicts from its set.

    Raises:
        InputError: a transform of the suite has no inverse; raised when the images are rendered.
    """
    device, sets = next(reader.trained.parameters()).device, assign_sets(split, embed_config)
    with autocast(device, embed_config.precision):
        codes = [
            reader.codes(images, features=features(reader, chunk, images))
            for chunk in split.chunks(embed_config.batch_size)
            for images in [chunk.images().to(device)]
        ]
    pooled = reader.mapping.pool(torch.cat(codes), sets)
    predicted = torch.stack([part.argmax(1) for part in pooled.split(reader.mapping.factors, dim=1)], dim=1).cpu()
    assert suite.factor_indices is not None
    tasks = (predicted[:, None] == suite.factor_indices[None]).all(2).int().argmax(1)  # the tasks of these factors
    count = len(suite.tasks)
    transforms = tuple(_then_invert(split.transforms, task, other) for task in range(count) for other in range(count))
    return replace(split, transforms=transforms, tasks=split.tasks * count + tasks)


def _then_invert(transforms: tuple, task: int, other: int) -> Callable[[Tensor], Tensor]:
    return lambda images: transforms[other].inverse(transforms[task](images))


def embed_inverted(
    model: AdaptedModel,
    reader: AdaptedModel,
    suite: Suite,
    split: str,
    embed_config: EmbedConfig,
    features: FeatureCache,
) -> Tensor:
    """Return a static method's embeddings (N, D) of the images of a split, their transforms inverted.

    Raises:
        InputError: a transform of the suite has no inverse.
    """
    inverted = invert_examples(reader, suite, suite.splits[split], embed_config, features)
    return embed(model, inverted, replace(embed_config, set_size=1, set_use=None))
