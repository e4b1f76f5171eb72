"""Planning a run: its steps from the images and the time, its learning rate from short trials on validation."""

import copy
import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from metalora.util.distributed import current_processes
from metalora.util.errors import InputError
from metalora.util.files import write_text


def plan_run(
    config: RunConfig, model: AdaptedModel, suite: Suite, file: Path, checkpoint: Path
) -> Generator[Progress, None, tuple[TrainingConfig, list[str]]]:
    """Decide what `minutes` and `tune` leave open, yielding the progress of trials.

    Args:
        config: of the run.
        model: left as it is.
        suite: of the settings.
        file: holds what is decided, for a run that is resumed; another pace then does not change its steps.
        checkpoint: of the run; trials are resumed from files beside it.

    Returns:
        Settings of the training, and notes on what was decided.

    Raises:
        InputError: the file is damaged, or as `fit`.
    """
    training, processes = config.training, current_processes()
    plan = processes.from_first(lambda: _read(file))
    if config.minutes is not None:
        if "steps" not in plan:
            plan |= _plan_steps(config, model, suite)
            processes.from_first(lambda: write_text(file, json.dumps(plan) + "\n"))
        training = replace(training, steps=plan["steps"], keep_best=True)
    if config.tune:
        if "lr" not in plan:
            steps = trial_steps(training.steps)
            accuracies = yield from try_learning_rates(model, suite, training, steps, checkpoint=checkpoint)
            plan |= _choose_lr(accuracies, steps, plan)
            processes.from_first(lambda: write_text(file, json.dumps(plan) + "\n"))
        training = replace(training, lr=plan["lr"])
    return training, plan["notes"]


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"notes": []}
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}): delete it to plan the run again.") from error


def _plan_steps(config: RunConfig, model: AdaptedModel, suite: Suite) -> dict[str, Any]:
    """Return the steps that the time allows, and a note."""
    assert config.minutes is not None
    training, rows, batch = config.training, len(suite.splits["train"]), config.training.batch_size
    measured = replace(training, steps=STEPS + 1, keep_best=False, fit_gate=False, validate_every=0)
    pace = seconds_per_step(copy.deepcopy(model), suite, measured)
    steps = planned_steps(rows, batch, 60 * config.minutes / pace)
    passes = f"{steps * batch / rows:.1f} passes over {rows:,} training images, each counted in every task"
    return {"steps": steps, "notes": [f"{steps} steps, {passes}: set steps or minutes for others."]}


def _choose_lr(accuracies: dict[float, float], steps: int, plan: dict[str, Any]) -> dict[str, Any]:
    """Return the best learning rate, and the notes of the plan with one on it."""
    lr = best_lr(accuracies)
    tried = ", ".join(f"{lr:g}" for lr in LEARNING_RATES)
    note = f"Learning rate {lr:g}, the best of {tried} on validation after {steps} steps."
    return {"lr": lr, "notes": [*plan["notes"], note]}
