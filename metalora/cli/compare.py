"""`compare`: methods × backbones × seeds, and one table."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.messages import leave, write_json
from metalora.cli.options import SUITE, TRAINING, Json, LogTo, Options, Scheduler, verb
from metalora.cli.progress import check, follow
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.first_look import FIRST_LOOK, QUESTION

COMPARISON = Options(ComparisonConfig, renamed={"methods": "method", "backbones": "backbone", "ks": "k"})
# Rows name set sizes, seeds count from 0, and no row has Gaussian cores.
COMPARISON_TRAINING = TRAINING.without("set_size", "seed", "validate_every", "kl_weight")
CHOICES = {"method", "backbone", "controls", "steps"}  # options that say what is compared


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "compare", compare, COMPARISON, SUITE, COMPARISON_TRAINING)


def compare(
    out: Annotated[Path | None, typer.Option(help="Folder of the results. Left out: one in results/.")] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Trainings at a time. Left out: one per core on a CPU, or per worker.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Approximate time to take, where --steps is left out. Left out: 3 for digits, 40 for others."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="On digits, all rows and both backbones rather than the first look.")
    ] = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="Also print the paper's own numbers, in a table apart.")
    ] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Also plot accuracy against the images of a set to this file (.html, .png).")
    ] = None,
    log_to: LogTo = None,
    scheduler: Scheduler = None,
    json: Json = None,
    **given: Any,
) -> None:
    """Compare methods on a suite: k-NN accuracy on seen and unseen tasks, with parameters and time.

    Without options this is a first look of about three minutes: four rows on digits, one backbone, six seeds. It asks
    whether generated cores fit the images that they are generated for, and ends with the answer and how sure it is.
    With --method, --backbone, --controls, --steps, --full or another suite you choose what is compared.

    Finished trainings are kept under --out, and the same command resumes. Where --steps is left out, the steps follow
    from the images and the time, and every training keeps its best state on validation. Outside the first look the
    learning rate is the best of three short trials, unless --lr is given.
    """
    from metalora.adapters.methods import METHODS
    from metalora.experiments.config import ALL
    from metalora.experiments.job_files import JOBS, OLD_JOBS
    from metalora.experiments.plan import plan_comparison
    from metalora.experiments.runner import count_jobs, read_comparison, run_comparison
    from metalora.models.saving import check_folder
    from metalora.util.cluster import connect
    from metalora.util.errors import InputError

    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs is {jobs}: use 1 or more.")
    first, config = comparison_settings(given, full=full)
    name = f"{config.suite.name}-first-look" if first else config.suite.name
    folder = out or Path("results") / re.sub(r"[^\w.-]+", "-", name).strip("-")
    check_folder(folder, owned=(JOBS, OLD_JOBS))
    with connect(scheduler) as cluster:
        config, suite, notes = check("Reading images", config)
        if ALL in given.get("method", ()):
            left_out = [entry for entry in METHODS.values() if entry.needs]
            notes += [f"{entry.title} is left out: it needs {entry.needs}." for entry in left_out]
        where: dict[str, Any] = {"n_jobs": jobs, "cluster": cluster}
        if "steps" not in given:
            choose_lr = not first and "lr" not in given
            config, note = plan_comparison(config, suite, folder, minutes=minutes, choose_lr=choose_lr, **where)
            notes.append(note)
        elif minutes is not None:
            raise InputError("--minutes decides the number of steps, which --steps gives: leave one of them out.")
        done, trainings = 0, run_comparison(config, folder, suite=suite, log_to=log_to, **where)
        try:
            for job in follow("Training", trainings, folder, count_jobs(config)):
                done = job.done
        except KeyboardInterrupt as error:
            how = "those that ran are saved, and the same command resumes"
            raise leave(f"Stopped: {done} finished trainings are kept, {how}.", 1) from error
    comparison = read_comparison(config, folder, suite.primary, notes)
    _report(comparison, folder, json, first=first, paper=paper)
    if figure is not None:
        _draw_contexts(comparison, figure)


def comparison_settings(given: dict[str, Any], *, full: bool = False) -> tuple[bool, ComparisonConfig]:
    """Return whether this is the first look, and the settings: its own or the usual ones, with the options given."""
    is_digits = given.get("suite", FIRST_LOOK.suite.name) == FIRST_LOOK.suite.name
    first = is_digits and not full and not CHOICES & given.keys()
    base = FIRST_LOOK if first else ComparisonConfig()
    suite, training = SUITE.read(given, base.suite), COMPARISON_TRAINING.read(given, base.training)
    return first, COMPARISON.read(given, base, suite=suite, training=training)


def _draw_contexts(comparison: Any, file: Path) -> None:
    from metalora.experiments.contexts import context_rows
    from metalora.plots import save_figure
    from metalora.plots.context_curves import context_figure

    save_figure(context_figure(context_rows(comparison), theme="print"), file)
    typer.echo(f"Accuracy against the images of a set is in {file}.")


def _report(comparison: Any, folder: Path, json: Path | None, *, first: bool, paper: bool) -> None:
    """Print the table, write all files, and end with what was found."""
    from rich.console import Console

    from metalora.experiments.contexts import context_table, has_contexts
    from metalora.experiments.findings import answer, findings, on_study
    from metalora.experiments.paper_table import PAPER_CAPTION, paper_table
    from metalora.experiments.table_writers import to_terminal

    to_terminal(comparison.table(), Console())  # first, so that it is seen even if the disk is full
    if has_contexts(comparison):
        for backbone in comparison.config.backbones:
            for worst in (False, True):
                to_terminal(context_table(comparison, backbone, worst=worst), Console())
    if paper:
        typer.echo(f"\n{PAPER_CAPTION}")
        to_terminal(paper_table(), Console())
    found = answer(comparison, QUESTION) if first else findings(comparison)
    comparison.write(folder)
    write_json(json, {**comparison.to_dict(), "findings": found})
    typer.echo(f"\nThe table as CSV, Markdown and LaTeX, and all numbers as JSON, are in {folder}.")
    if first:
        typer.echo(on_study())
    typer.echo()
    for sentence in found:
        typer.echo(sentence)
