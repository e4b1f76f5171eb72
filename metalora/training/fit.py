"""`fit()`: training an adapted model on a suite; the objective is the same for every method."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from metalora.evaluation.accuracy import embed_splits, validation_accuracy
from metalora.evaluation.embedding import EmbedConfig
from metalora.evaluation.feature_cache import FeatureCache
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.suite import Batch, Suite
from metalora.training.config import TrainingConfig
from metalora.training.loop import Progress, run_loop, warmup_cosine
from metalora.training.objective import Objective
from metalora.training.prefetch import Prefetch
from metalora.util.compiling import compiled
from metalora.util.device import autocast, pick_device
from metalora.util.errors import InputError
from metalora.util.seeding import generator

FEATURE_SAMPLE = 1024  # training images whose features give the statistics of standardisation


def fit(
    model: AdaptedModel,
    suite: Suite,
    config: TrainingConfig | None = None,
    *,
    checkpoint: Path | None = None,
    validate_last: bool = True,
    features: FeatureCache | None = None,
) -> Iterator[Progress]:
    """Train the adapters and the mapping net of `model` on the seen tasks of `suite`, in place.

    Yields a `Progress` after every step; its metrics are "loss", "accuracy" (of the head, on the batch), "waiting" (the
    share of the step's time that passed before its images were there) and, where validated, "validation" (k-NN
    accuracy at K = 5 on validation images of seen tasks). The last one is too, unless told otherwise. Where others
    are, the first has "original" too: the same of the original backbone. A model that was trained before goes on from
    there; the head begins anew. If its code names other factors than this suite has, the classes alone train it.

    Args:
        checkpoint: file to resume from when it exists, and to write while training.
        validate_last: validate after the last step even where `config.validate_every` does not say so.
        features: what earlier models with the same extractor read of this suite's images; left out: none yet.

    Raises:
        InputError: nothing to train, a code that is to learn to name factors that the suite does not have, a checkpoint
            of another run, or a loss that is not finite.
    """
    config = config or TrainingConfig()
    if not model.layers:
        raise InputError("The original backbone has nothing to train: choose another method.")
    device = pick_device(config.device)
    model.to(device)
    features = features or FeatureCache(suite)
    if not _trained_before(model):
        model.config.check_factors(suite.name, tuple(map(len, suite.factors)))
    standardise(model, suite, config)
    shares = {
        "teacher_forcing_ratio": config.teacher_forcing_ratio,
        "identity_core_prob": config.identity_core_prob if config.set_size == 1 else config.identity_core_prob_sets,
    }
    objective = Objective(model, suite, weight=config.factor_loss_weight, **shares, seed=config.seed)
    optimizer = torch.optim.AdamW(_groups(model, objective, config), lr=config.lr, weight_decay=0.0)
    schedule = warmup_cosine(optimizer, config.steps)
    embed_config = EmbedConfig(
        set_size=config.set_size,
        seed=config.seed,
        batch_size=2 * config.batch_size,
        device=config.device,
        precision=config.precision,
    )
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def draw(i: int) -> Batch:
        return suite.batch(config.batch_size, generator(config.seed, i), config.set_size)

    def loss_of(i: int, batch: Batch, network: Callable) -> tuple[Tensor, Tensor]:
        with autocast(device, config.precision):
            return objective(model, network, batch, features, i, config.set_size > 1)

    def attempt(network: Callable) -> None:
        model.train()
        loss_of(0, draw(0), network)[0].backward()
        optimizer.zero_grad(set_to_none=True)

    network = compiled(model, attempt) if config.compile else model

    def step(i: int) -> dict[str, float]:
        original = {}
        if i == 0 and config.validate_every:
            with model.disabled():
                original["original"] = validate(model, suite, embed_config)
        model.train()
        started = time.perf_counter()
        batch = batches(i)
        waited = time.perf_counter() - started
        loss, right = loss_of(i, batch, network)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, config.max_grad_norm)
        optimizer.step()
        schedule.step()
        metrics = {"loss": loss.item(), "accuracy": right.item(), **original}
        metrics["waiting"] = waited / (time.perf_counter() - started)
        last = i + 1 == config.steps
        if (last and validate_last) or (config.validate_every and (i + 1) % config.validate_every == 0):
            metrics["validation"] = validate(model, suite, embed_config, features)
        return metrics

    parts = {"trained": model.trained, "head": objective, "optimizer": optimizer, "schedule": schedule}
    identity = {
        "suite": suite.name,
        "suite_seed": suite.seed,
        "adapter": model.config.to_dict(),
        "training": asdict(config),
        "backbone": model.backbone.name,
    }
    with Prefetch(draw, config.steps, ahead=device.type != "cpu") as batches:
        yield from run_loop(step, config.steps, config.batch_size, optimizer, parts, identity, checkpoint=checkpoint)
    model.eval()


def validate(
    model: AdaptedModel, suite: Suite, embed_config: EmbedConfig, features: FeatureCache | None = None
) -> float:
    """k-NN accuracy at K = 5 on validation images of seen tasks, see `validation_accuracy`."""
    return validation_accuracy(suite, embed_splits(model, suite, embed_config, features))


def standardise(model: AdaptedModel, suite: Suite, config: TrainingConfig) -> None:
    """Give a mapping net that was not trained before the statistics of the training images' features."""
    device = next(model.trained.parameters()).device
    sample = suite.batch(min(FEATURE_SAMPLE, len(suite.splits["train"])), generator(config.seed, -1)).images
    model.prepare(sample[:2].to(device))
    # What was trained before has learnt with its own statistics.
    if model.config.generates and not _trained_before(model):
        with autocast(device, config.precision):
            model.standardise(sample.to(device))


def _trained_before(model: AdaptedModel) -> bool:
    return model.config.generates and model.mapping.standardised


def _groups(model: AdaptedModel, objective: nn.Module, config: TrainingConfig) -> list[dict]:
    adapters: list[Tensor] = list(model.trained.adapters.parameters())
    groups = [
        {"name": "adapters", "params": adapters, "lr": config.lr},
        {"name": "head", "params": list(objective.parameters()), "lr": config.lr},
    ]
    if model.config.generates:
        lr = config.lr * config.mapping_lr_scale
        groups.append({"name": "mapping", "params": list(model.mapping.parameters()), "lr": lr})
    elif model.generated:
        groups.append({"name": "core", "params": list(model.trained.constant.parameters()), "lr": config.lr})
    return groups
