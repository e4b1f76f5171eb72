"""A job: one training of one method on one backbone with one seed, and everything measured on it.

Jobs are pure functions of their settings, so they can run in any order, in other processes or on other machines, and an
interrupted comparison resumes with the missing ones.
"""

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from metalora.evaluation.accuracy import (
    SplitFeatures,
    accuracy,
    embed_splits,
    keep_splits,
    measure,
    validation_accuracy,
)
from metalora.evaluation.augbn import SHARES
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import assign_sets, standardise_sets
from metalora.evaluation.feature_cache import FeatureCache
from metalora.evaluation.knn import confusion_by_task, per_task_accuracy
from metalora.evaluation.linear_head import LinearHead, measure_head
from metalora.experiments.config import JobConfig
from metalora.experiments.equal_budget import settings_of
from metalora.experiments.inversion import embed_inverted, train_reader
from metalora.experiments.variants import Variant
from metalora.models.adapt import adapt
from metalora.models.adapted_model import AdaptedModel
from metalora.models.backbones import Backbone, image_size_for, load_backbone
from metalora.suites.config import SuiteConfig
from metalora.suites.load import load_suite
from metalora.suites.suite import Suite
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit
from metalora.training.loop import Progress
from metalora.training.plan import LEARNING_RATES, STEPS, best_lr, seconds_per_step, try_learning_rates
from metalora.util.device import device_name, pick_device
from metalora.util.errors import InputError
from metalora.util.files import part_of

Result = TypeVar("Result")


@functools.lru_cache(maxsize=2)
def _suite(config: SuiteConfig, seed: int) -> Suite:
    return load_suite(config, seed=seed)


def check_fingerprint(config: JobConfig, expected: str) -> None:
    """Check that the images of a job, as this machine reads them, have a fingerprint.

    Raises:
        InputError: they have another, or cannot be read.
    """
    suite = _suite(config.suite, config.training.seed)
    if suite.fingerprint != expected:
        raise InputError(
            f"The images of {suite.name}, or their labels, are others than where the comparison was started: copy "
            "those to this path here."
        )


@functools.lru_cache(maxsize=2)
def _features(suite: SuiteConfig, seed: int, *extractor: str) -> FeatureCache:
    """Return the cache that all jobs of this process with the same extractor (name, backbone, precision) share."""
    return FeatureCache(_suite(suite, seed))


def _model(config: JobConfig, suite: Suite) -> tuple[Backbone, AdaptedModel]:
    """Build the backbone of a job, and the model that it trains."""
    size = image_size_for(config.backbone, suite.image_size)
    backbone = load_backbone(config.backbone, image_size=size, download=config.download)
    return backbone, adapt(backbone, settings_of(config, backbone, suite), download=config.download)


def measure_pace(config: JobConfig) -> float:
    """Return the seconds of one step of a job, without validation, in this process.

    Raises:
        InputError: as `run_job`.
    """
    suite = _suite(config.suite, config.training.seed)
    training = replace(config.training, steps=STEPS + 1, keep_best=False, validate_every=0)
    return seconds_per_step(_model(config, suite)[1], suite, training)


