"""`train`: one configuration on a suite, in a folder that it can be resumed from."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.messages import Bar, leave, tell_skipped, tell_table, time_left, write_json
from metalora.cli.options import (
    ADAPTER_OPTIONS,
    OUTPUT,
    RUN,
    SUITE_OPTIONS,
    TRAINING_OPTIONS,
    Option,
    Text,
    settings,
    suite_settings,
    verb,
)

OPTIONS = {
    "backbone": Option(Text, "Bundled backbone or timm name.", RUN),
    "start": Option(Text, "Adapter to go on from: RUN/adapter, or a bundled one such as resnet20/metalora-tr.", RUN),
    "k": Option(list[int] | None, "K of k-NN; repeatable.", RUN, "ks"),
}
SECONDS_BETWEEN_LOOKS = 1.0  # at a run that another process trains


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "train", train, OPTIONS, ADAPTER_OPTIONS, SUITE_OPTIONS, TRAINING_OPTIONS, OUTPUT)


def train(
    folder: Annotated[Path | None, typer.Argument(help="The run's folder; left out: a new one under runs.")] = None,
    run: Annotated[Path | None, typer.Option(help="The same as FOLDER.")] = None,
    **given: Any,
) -> None:
    """Train one adapter on a suite and measure it.

    A run that was stopped goes on when it is named again, with the same options or with none; one that was queued
    starts; one that another process trains is watched.
    """
    from metalora.runs.store import create_run, default_folder, holds_run, open_run
    from metalora.util.errors import InputError

    if folder and run and folder != run:
        raise InputError(f"Two folders are named, {folder} and {run}: name one.")
    folder, json = folder or run, given.pop("json", None)
    if folder and not given and holds_run(folder):
        found = open_run(folder)
    else:
        config = run_settings(given)
        found = create_run(folder or default_folder(config), config)
    if found.finished:
        typer.echo(f"This run is finished; its adapter is {found.folder / 'adapter'}.")
    elif found.status == "running":
        found = watch(found)
    else:
        execute(found)
    tell_result(found, json)


def run_settings(given: dict[str, Any]) -> Any:
    """The `RunConfig` of the options that were given."""
    from dataclasses import replace

    from metalora.adapters.config import AdapterConfig
    from metalora.runs.run_config import RunConfig
    from metalora.training.config import TrainingConfig

    base = _start(given["start"]) if "start" in given else RunConfig()
    parts = {
        "suite": suite_settings(given),
        "adapter": settings(AdapterConfig, given, base.adapter),
        "training": settings(TrainingConfig, given),
    }
    own = {name: given[key] for name, key in (("backbone", "backbone"), ("ks", "k")) if key in given}
    return settings(RunConfig, own, replace(base, **parts))


def _start(name: str) -> Any:
    """Settings of a run that goes on from a saved adapter."""
    from metalora.models.bundled import NAMES
    from metalora.models.loading import settings_of
    from metalora.runs.run_config import RunConfig

    backbone, adapter = settings_of(name)
    start = name if name in NAMES else str(Path(name).absolute())
    return RunConfig(backbone or RunConfig.backbone, adapter=adapter, start=start)


def execute(run: Any) -> None:
    """Carry a run to its end, showing how it goes; Ctrl-C saves it and leaves."""
    step, bar = None, Bar("Training")
    try:
        with (
            bar,
            contextlib.closing(run.execute(bar.reading)) as events,
        ):
            event = next(events, None)
            with _interrupt_between_steps() as asked:
                while event is not None:
                    step = event
                    validated = "validation" in event.metrics
                    bar.tell(event.step, event.steps, _say(event), line=validated)
                    if asked() or run.stop_requested:
                        events.close()  # saves, while a signal that comes with the word to stop is held back
                        raise KeyboardInterrupt
                    event = next(events, None)
    except KeyboardInterrupt as error:
        if step is None:
            raise
        how = f"`metalora train {run.folder}` goes on from there"
        raise leave(f"Stopped after step {step.step} of {step.steps}; it is saved, and {how}.", 1) from error
    tell_skipped(run.skipped)


def watch(run: Any) -> Any:
    """Show how a run goes that another process trains; the run as it stands at its end. Ctrl-C leaves it alone."""
    from metalora.runs.run_log import last_event
    from metalora.runs.store import open_run
    from metalora.training.loop import Progress

    with Bar("Training elsewhere") as bar:
        while run.status == "running":
            found = last_event(run.folder)
            if found is not None:
                event = Progress(**found)
                bar.tell(event.step, event.steps, _say(event))
            time.sleep(SECONDS_BETWEEN_LOOKS)
            run = open_run(run.folder)
    if not run.finished:
        raise leave(f"The run {run.status}{f': {run.reason}' if run.reason else '.'}", 1)
    return run


def _say(event: Any) -> str:
    metrics = "  ".join(f"{name} {value:.3f}" for name, value in event.metrics.items())
    lrs = "  ".join(f"{name} {lr:.1e}" for name, lr in event.lrs.items() if name != "head")
    return f"{time_left(event.seconds_left)}  {metrics}  rates {lrs}  {event.images_per_second:.0f} images/s"


@contextlib.contextmanager
def _interrupt_between_steps() -> Iterator[Any]:
    """Hold a first Ctrl-C back to the end of the step, lest half a step is saved; a second one acts at once."""
    pressed = []

    def note(*_: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def tell_result(run: Any, json: Path | None) -> None:
    """Print a finished run's accuracies."""
    result = run.result
    write_json(json, {"run": str(run.folder), **result})
    rows = [(row["task_split"], row["gallery"], row["k"], f"{100 * row['accuracy']:.1f}") for row in result["rows"]]
    title = f"{result['method']} on {result['backbone']}, {result['suite']}: k-NN accuracy in %"
    tell_table(title, ("tasks", "gallery", "K", "accuracy"), rows)
    for note in result["notes"]:
        typer.echo(note)
    typer.echo(f"Validation {100 * result['validation']:.1f} %. The adapter is {run.folder / 'adapter'}.")
