"""How long to train, and how fast, by default.

Steps follow from the images and the time, by the pace of a few real steps; the learning rate is the best of three short
trials on validation.
"""

import contextlib
import copy
import itertools
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from metalora.evaluation.feature_cache import FeatureCache
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.suite import Suite
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit
from metalora.training.loop import Progress
from metalora.util.distributed import current_processes
from metalora.util.files import part_of

LEARNING_RATES = (1e-3, 3e-3, 6e-3)  # that are tried
PASSES = 12  # over the training images, the most
LEAST, LEAST_TRIAL = 24, 8  # steps
TRIAL = 0.125  # of the steps, in which a learning rate is tried
LATE = 0.875  # fraction of the steps from which a best validation counts as the end
STEPS, FEWEST_STEPS, MAX_SECONDS = 4, 3, 4.0  # that are measured; fewer once so many seconds are over


def seconds_per_step(model: AdaptedModel, suite: Suite, config: TrainingConfig) -> float:
    """Return the seconds of a step, without validation.

    Args:
        model: trained a few steps.
        suite: whose images it is trained on.
        config: of a training with more than `STEPS` steps that does not validate in between.

    Raises:
        InputError: see `fit`.
    """
    no_cache = FeatureCache(suite, limit=0)  # in a real training most images are new for long
    times, processes = [time.monotonic()], current_processes()

    def enough() -> int:
        return STEPS if times[-1] - times[0] < MAX_SECONDS else FEWEST_STEPS

    # The step after the measured ones is never taken: it would validate as well.
    with contextlib.closing(fit(model, suite, config, features=no_cache)) as events:
        while len(times) <= processes.from_first(enough):  # of all, or some would wait for a step of the others
            next(events)
            times.append(time.monotonic())
    seconds = [after - before for before, after in itertools.pairwise(times)]
    # The first one warms up; whatever else is at work here only adds.
    return processes.from_first(lambda: min(seconds[1:]))


def planned_steps(images: int, batch_size: int, affordable: float, *, tries_lr: bool = True) -> int:
    """Return the steps for so many training images: those of `PASSES`, or what is affordable, but not below `LEAST`.

    Args:
        images: of the training split.
        batch_size: images of a step.
        affordable: steps, those of the trials of learning rates included.
        tries_lr: whether there are such trials.
    """
    most = -(-PASSES * images // batch_size)
    fewest = min(LEAST, most)
    if tries_lr:
        affordable /= 1 + len(LEARNING_RATES) * TRIAL
    return max(min(most, int(affordable)), fewest)


def trial_steps(steps: int) -> int:
    """Return the steps in which a learning rate is tried."""
    return max(min(LEAST_TRIAL, steps), round(TRIAL * steps))


def try_learning_rates(
    model: AdaptedModel,
    suite: Suite,
    config: TrainingConfig,
    steps: int,
    features: FeatureCache | None = None,
    checkpoint: Path | None = None,
) -> Generator[Progress, None, dict[float, float]]:
    """Train copies of a model a few steps at every learning rate, yielding the progress of all together.

    Args:
        model: left as it is.
        suite: whose images it is trained on.
        config: of the training, but for its learning rate and steps.
        steps: of each trial.
        features: as in `fit`.
        checkpoint: of the training; each trial resumes from a file beside it, and writes that.

    Returns:
        Learning rate → validation accuracy.
    """
    accuracies = {}
    for i, lr in enumerate(LEARNING_RATES):
        trial = replace(config, steps=steps, lr=lr, keep_best=False, fit_gate=False, validate_every=0)
        file = None if checkpoint is None else part_of(checkpoint, f"lr-{lr:g}")
        with contextlib.closing(fit(copy.deepcopy(model), suite, trial, checkpoint=file, features=features)) as events:
            for event in events:
                yield replace(event, step=i * steps + event.step, steps=len(LEARNING_RATES) * steps)
                accuracies[lr] = event.metrics.get("validation", 0.0)
    return accuracies


def best_lr(accuracies: dict[float, float]) -> float:
    """Return the learning rate of the best accuracy; of equal ones the lowest."""
    return max(sorted(accuracies), key=accuracies.__getitem__)
