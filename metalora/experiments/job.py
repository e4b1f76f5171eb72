"""A cell: one training of one method on one backbone with one seed, and everything measured on it.

A cell is a pure function of its settings, so that cells can run in any order, in other processes or
on other machines, and a run that was interrupted goes on with the cells that are missing.
"""

import functools
import hashlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metalora.adapters.config import AdapterConfig
from metalora.adapters.targets import layer_sides
from metalora.evaluation.accuracy import SplitFeatures, accuracy, embed_splits, measure, validation_accuracy
from metalora.evaluation.embedding import EmbedConfig, standardise_sets
from metalora.evaluation.feature_cache import FeatureCache
from metalora.evaluation.knn import confusion_by_task, per_task_accuracy
from metalora.experiments.inversion import embed_inverted, train_reader
from metalora.experiments.variants import Variant, parse_variant
from metalora.models.adapt import adapt
from metalora.models.adapted_model import AdaptedModel
from metalora.models.backbones import image_size_for, load_backbone
from metalora.suites.config import SuiteConfig
from metalora.suites.suite import Suite
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit
from metalora.training.loop import Progress
from metalora.util.device import device_name, pick_device

REFERENCE = "metalora-tr"  # the method whose total budget the equal-budget row gets


@dataclass(frozen=True)
class JobConfig:
    """Settings of a cell. `arms` share one training and differ in evaluation only."""

    variants: tuple[str, ...]
    backbone: str
    suite: SuiteConfig
    adapter: AdapterConfig
    training: TrainingConfig
    ks: tuple[int, ...] = (5, 10)
    equal_budget: bool = False
    download: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return json.loads(json.dumps({**asdict(self), "adapter": self.adapter.to_dict()}))

    @property
    def key(self) -> str:
        """Short name of these settings, for a file; whether something may be downloaded does not count."""
        values = self.to_dict()
        del values["download"], values["suite"]["download"]
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
        return f"{self.variants[0]}-{self.backbone}-{self.training.seed}-{digest[:12]}".replace("/", "_")


@functools.lru_cache(maxsize=2)
def _suite(config: SuiteConfig, seed: int) -> Suite:
    return config.load(seed)


@functools.lru_cache(maxsize=2)
def _features(suite: SuiteConfig, seed: int, *extractor: str) -> FeatureCache:
    """What this process has read of a suite, for all cells with the same extractor (its name, backbone, precision)."""
    return FeatureCache(_suite(suite, seed))


