"""`fit()`: training an adapted model on a suite.

The objective is the same for every method: cross-entropy of one linear head over the suite's seen
classes, shared by all tasks and discarded afterwards.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metalora.bounds import LARGEST_SEED, whole
from metalora.compiling import compiled
from metalora.device import autocast, pick_device
from metalora.errors import InputError
from metalora.evaluation.embedding import Protocol
from metalora.evaluation.scoring import embedded_sides, validation_accuracy
from metalora.features import FeatureCache
from metalora.loop import Progress, run_loop, warmup_cosine
from metalora.model import AdaptedModel
from metalora.prefetch import Prefetch
from metalora.states import generator
from metalora.suites.base import Batch, Suite

FEATURE_SAMPLE = 1024  # training images whose features give the statistics of standardisation


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run.

    Raises:
        InputError: a value with which nothing can be trained.
    """

    steps: int = 64
    batch: int = 64
    rate: float = 3e-3  # of adapters and head
    mapping_rate: float = 1.0  # the mapping net's rate, as a multiple of `rate`
    set_size: int = 1  # images of one task that share a core
    clip: float = 1.0  # largest norm of the gradient
    validate_every: int = 0  # steps between k-NN validations; 0: at the end only
    precision: str = "float32"
    device: str = "auto"
    compile: bool = False  # the network, by torch.compile
    seed: int = 0  # of the head and of the order of images

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "set_size"):
            whole(name, getattr(self, name))
        whole("validate_every", self.validate_every, 0)
        whole("seed", self.seed, 0, LARGEST_SEED)
        if self.batch % self.set_size:
            raise InputError(f"A batch of {self.batch} does not divide into sets of {self.set_size}: change either.")
        if not (isinstance(self.rate, int | float) and 0 < self.rate < 1):
            told = "empty" if self.rate is None else self.rate
            raise InputError(f"The learning rate is {told}: use a number between 0 and 1, such as 0.003.")


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
    there; the head begins anew.

    Args:
        checkpoint: file to resume from when it exists, and to write while training.
        validate_last: validate after the last step even where `config.validate_every` does not say so.
        features: what earlier models with the same extractor read of this suite's images; left out: none yet.

    Raises:
        InputError: nothing to train, a checkpoint of another run, or a loss that is not finite.
    """
    config = config or TrainingConfig()
    if not model.layers:
        raise InputError("The original backbone has nothing to train: choose another method.")
    device = pick_device(config.device)
    classes = suite.sides["train"].labels.unique()
    column = torch.full((len(suite.classes),), -1).scatter(0, classes, torch.arange(len(classes))).to(device)
    model.to(device)
    features = features or FeatureCache(suite)
    _standardise(model, suite, config, device)
    head = _head(model, len(classes), config).to(device)
    optimizer = torch.optim.AdamW(_groups(model, head, config), lr=config.rate, weight_decay=0.0)
    schedule = warmup_cosine(optimizer, config.steps)
    protocol = Protocol(
        set_size=config.set_size,
        seed=config.seed,
        batch=2 * config.batch,
        device=config.device,
        precision=config.precision,
    )
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def draw(i: int) -> Batch:
        return suite.batch(config.batch, generator(config.seed, i), config.set_size)

    def logits_of(batch: Batch, network: Callable) -> Tensor:
        images = batch.images.to(device)
        groups = batch.groups.to(device) if model.config.generates and config.set_size > 1 else None
        with autocast(device, config.precision):
            known = features(model, batch.examples, images)
            return head(network(images, groups=groups, features=known))

    def attempt(network: Callable) -> None:
        model.train()
        logits_of(draw(0), network).sum().backward()
        optimizer.zero_grad(set_to_none=True)

    network = compiled(model, attempt) if config.compile else model

    def step(i: int) -> dict[str, float]:
        original = {}
        if i == 0 and config.validate_every:
            with model.disabled():
                original["original"] = validate(model, suite, protocol)
        model.train()
        started = time.perf_counter()
        batch = batches(i)
        waited = time.perf_counter() - started
        labels, logits = column[batch.labels.to(device)], logits_of(batch, network)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, config.clip)
        optimizer.step()
        schedule.step()
        metrics = {"loss": loss.item(), "accuracy": (logits.argmax(1) == labels).float().mean().item(), **original}
        metrics["waiting"] = waited / (time.perf_counter() - started)
        last = i + 1 == config.steps
        if (last and validate_last) or (config.validate_every and (i + 1) % config.validate_every == 0):
            metrics["validation"] = validate(model, suite, protocol, features)
        return metrics

    parts = {"trained": model.trained, "head": head, "optimizer": optimizer, "schedule": schedule}
    identity = {
        "suite": suite.name,
        "suite_seed": suite.seed,
        "adapter": model.config.to_dict(),
        "training": asdict(config),
        "backbone": model.backbone.name,
    }
    with Prefetch(draw, config.steps, ahead=device.type != "cpu") as batches:
        yield from run_loop(step, config.steps, config.batch, optimizer, parts, identity, checkpoint=checkpoint)
    model.eval()


def validate(model: AdaptedModel, suite: Suite, protocol: Protocol, features: FeatureCache | None = None) -> float:
    """k-NN accuracy at K = 5 on validation images of seen tasks, see `validation_accuracy`."""
    return validation_accuracy(suite, embedded_sides(model, suite, protocol, features))


def _standardise(model: AdaptedModel, suite: Suite, config: TrainingConfig, device: torch.device) -> None:
    sample = suite.batch(min(FEATURE_SAMPLE, len(suite.sides["train"])), generator(config.seed, -1)).images
    model.prepare(sample[:2].to(device))
    # What was trained before has learnt with its own statistics.
    if model.config.generates and not model.mapping.standardised:
        with autocast(device, config.precision):
            model.standardise(sample.to(device))


def _head(model: AdaptedModel, classes: int, config: TrainingConfig) -> nn.Linear:
    with torch.no_grad():
        width = model(model.example.to(next(model.trained.parameters()).device)).shape[1]
    head = nn.Linear(width, classes, dtype=next(model.trained.parameters()).dtype)
    rng = generator(config.seed, -2)
    bound = width**-0.5
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_((2 * torch.rand(parameter.shape, generator=rng) - 1) * bound)
    return head


def _groups(model: AdaptedModel, head: nn.Linear, config: TrainingConfig) -> list[dict]:
    adapters: list[Tensor] = list(model.trained.adapters.parameters())
    groups = [
        {"name": "adapters", "params": adapters, "lr": config.rate},
        {"name": "head", "params": list(head.parameters()), "lr": config.rate},
    ]
    generator_parameters = [p for name, p in model.trained.named_parameters() if not name.startswith("adapters.")]
    if generator_parameters:
        groups.append({"name": "mapping", "params": generator_parameters, "lr": config.rate * config.mapping_rate})
    return groups