def run_job(
    config: JobConfig, checkpoint: Path | None = None, progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Train and measure.

    Args:
        config: settings.
        checkpoint: file to resume from when it exists, and to write while training.
        progress: called after every step.

    Returns:
        "job" (the settings), "images" (the suite's fingerprint), "rows" (a dict per variant, task split, gallery and
        K), "tasks" (accuracies of single tasks) and "confusion" (how often each class was taken for each, at the first
        K), plain values.

    Raises:
        InputError: the settings cannot be used, see `check_comparison`; the checkpoint is of other settings; or the
            loss or its gradient is not finite.
    """
    training = config.training
    torch.manual_seed(training.seed)  # whichever job this process did before
    suite = _suite(config.suite, training.seed)
    backbone, model = _model(config, suite)
    extractor = config.adapter.extractor, config.backbone, training.precision, training.device
    features = _features(config.suite, training.seed, *extractor)
    trial_steps = config.trial_steps if model.layers else None
    tried, trained = len(LEARNING_RATES) * (trial_steps or 0), training.steps if model.layers else 0
    steps = tried + trained + (training.steps if config.has_reader else 0)

    def part(name: str) -> Path | None:
        return None if checkpoint is None else part_of(checkpoint, name)

    def progress_from(first: int) -> Callable[[Progress], None]:
        return lambda event: progress and progress(replace(event, step=first + event.step, steps=steps))

    if trial_steps is not None:
        trials = try_learning_rates(model, suite, training, trial_steps, features, checkpoint)
        training = replace(training, lr=best_lr(_finish(trials, progress_from(0))))
    milliseconds, fitted, head = _train(model, suite, training, features, checkpoint, progress_from(tried))
    reader = None
    if config.has_reader:
        # LoRA of equal budget has no mapping net whose settings the reader could have, hence the comparison's.
        reading = train_reader(backbone, suite, config.adapter, training, features, part("reader"))
        reader = _finish(reading, progress_from(tried + trained))
    budget = model.budget().loc["total"]
    shared = {
        "backbone": config.backbone,
        "suite": suite.name,
        "seed": training.seed,
        "lr": training.lr,
        "steps": training.steps,
        **fitted,
        "static_parameters": int(budget["adapter_parameters"]),
        "generator_parameters": int(budget["generator_parameters"]),
        "generator_flops": int(budget["generator_flops"]),
        "ms_per_step": milliseconds,
        "device": device_name(pick_device(training.device)),
    }
    result: dict[str, Any] = {
        "job": config.to_dict(),
        "images": suite.fingerprint,
        "rows": [],
        "tasks": [],
        "confusion": [],
    }
    single = embed_splits(model, suite, _embed_config(Variant(config.trained.method), training), features)
    single = keep_splits(single, part("single"))
    for number, variant in enumerate(config.variants):
        embed_config = _embed_config(variant, training)
        splits: Callable[[str], Tensor]
        if variant.set_use == "inverted":
            assert reader is not None
            shared_here = shared | {"generator_parameters": _reading_parameters(reader)}
            inverted = functools.cache(
                lambda split, c=embed_config: embed_inverted(model, reader, suite, split, c, features)
            )
            splits = keep_splits(inverted, part(f"row-{number}"))
        elif variant.is_embedded_singly:  # sets are used after the embedding
            shared_here, splits = shared, functools.partial(_with_sets, suite, single, embed_config)
        else:
            if variant.set_use == "augbn":
                embed_config = _with_best_share(model, suite, embed_config)
            own = embed_splits(model, suite, embed_config, features)
            shared_here, splits = shared, keep_splits(own, part(f"row-{number}"))
        _measure(suite, variant, config, embed_config, splits, shared_here, result, head)
    return result


def _with_best_share(model: AdaptedModel, suite: Suite, config: EmbedConfig) -> EmbedConfig:
    """Return settings with the share of AugBN's statistics that is best on validation; of equal ones the smallest."""
    choices = [replace(config, augbn_share=share) for share in SHARES]
    return max(choices, key=lambda one: validation_accuracy(suite, embed_splits(model, suite, one), embed_config=one))


def _with_sets(suite: Suite, single: SplitFeatures, embed_config: EmbedConfig, split: str) -> Tensor:
    if embed_config.set_use == "standardised":
        return standardise_sets(single(split), assign_sets(suite.splits[split], embed_config))
    return single(split)


def _reading_parameters(reader: AdaptedModel) -> int:
    parts = reader.mapping.hidden, reader.mapping.code
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def _embed_config(variant: Variant, training: TrainingConfig) -> EmbedConfig:
    standard = "standardised" if variant.is_embedded_singly and variant.set_size != 1 else None
    return EmbedConfig(
        set_size=variant.set_size,
        shuffled=variant.control == "shuffled",
        set_use=variant.set_use or standard,
        oracle=variant.control == "oracle",
        seed=training.seed,
        batch_size=2 * training.batch_size,
        device=training.device,
        precision=training.precision,
    )


def _finish(events: Generator[Progress, None, Result], progress: Callable[[Progress], None]) -> Result:
    """Report what a training yields, and return what it returns; an error in between leaves it saved."""
    with contextlib.closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                return end.value
            progress(event)


def _train(
    model: AdaptedModel,
    suite: Suite,
    config: TrainingConfig,
    features: FeatureCache,
    checkpoint: Path | None,
    progress: Callable[[Progress], None],
) -> tuple[float | None, dict[str, float], LinearHead | None]:
    """Train to the end.

    Returns:
        Milliseconds of a step (median, as if no features were cached), None where there were no two steps here; what
        the training chose, of "best_step" and "gate"; and the head that was trained along.
    """
    if not model.layers:
        return None, {}, None
    chosen: dict[str, float] = {}
    before: float | None = None
    times: list[float] = []

    def note(event: Progress) -> None:
        nonlocal before, chosen
        progress(event)
        now = time.perf_counter() + features.seconds_saved
        if before is not None and "validation" not in event.metrics:  # the first one includes the start
            times.append(now - before)
        chosen = {name: event.metrics[name] for name in ("best_step", "gate") if name in event.metrics}
        before = now

    # `_measure` validates.
    head = _finish(fit(model, suite, config, checkpoint=checkpoint, validate_last=False, features=features), note)
    return (1000 * statistics.median(times) if times else None), chosen, head


def _measure(
    suite: Suite,
    variant: Variant,
    config: JobConfig,
    embed_config: EmbedConfig,
    features: SplitFeatures,
    shared: dict[str, Any],
    result: dict[str, Any],
    head: LinearHead | None,
) -> None:
    """Add what is measured of one variant to `result`, by k-NN and by the head of its training."""
    row = {
        "method": str(variant),
        **shared,
        "set_size": "all" if variant.set_size is None else variant.set_size,
        "generated": variant.generated,
        "static": variant.static and variant.set_size == 1,
        "validation": validation_accuracy(suite, features, embed_config=embed_config),
    }
    by_head = measure_head(suite, features, head) if head is not None and variant.has_head else ()
    for place, queries, predicted in (*measure(suite, features, config.ks, embed_config), *by_head):
        result["rows"].append({**row, **place, "accuracy": accuracy(predicted, queries)})
        confusion = confusion_by_task(
            [suite.tasks[i] for i in queries.tasks.tolist()],
            [suite.classes[i] for i in queries.labels.tolist()],
            [suite.classes[i] for i in predicted.tolist()],
        )
        where = {"method": str(variant), "backbone": config.backbone, "seed": config.training.seed, **place}
        result["tasks"] += per_task_accuracy(confusion).assign(**where).to_dict("records")
        if place["k"] == config.ks[0] and place["gallery"] == suite.primary:
            result["confusion"] += confusion.assign(**where).to_dict("records")
