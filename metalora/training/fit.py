"""`fit()`: training an adapted model on a suite; the objective is the same for every method."""

import functools
import math
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metalora.evaluation.accuracy import embed_splits, validation_accuracy
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.feature_cache import FeatureCache
from metalora.evaluation.linear_head import LinearHead
from metalora.models.adapted_model import AdaptedModel
from metalora.models.context import reader_of
from metalora.suites.suite import Batch, Suite
from metalora.training.best_state import Best
from metalora.training.config import TrainingConfig, identity_of
from metalora.training.gate import find_gate
from metalora.training.loop import IMAGES, Progress, run_loop, warmup_cosine
from metalora.training.objective import Loss, Objective
from metalora.training.parts import begin_together
from metalora.training.prefetch import Prefetch
from metalora.training.readings import Readings
from metalora.util.compiling import compiled
from metalora.util.device import autocast, pick_device
from metalora.util.distributed import current_processes
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

FEATURE_SAMPLE = 1024  # training images whose features give the statistics of standardisation


def fit(
    model: AdaptedModel,
    suite: Suite,
    config: TrainingConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    validate_last: bool = True,
    features: FeatureCache | None = None,
    loss: Loss | None = None,
) -> Generator[Progress, None, LinearHead | None]:
    """Train the adapters and the mapping net of `model` on the seen tasks of `suite`, in place.

    A model that was trained before is trained further, with a new head. If its code predicts other factors than this
    suite has, it is trained by the classes alone.

    Args:
        model: adapted, with at least one layer.
        suite: whose seen tasks.
        config: None: the defaults.
        checkpoint: file to resume from when it exists, and to write while training.
        validate_last: validate after the last step even where `config.validate_every` does not say so.
        features: cache that models with the same extractor share; None: a new one.
        loss: of your own: a function of what the model gives for a batch's images, and of the `Batch` (images, labels,
            tasks, groups), that returns a scalar. None: cross-entropy of a linear head over the seen classes. A
            module's parameters, such as those of a head or of proxies, are trained along, and are yours afterwards.
            Several processes give it a part of the batch each and take the mean over images; a loss that compares
            images, such as a contrastive one, then compares fewer.

    Yields:
        Progress after every step. Its metrics are "loss", "accuracy" (of the head, on the batch; not with a loss of
        your own), "waiting" (the fraction of the step's time spent waiting for the batch) and, in steps that validate,
        "validation" (k-NN accuracy at K = 5 on validation images of seen tasks) and, where the best state is kept,
        "best_step". The last step of a training that fits a gate has it as "gate"; the model gets it after that step.
        Where there are validations in between, step 0 comes first, with "validation" before training and "original",
        the same accuracy of the original backbone. On a CUDA device loss and accuracy are those of the step before,
        except in the first, the last and those that validate.

    Returns:
        The head over the seen classes that was trained along, for `measure_head`: `head = yield from fit(…)`, or the
        value of StopIteration. None with a loss of your own, and where the state before the first step was the best.

    Raises:
        InputError: nothing to train, a factor code for factors that the suite does not have, a checkpoint of another
            training, or a loss or gradient that is not finite.
    """
    trainer = Trainer(model, suite, config or TrainingConfig(), features or FeatureCache(suite), validate_last, loss)
    steps, size = trainer.config.steps, trainer.config.batch_size
    with Prefetch(trainer.draw, steps, ahead=trainer.device.type != "cpu") as batches:
        step = functools.partial(trainer.step, batches)
        parts, identity = trainer.parts, trainer.identity
        file = None if checkpoint is None else Path(checkpoint)
        start, last = trainer.validate_start, trainer.readings.last
        progress = yield from run_loop(
            step, steps, size, trainer.optimizer, parts, identity, checkpoint=file, start=start, last=last
        )
    trainer.best.restore(model)
    if progress is not None and "gate" in progress.metrics:
        model.mapping.scale_offsets(progress.metrics["gate"])
    model.eval()
    return trainer.head


