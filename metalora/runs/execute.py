"""Executing a run: from its settings, or from where it was stopped, to its result."""

import contextlib
import json
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from metalora.evaluation.accuracy import (
    SplitFeatures,
    accuracy,
    embed_splits,
    keep_splits,
    measure,
    usable_ks,
    validation_accuracy,
)
from metalora.evaluation.config import EmbedConfig
from metalora.models.adapt import build_model
from metalora.models.adapted_model import AdaptedModel
from metalora.models.backbones import image_size_for, load_backbone
from metalora.models.loading import restore
from metalora.runs.failures import reason_of
from metalora.runs.planning import plan_run
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import NAME, PLAN, RESULT, RunFolder, RunState
from metalora.runs.run_log import logged
from metalora.suites.load import load_suite
from metalora.suites.suite import Suite
from metalora.training.fit import fit
from metalora.training.loop import Progress
from metalora.training.plan import LATE
from metalora.util.device import pick_device
from metalora.util.distributed import current_processes
from metalora.util.errors import InputError
from metalora.util.files import part_of, remove_temporaries, remove_with_parts, write_text


def execute(
    run: RunFolder, reading: Callable[[int, int | None], None] | None = None, *, device: str | None = None
) -> Generator[Progress, None, None]:
    """Train a run from where its folder stands to the end, or until a stop is requested, and measure it.

    Leaving early (closing the generator, Ctrl-C) saves a checkpoint, and between two steps the adapter as well.

    Args:
        run: the state of which is kept up to date; of several processes, all but the first have its `followed()`.
        reading: called while the suite is read, see `load_suite`.
        device: in place of that of the settings.

    Yields:
        Progress after every step.

    Raises:
        InputError: another process trains it; the suite, the backbone or the settings cannot be used; the folder is
            gone; or the loss or its gradient is not finite any more.
    """
    if run.state is RunState.FINISHED:
        return
    config = run.config if device is None else replace(run.config, training=replace(run.config.training, device=device))
    processes = current_processes()
    with contextlib.ExitStack() as lock:
        processes.from_first(lambda: lock.enter_context(run.locked()))
        if processes.is_first:
            remove_temporaries(run.path, spare=NAME)  # the app may be renaming it
            remove_temporaries(run.adapter)
        if run.state is RunState.QUEUED:  # errors from here on are recorded for its visitor
            run.record(RunState.RUNNING)
        try:
            with processes.together(in_turn=True):
                suite, model, notes = _build(config, reading)
            run.skipped = suite.skipped
            if run.state is not RunState.RUNNING:
                run.clear()
                run.record(RunState.RUNNING)
            config, planned = yield from _plan(run, model, suite, config)
            torch.manual_seed(config.training.seed)  # of dropout; a checkpoint overrides it
            if (yield from _train(run, model, suite, config, notes)):
                _finish(run, model, suite, config, [*planned, *notes])
            else:
                run.record(RunState.STOPPED)
        except (KeyboardInterrupt, GeneratorExit):
            run.record_end(RunState.STOPPED)
            raise
        except Exception as error:
            run.record_end(RunState.FAILED, reason_of(error))
            raise


def _build(config: RunConfig, reading: Callable | None) -> tuple[Suite, AdaptedModel, list[str]]:
    pick_device(config.training.device)
    download, size = config.suite.download, config.suite.image_size
    # Before the suite is read, so that a wrong name is reported at once.
    load_backbone(config.backbone, image_size=size and image_size_for(config.backbone, size), download=download)
    suite = load_suite(config.suite, seed=config.training.seed, progress=reading)
    notes = [*usable_ks(suite, config.ks)[1], *suite.notes]
    adapter = config.adapter.with_tasks(len(suite.seen))
    model = build_model(config.backbone, adapter, image_size=suite.image_size, download=download)
    if not model.layers:
        raise InputError("The original backbone has nothing to train: choose another method.")
    if config.start is not None:
        restore(model, config.start)
        if config.adapter.factors and not config.adapter.predicts(config.suite.factors):
            notes.append("The adapter's code predicts factors that this suite lacks: it was trained by classes alone.")
    return suite, model, notes


