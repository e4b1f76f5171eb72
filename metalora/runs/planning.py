"""Planning a run: its steps from the images and the time, its learning rate from short trials on validation."""

import copy
from collections.abc import Generator
from dataclasses import replace

from metalora.models.adapted_model import AdaptedModel
from metalora.runs.run_config import RunConfig
from metalora.suites.suite import Suite
from metalora.training.config import TrainingConfig
from metalora.training.loop import Progress
from metalora.training.plan import (
    LEARNING_RATES,
    STEPS,
    best_lr,
    planned_steps,
    seconds_per_step,
    trial_steps,
    try_learning_rates,
)


def plan_run(
    config: RunConfig, model: AdaptedModel, suite: Suite
) -> Generator[Progress, None, tuple[TrainingConfig, list[str]]]:
    """Decide what `minutes` and `tune` leave open, yielding the progress of trials.

    Args:
        config: of the run.
        model: left as it is.
        suite: of the settings.

    Returns:
        Settings of the training, and notes on what was decided.
    """
    training, notes = config.training, []
    if config.minutes is not None:
        rows, batch = len(suite.splits["train"]), training.batch_size
        measured = replace(training, steps=STEPS + 1, keep_best=False, validate_every=0)
        pace = seconds_per_step(copy.deepcopy(model), suite, measured)
        training = replace(training, steps=planned_steps(rows, batch, 60 * config.minutes / pace), keep_best=True)
        passes = f"{training.steps * batch / rows:.1f} passes over {rows:,} training images, each counted in every task"
        notes.append(f"{training.steps} steps, {passes}: set steps or minutes for others.")
    if config.tune:
        steps = trial_steps(training.steps)
        accuracies = yield from try_learning_rates(model, suite, training, steps)
        training = replace(training, lr=best_lr(accuracies))
        notes.append(
            f"Learning rate {training.lr:g}, the best of {', '.join(f'{lr:g}' for lr in LEARNING_RATES)} on validation "
            f"after {steps} steps."
        )
    return training, notes