class Trainer:
    """The steps of one training, and what a checkpoint of it holds.

    Args:
        model: trained in place.
        features: cache of what the model's extractor reads of the suite's images.
        validate_last: whether the last step validates in any case.
        loss: instead of the head's; see `fit`.
    """

    def __init__(
        self,
        model: AdaptedModel,
        suite: Suite,
        config: TrainingConfig,
        features: FeatureCache,
        validate_last: bool,
        loss: Loss | None = None,
    ):
        if not any(parameter.requires_grad for parameter in model.trained.parameters()):
            raise InputError("The original backbone has nothing to train: choose another method.")
        self.model, self.suite, self.config, self.features = model, suite, config, features
        self.validate_last, self.device, self.processes = validate_last, pick_device(config.device), current_processes()
        model.to(self.device)
        if not _trained_before(model):
            model.config.check_factors(suite.name, tuple(map(len, suite.factors)))
        standardise(model, suite, config)
        self.objective = Objective(
            model,
            suite,
            weight=config.factor_loss_weight,
            teacher_forcing_ratio=config.teacher_forcing_ratio,
            identity_core_prob=_identity_core_prob(config),
            kl_weight=config.kl_weight,
            seed=config.seed,
            loss=loss,
        )
        self.optimizer = torch.optim.AdamW(_groups(model, self.objective, config), lr=config.lr, weight_decay=0.0)
        self.schedule = warmup_cosine(self.optimizer, config.steps)
        model.decoding = suite.decoding
        self.trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        begin_together(self.processes, model, self.objective, config, self.identity)
        self.network = compiled(model, self._try) if config.compile else model
        self.best = Best(len(suite.splits["validation"]))
        self.readings = Readings(self.device)

    @property
    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds the state of, by name."""
        objective, optimizer, schedule = self.objective, self.optimizer, self.schedule
        parts = {"trained": self.model.trained, "head": objective, "optimizer": optimizer, "schedule": schedule}
        return parts | ({"best": self.best} if self.config.keep_best else {})

    @property
    def identity(self) -> dict[str, Any]:
        """Which training a checkpoint belongs to."""
        model, suite = self.model, self.suite
        predicts = model.config.predicts(tuple(map(len, suite.factors)))
        settings = identity_of(self.config, model.config, predicts=predicts)
        of_suite = {"suite": suite.name, "suite_seed": suite.seed, IMAGES: suite.fingerprint}
        own = self.objective.loss
        of_loss = {} if own is None else {"loss": getattr(own, "__qualname__", type(own).__qualname__)}
        return {**of_suite, "backbone": model.backbone.name, **settings, **of_loss}

    @property
    def head(self) -> LinearHead | None:
        """The head over classes of the state that the training ends with."""
        return self.best.head if self.config.keep_best else self.objective.head()

    def draw(self, i: int) -> Batch:
        """Draw this process's part of the batch of step `i`."""
        size, images = max(1, self._set_size(i)), self.config.batch_size
        part = self.processes.part(images // size)
        batch = self.suite.batch(images, seeded_generator(self.config.seed, i), size, part)
        return batch.pin_memory() if self.device.type == "cuda" else batch

    def validate_start(self) -> dict[str, float]:
        """Return the validation before training, and that of the original backbone; {} without validations."""
        if not self.config.validation_interval:
            return {}
        with self.model.disabled():
            original = validate(self.model, self.suite, self.config.embed_config)
        validation = self._validate()
        if self.config.keep_best:
            self.best.consider(validation, 0, self.model)
        return {"validation": validation, "original": original}

    def step(self, batches: Callable[[int], Batch], i: int) -> dict[str, float]:
        """Train on batch `i`; return the step's metrics."""
        if not self.model.training:
            self.model.train()
        started = time.perf_counter()
        batch = batches(i)
        waited = time.perf_counter() - started
        sums = self._backward(i, batch)
        norm = nn.utils.clip_grad_norm_(self.trained, self.config.max_grad_norm)
        validates = self._validates(i + 1)
        values = self.readings(*sums, norm, now=validates or i + 1 == self.config.steps)
        if not math.isfinite(values[-1]):  # the loop ends here, before such weights are in a checkpoint
            return {"loss": math.nan}
        self.optimizer.step()
        self.schedule.step()
        metrics = dict(zip(("loss", "accuracy"), values[:-1], strict=False))
        metrics["waiting"] = waited / (time.perf_counter() - started)
        if validates:
            metrics["validation"] = self._validate()
            if self.config.keep_best:
                self.best.consider(metrics["validation"], i + 1, self.model, self.objective.head())
                metrics["best_step"] = self.best.step
        if i + 1 == self.config.steps and self.config.fit_gate and self.objective.reads_images:
            self.best.restore(self.model)
            metrics["gate"] = find_gate(self.model.mapping, self._validate, self.best.images)
        return metrics

    def _validate(self) -> float:
        return validate(self.model, self.suite, self.config.embed_config, self.features)

    def _set_size(self, i: int) -> int:
        """Return the size of the sets in step `i`; 0: all images get the identity core."""
        sizes = self.config.set_sizes
        return sizes[int(torch.randint(len(sizes), (), generator=seeded_generator(self.config.seed, i, 3)))]

    def _backward(self, i: int, batch: Batch) -> Sequence[Tensor]:
        """Leave the gradients of the whole batch; return its loss and, of a head, its accuracy."""
        share = len(batch.labels) / self.config.batch_size
        if self.processes.count > 1:  # each has dropout of its own, the same after a resume
            torch.manual_seed(seeded_generator(self.config.seed, i, 2, self.processes.rank).initial_seed())
        with self.processes.together():
            loss, accuracy = self._loss(i, batch, self.network)
            self.optimizer.zero_grad(set_to_none=True)
            (share * loss).backward()
        values = [share * value for value in (loss, accuracy) if value is not None]
        return self.processes.add_up(self._with_gradients(i), values)

    def _with_gradients(self, i: int) -> list[nn.Parameter]:
        """Return what is trained, in steps that read no image without what reads them, which the optimiser skips."""
        if self._set_size(i):
            return self.trained
        trained = self.model.trained.named_parameters()
        readers = {parameter for name, parameter in trained if name.startswith(("mapping.", "extractor."))}
        return [p for p in self.trained if p.grad is not None or p not in readers]

    def _validates(self, done: int) -> bool:
        every, last = self.config.validation_interval, done == self.config.steps
        return (last and (self.validate_last or self.config.keep_best)) or bool(every and done % every == 0)

    def _loss(self, i: int, batch: Batch, network: Callable) -> tuple[Tensor, Tensor | None]:
        with autocast(self.device, self.config.precision):
            return self.objective(self.model, network, batch, self.features, i, self._set_size(i))

    def _try(self, network: Callable) -> None:
        """Run a step that changes nothing, for `compiled`."""
        self.model.train()
        self._loss(0, self.draw(0), network)[0].backward()
        self.optimizer.zero_grad(set_to_none=True)


def validate(
    model: AdaptedModel, suite: Suite, embed_config: EmbedConfig, features: FeatureCache | None = None
) -> float:
    """Return the k-NN accuracy at K = 5 on validation images of seen tasks, see `validation_accuracy`."""
    accuracy = validation_accuracy(suite, embed_splits(model, suite, embed_config, features))
    return current_processes().from_first(lambda: accuracy)  # hosts may round differently


def standardise(model: AdaptedModel, suite: Suite, config: TrainingConfig) -> None:
    """Give a mapping net that was not trained before the statistics of the training images' features."""
    device = next(model.trained.parameters()).device
    count = min(FEATURE_SAMPLE, len(suite.splits["train"]))
    sample = suite.batch(count, seeded_generator(config.seed, -1)).images
    model.prepare(sample[:2].to(device))
    if reader_of(model) is not None and not _trained_before(model):
        with autocast(device, config.precision):
            model.standardise(sample.to(device))


def _trained_before(model: AdaptedModel) -> bool:
    reader = reader_of(model)
    return reader is not None and bool(reader.standardised)


def _identity_core_prob(config: TrainingConfig) -> float:
    """Return the fraction of a step's sets that get the identity core; with several sizes whole steps do."""
    if len(config.set_sizes) > 1:
        return 0.0
    return config.identity_core_prob if config.set_size == 1 else config.identity_core_prob_sets


def _groups(model: AdaptedModel, objective: nn.Module, config: TrainingConfig) -> list[dict]:
    """Return the optimiser's parameter groups, each with its learning rate."""
    trained: Any = model.trained
    groups: list[dict] = [{"name": "head", "params": list(objective.parameters()), "lr": config.lr}]
    if model.layers:
        groups.insert(0, {"name": "adapters", "params": list(trained.adapters.parameters()), "lr": config.lr})
    if model.saved_modules:
        groups.append({"name": "modules", "params": list(trained.modules_to_save.parameters()), "lr": config.lr})
    if model.context is not None:
        groups.append({"name": "context", "params": list(model.context.parameters()), "lr": config.lr})
    if model.config.generates:
        lr = config.lr * config.mapping_lr_scale
        groups.append({"name": "mapping", "params": list(model.mapping.parameters()), "lr": lr})
    elif model.generated:
        groups.append({"name": "core", "params": list(model.constant.parameters()), "lr": config.lr})
    return groups
