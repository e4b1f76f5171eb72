"""`train`: one configuration on a suite, in a folder that it can be resumed from."""

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.messages import Bar, leave, print_skipped, print_table, time_left, write_json
from metalora.cli.options import ADAPTER, SUITE, TRAINING, Json, LogTo, Options, Scheduler, verb
from metalora.cli.signals import holding
from metalora.runs.run_config import RunConfig
from metalora.util.distributed import current_processes
from metalora.util.errors import InputError

RUN = Options(RunConfig, renamed={"ks": "k"})
MINUTES = 10.0  # of a training whose steps were not chosen


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "train", train, RUN, ADAPTER, SUITE, TRAINING, several=True)


def train(
    folder: Annotated[Path | None, typer.Argument(help="Folder of the run. Left out: a new one under runs.")] = None,
    run: Annotated[Path | None, typer.Option(help="Same as FOLDER.")] = None,
    log_to: LogTo = None,
    scheduler: Scheduler = None,
    json: Json = None,
    **given: Any,
) -> None:
    """Train one adapter on a suite and measure it.

    Naming the folder of a stopped run, with the same options or with none, resumes it; a queued run starts; a run
    that another process trains is refused. Without --steps, these follow from the images and --minutes (10), the
    learning rate from short trials on validation, and the state of the best validation is kept.
    """
    from metalora.runs.run_folder import RunState

    if scheduler and log_to:
        raise InputError("--log-to needs the steps, which a cluster does not send: leave it or --scheduler out.")
    if folder and run and folder != run:
        raise InputError(f"Two folders are named, {folder} and {run}: name one.")
    processes = current_processes()
    if scheduler and processes.count > 1:
        raise InputError("A cluster trains a run in one process: leave --scheduler or accelerate launch out.")
    opened = processes.from_first(lambda: _opened(folder or run, given))
    if not processes.is_first:
        opened = opened.followed()
    if opened.state is RunState.FINISHED:
        typer.echo(f"This run is finished; its adapter is {opened.adapter}.")
    else:
        train_here(opened, log_to, scheduler)
    if processes.is_first:
        print_result(opened, json)


def _opened(folder: Path | None, given: dict[str, Any]) -> Any:
    """Return the run in a folder, or one of the options that were given."""
    from metalora.runs.run_folder import create_run, default_folder, holds_run, open_run

    if folder and not given and holds_run(folder):
        return open_run(folder)
    config = run_settings(given)
    return create_run(folder or default_folder(config), config)


def run_settings(given: dict[str, Any]) -> RunConfig:
    """Build the settings of a run from the options that were given."""
    base = _resumed_settings(given["start"]) if "start" in given else RunConfig()
    given = {name: value for name, value in given.items() if name != "start"}
    if "steps" not in given:
        given = {"minutes": MINUTES, "tune": "lr" not in given} | given
    elif "minutes" in given:
        raise InputError("--minutes decides the number of steps, which --steps gives: leave one of them out.")
    parts = {"suite": SUITE.read(given), "adapter": ADAPTER.read(given, base.adapter), "training": TRAINING.read(given)}
    return RUN.read(given, base, **parts)


def _resumed_settings(name: str) -> RunConfig:
    """Return the settings of a run that starts from a saved adapter."""
    from metalora.models.bundled import NAMES
    from metalora.models.loading import settings_of
    from metalora.util.paths import expand

    backbone, adapter = settings_of(name)
    start = name if name in NAMES else str(expand(name).absolute())
    return RunConfig(backbone or RunConfig.backbone, adapter=adapter, start=start)


def train_here(run: Any, log_to: str | None = None, scheduler: str | None = None) -> None:
    """Execute a run, showing its progress; Ctrl-C, SIGTERM or a request to stop saves it and exits.

    Args:
        run: the folder.
        log_to: a tracker, see `track`; its files are in the folder's parent.
        scheduler: of a cluster that trains the run in place of this process.
    """
    from metalora.runs.cluster_run import execute_on_cluster
    from metalora.runs.execute import execute
    from metalora.runs.run_folder import RunState
    from metalora.training.tracking import track
    from metalora.util.cluster import connect

    processes = current_processes()

    def tracked(steps: Any) -> Any:
        if log_to is None or not processes.is_first:
            return steps
        settings = {**run.config.to_dict(), "folder": str(run.path)}
        return track(steps, log_to, name=run.path.name, settings=settings, folder=run.path.parent / "tensorboard")

    step, bar = None, Bar("Training")
    try:
        with contextlib.ExitStack() as stack:
            cluster = stack.enter_context(connect(scheduler))
            stack.enter_context(bar)
            executed = execute(run, bar.reading) if cluster is None else execute_on_cluster(run, cluster)
            steps = stack.enter_context(contextlib.closing(executed))
            events = stack.enter_context(contextlib.closing(tracked(steps)))
            event = next(events, None)
            with holding() as signals:
                while event is not None:
                    step = event
                    validated = "validation" in event.metrics
                    bar.update(event.step, event.steps, _progress_text(event), line=validated)
                    if processes.any(signals.noted):
                        events.close()
                        steps.close()  # saves
                        raise KeyboardInterrupt
                    signals.stepping = event.step < event.steps  # then all is saved, and it is measured
                    event = next(events, None)
    except KeyboardInterrupt:
        if step is None:
            raise
    if step is not None and run.state is not RunState.FINISHED:
        how = f"`metalora train {run.path}` resumes it"
        raise leave(f"Stopped after step {step.step} of {step.steps}; it is saved, and {how}.", 1)
    print_skipped(run.skipped)


def _progress_text(event: Any) -> str:
    metrics = "  ".join(f"{name} {value:.3f}" for name, value in event.metrics.items())
    if not event.step:
        return f"before training  {metrics}"
    lrs = "  ".join(f"{name} {lr:.1e}" for name, lr in event.lrs.items() if name != "head")
    return f"{time_left(event.seconds_left)}  {metrics}  lr {lrs}  {event.images_per_second:.0f} images/s"


def print_result(run: Any, json: Path | None) -> None:
    """Print a finished run's accuracies."""
    result = run.result
    write_json(json, {"run": str(run.path), **result})
    names = ("accuracy", "original")
    rows = [
        (row["task_split"], row["gallery"], row["k"], *(f"{100 * row[name]:.1f}" for name in names if name in row))
        for row in result["rows"]
    ]
    title = f"{result['method']} on {result['backbone']}, {result['suite']}: k-NN accuracy in %"
    print_table(title, ("tasks", "gallery", "K", *(name for name in names if name in result["rows"][0])), rows)
    for note in result["notes"]:
        typer.echo(note)
    typer.echo(f"Validation {100 * result['validation']:.1f} %. The adapter is {run.adapter}.")