def run_job(
    config: JobConfig, checkpoint: Path | None = None, tell: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Train and measure.

    Args:
        checkpoint: file to resume from when it exists, and to write while training.
        tell: called after every step.

    Returns:
        "job" (the settings), "rows" (a dict per arm, split, gallery and K), "tasks" (accuracies of
        single tasks) and "confusion" (how often each class was taken for each, at the first K), plain values.

    Raises:
        InputError: the settings do not serve, see `check_comparison`, the checkpoint is of other ones, or the loss is
            not finite.
    """
    suite = _suite(config.suite, config.training.seed)
    size = image_size_for(config.backbone, suite.image_size)
    backbone = load_backbone(config.backbone, image_size=size, download=config.download)
    adapter = equal_budget(backbone, config.adapter) if config.equal_budget else config.adapter
    model = adapt(backbone, adapter, download=config.download)
    training = config.training
    read_by = config.adapter.extractor, config.backbone, training.precision, training.device
    features = _features(config.suite, training.seed, *read_by)
    milliseconds = _train(model, suite, training, features, checkpoint, tell)
    budget = model.budget().loc["total"]
    shared = {
        "backbone": config.backbone,
        "suite": suite.name,
        "seed": config.training.seed,
        "lr": config.training.lr,
        "steps": config.training.steps,
        "static_parameters": int(budget["adapter_parameters"]),
        "generator_parameters": int(budget["generator_parameters"]),
        "generator_flops": int(budget["generator_flops"]),
        "ms_per_step": milliseconds,
        "device": device_name(pick_device(training.device)),
    }
    found: dict[str, Any] = {"job": config.to_dict(), "rows": [], "tasks": [], "confusion": []}
    variants = [parse_variant(name) for name in config.variants]
    reader = None
    if any(row.set_use == "inverted" for row in variants):
        # By the comparison's settings: LoRA of equal budget has no mapping net that would tell them.
        reader = train_reader(backbone, suite, config.adapter, training, features)
    alone = embed_splits(model, suite, replace(_protocol(variants[0], training), set_size=1, set_use=None), features)
    for row in variants:
        embed_config = _protocol(row, training)
        if row.set_use == "inverted":
            splits = functools.cache(
                lambda split, p=embed_config: embed_inverted(model, reader, suite, split, p, features)
            )
        elif row.static and row.set_use != "bn-adapted":  # what is made of sets comes after the embedding
            splits = functools.partial(_with_sets, suite, alone, embed_config)
        else:
            splits = embed_splits(model, suite, embed_config, features)
        reading = {"generator_parameters": _reading_parameters(reader)} if row.set_use == "inverted" else {}
        _measure(suite, row, config, embed_config, splits, shared | reading, found)
    return found


def _with_sets(suite: Suite, alone: SplitFeatures, embed_config: EmbedConfig, split: str) -> Tensor:
    if embed_config.set_use == "standardised":
        return standardise_sets(alone(split), embed_config.sets(suite.splits[split]))
    return alone(split)


def _reading_parameters(reader: AdaptedModel) -> int:
    parts = reader.mapping.hidden, reader.mapping.code
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def _protocol(row: Variant, training: TrainingConfig) -> EmbedConfig:
    with_sets = row.static and row.set_size != 1
    return EmbedConfig(
        set_size=row.set_size,
        shuffled=row.control == "shuffled",
        set_use=(row.set_use or "standardised") if with_sets else None,
        oracle=row.control == "oracle",
        seed=training.seed,
        batch_size=2 * training.batch_size,
        device=training.device,
        precision=training.precision,
    )


def _train(
    model: AdaptedModel,
    suite: Suite,
    config: TrainingConfig,
    features: FeatureCache,
    checkpoint: Path | None,
    tell: Callable[[Progress], None] | None,
) -> float | None:
    """Train to the end; milliseconds of a step (median, as if no features had been read before; None: no step here)."""
    if not model.layers:
        return None
    times, before = [], time.perf_counter() + features.seconds_saved
    # `_measure` validates.
    for event in fit(model, suite, config, checkpoint=checkpoint, validate_last=False, features=features):
        if tell is not None:
            tell(event)
        now = time.perf_counter() + features.seconds_saved
        if "validation" not in event.metrics:
            times.append(now - before)
        before = now
    return 1000 * statistics.median(times) if times else None


def _measure(
    suite: Suite,
    row: Variant,
    config: JobConfig,
    embed_config: EmbedConfig,
    features: SplitFeatures,
    shared: dict[str, Any],
    found: dict[str, Any],
) -> None:
    """Add the rows of one arm to `found`."""
    own = {
        "method": row.name,
        **shared,
        "set_size": row.set_size or "all",
        "generated": row.generated,
        "static": row.static and row.set_size == 1,
        "validation": validation_accuracy(suite, features, embed_config=embed_config),
    }
    for place, queries, predicted in measure(suite, features, config.ks, embed_config):
        found["rows"].append({**own, **place, "accuracy": accuracy(predicted, queries)})
        confusion = confusion_by_task(
            [suite.tasks[i] for i in queries.tasks.tolist()],
            [suite.classes[i] for i in queries.labels.tolist()],
            [suite.classes[i] for i in predicted.tolist()],
        )
        where = {"method": row.name, "backbone": config.backbone, "seed": config.training.seed, **place}
        found["tasks"] += per_task_accuracy(confusion).assign(**where).to_dict("records")
        if place["k"] == config.ks[0] and place["gallery"] == suite.primary:
            found["confusion"] += confusion.assign(**where).to_dict("records")


def total_parameters(model: AdaptedModel) -> int:
    """Parameters of the adapters and of what generates their cores."""
    total = model.budget().loc["total"]
    return int(total["adapter_parameters"] + total["generator_parameters"])


def equal_budget(backbone: torch.nn.Module, config: AdapterConfig) -> AdapterConfig:
    """LoRA whose rank is raised until its parameters reach the reference method's total, or it has the largest.

    A layer's rank is the smaller of that rank and the layer's largest.

    Args:
        config: of the reference method, `REFERENCE`.
    """
    reference = adapt(backbone, config)
    goal = total_parameters(reference)
    sides = {name: layer_sides(layer.base) for name, layer in reference.layers.items()}

    def parameters(rank: int) -> int:
        return sum(min(rank, inputs, outputs) * (inputs + outputs) for inputs, outputs in sides.values())

    largest = max(min(pair) for pair in sides.values())
    rank = next((r for r in range(1, largest + 1) if parameters(r) >= goal), largest)
    pattern = {f"^{name.replace('.', '[.]')}$": min(rank, *pair) for name, pair in sides.items()}
    return AdapterConfig("lora", rank=rank, rank_pattern=pattern, targets=tuple(pattern), seed=config.seed)