def _plan(
    run: RunFolder, model: AdaptedModel, suite: Suite, config: RunConfig
) -> Generator[Progress, None, tuple[RunConfig, list[str]]]:
    """Decide what the settings leave open and record it; a run of an earlier version has a checkpoint, but no plan."""
    file = run.path / PLAN
    decided = current_processes().from_first(lambda: run.checkpoint.exists() and not file.exists())
    if decided or not (config.minutes or config.tune):
        return config, []
    training, notes = yield from plan_run(config, model, suite, file, run.checkpoint)
    run.config = replace(run.config, training=replace(training, device=run.config.training.device))
    run.record(RunState.RUNNING)
    return replace(config, training=training), notes


def _train(
    run: RunFolder, model: AdaptedModel, suite: Suite, config: RunConfig, notes: list[str]
) -> Generator[Progress, None, bool]:
    """Train, yielding progress; return whether all steps are done. Notes get what the validations say."""
    processes = current_processes()
    with (
        contextlib.closing(fit(model, suite, config.training, checkpoint=run.checkpoint)) as steps,
        contextlib.closing(logged(steps, run.path) if processes.is_first else steps) as events,
    ):
        for event in events:
            if "best_step" in event.metrics and event.step == event.steps:
                notes.append(_on_best_step(int(event.metrics["best_step"]), event.steps))
            if "gate" in event.metrics:
                notes.append(_on_gate(event.metrics["gate"]))
            leaving = True
            try:
                yield event
                leaving = processes.any(run.stop_requested) and event.step < event.steps
            finally:
                if leaving and processes.is_first:
                    model.save(run.adapter)
            if leaving:
                return False
    return True


def _on_gate(gate: float) -> str:
    """Say what the gate means."""
    if gate == 0:
        return "Gate 0: by validation, cores of their own do not pay, so all images get the identity core."
    return f"Gate {gate:g}: by validation, cores keep this share of their distance from the identity core."


def _on_best_step(best: int, steps: int) -> str:
    """Say what the step of the best validation means."""
    if best == 0:
        return (
            "Validation did not rise above its start by more than its standard error: the adapter is as it was before "
            f"training; more steps may help, such as {2 * steps}."
        )
    more = f": more steps may help, such as {2 * steps}" if best >= LATE * steps else ""
    return f"The best validation was after step {best} of {steps}, whose state is kept{more}."


def _finish(run: RunFolder, model: AdaptedModel, suite: Suite, config: RunConfig, notes: list[str]) -> None:
    first = current_processes().is_first
    if first:
        model.save(run.adapter)
    result = {**evaluate(model, suite, config.embed_config, config.ks, run.checkpoint), "notes": notes}
    if first:
        write_text(run.path / RESULT, json.dumps(result, indent=1) + "\n")
    run.record(RunState.FINISHED)
    if first:
        remove_with_parts(run.checkpoint)


def evaluate(
    model: AdaptedModel, suite: Suite, embed_config: EmbedConfig, ks: tuple[int, ...], checkpoint: Path | None = None
) -> dict[str, Any]:
    """Measure validation and k-NN accuracies on seen and unseen tasks, both galleries, and the budget; plain values.

    Every row has the accuracy of the original backbone on the same queries and gallery too, as "original". Embeddings
    are kept beside the checkpoint, for a process that measures the same after this one was killed.
    """

    def kept(name: str, embed_config: EmbedConfig) -> SplitFeatures:
        alone = current_processes().count == 1  # several have the folder on one host only
        file = part_of(checkpoint, name) if checkpoint is not None and alone else None
        return keep_splits(embed_splits(model, suite, embed_config), file)

    features = kept("adapted", embed_config)
    with model.disabled():
        originals = list(measure(suite, kept("original", replace(embed_config, set_size=1)), ks))
    rows = [
        {**setting, "accuracy": accuracy(predicted, queries), "original": accuracy(baseline, queries)}
        for (setting, queries, predicted), (_, _, baseline) in zip(measure(suite, features, ks), originals, strict=True)
    ]
    total = model.budget().loc["total"]
    return {
        "suite": suite.name,
        "backbone": model.backbone.name,
        "method": model.config.method,
        "set_size": embed_config.set_size,
        "primary": suite.primary,
        "validation": validation_accuracy(suite, features),
        "rows": rows,
        "static_parameters": int(total["adapter_parameters"]),
        "generator_parameters": int(total["generator_parameters"]),
    }
