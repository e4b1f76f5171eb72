"""`compare`: methods × backbones × seeds, and one table."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.messages import leave, write_json
from metalora.cli.options import SUITE, TRAINING, Json, Options, verb
from metalora.cli.progress import check, follow
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.variants import FIRST_LOOK

COMPARISON = Options(ComparisonConfig, renamed={"methods": "method", "backbones": "backbone", "ks": "k"})
COMPARISON_TRAINING = TRAINING.without("set_size", "seed", "validate_every")  # rows name set sizes, seeds count from 0
CHOICES = {"method", "backbone", "controls", "steps"}  # options that say what is compared


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "compare", compare, COMPARISON, SUITE, COMPARISON_TRAINING)


def compare(
    out: Annotated[Path | None, typer.Option(help="Folder of the results. Left out: results/SUITE.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes at a time. Left out: one per core on a CPU.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Time to take, roughly, where --steps is left out. Left out: 3 for digits, 40 for others."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Of digits all rows and both backbones, rather than a first look.")
    ] = False,
    json: Json = None,
    **given: Any,
) -> None:
    """Compare methods on a suite: k-NN accuracy on seen and unseen tasks, with budgets.

    Without rows, backbones or steps, digits get a first look: a few rows on one backbone, for which three minutes do.
    Finished trainings are kept under --out, and the same command resumes with those that are missing. Without --steps,
    these follow from the images and the time, learning rates from short trials on validation, and every training ends
    with its best validation.
    """
    from metalora.experiments.plan import plan_comparison
    from metalora.experiments.runner import JOBS, OLD_JOBS, count_jobs, read_comparison, run_comparison
    from metalora.models.saving import check_folder
    from metalora.util.errors import InputError

    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs is {jobs}: use 1 or more.")
    config = comparison_settings(given, full=full)
    folder = out or Path("results") / re.sub(r"[^\w.-]+", "-", config.suite.name).strip("-")
    check_folder(folder, owned=(JOBS, OLD_JOBS))
    config, suite, notes = check("Reading images", config)
    if "steps" not in given:
        config, note = plan_comparison(config, suite, folder, minutes=minutes, n_jobs=jobs, choose_lr="lr" not in given)
        notes.append(note)
    elif minutes is not None:
        raise InputError("--minutes decides the number of steps, which --steps gives: leave one of them out.")
    done, trainings = 0, run_comparison(config, folder, n_jobs=jobs, suite=suite)
    try:
        for job in follow("Training", trainings, folder, count_jobs(config)):
            done = job.done
    except KeyboardInterrupt as error:
        raise leave(f"Stopped: {done} finished trainings are kept, the same command resumes.", 1) from error
    _print_table(read_comparison(config, folder, suite.primary, notes), folder, json)


def comparison_settings(given: dict[str, Any], *, full: bool = False) -> ComparisonConfig:
    """Build the settings from the options that were given; of digits those of a first look where nothing is chosen."""
    training = COMPARISON_TRAINING.read(given, ComparisonConfig().training)
    config = COMPARISON.read(given, suite=SUITE.read(given), training=training)
    if config.suite.name == "digits" and not full and not CHOICES & given.keys():
        return replace(config, methods=FIRST_LOOK, backbones=config.backbones[:1])
    return config


def _print_table(comparison: Any, folder: Path, json: Path | None) -> None:
    from rich.console import Console

    from metalora.experiments.findings import findings
    from metalora.experiments.table_writers import to_terminal

    to_terminal(comparison.table(), Console())  # first, so that it is seen even if the disk is full
    for sentence in findings(comparison):
        typer.echo(sentence)
    comparison.write(folder)
    write_json(json, comparison.to_dict())
    typer.echo(f"The table as CSV, Markdown and LaTeX, and all numbers as JSON, are in {folder}.")
