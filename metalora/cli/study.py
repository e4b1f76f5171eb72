"""`study`: the comparisons behind the figures and tables of docs/results."""

from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.messages import leave, print_table
from metalora.cli.options import LogTo, Scheduler, verb
from metalora.cli.progress import check, follow


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "study", study)


def study(
    name: Annotated[str | None, typer.Argument(help="Study. Left out: list them.", show_default=False)] = None,
    part: Annotated[list[str] | None, typer.Option(help="Part of it; repeatable. Left out: all.")] = None,
    data: Annotated[str, typer.Option(help="Folder or archive of CIFAR-10.")] = "data",
    seeds: Annotated[int | None, typer.Option(help="Maximum number of seeds; the first ones are used.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch missing data.")] = False,
    final: Annotated[
        bool, typer.Option("--final", help="Score unseen tasks and test images; every call is logged.")
    ] = False,
    figure: Annotated[
        Path | None,
        typer.Option(help="Of the studies map and contexts: plot what there is of them to this file and exit."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Trainings at a time. Left out: one per core on a CPU, or per worker.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results. Left out: assets/results, or results/development.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder of the trainings, which are kept.")] = Path("results/studies"),
    log_to: LogTo = None,
    scheduler: Scheduler = None,
) -> None:
    """Run a study, a named list of comparisons, or resume an unfinished one.

    Without --final it is scored on held-out seen tasks and validation images, for development.
    """
    from metalora.experiments.results import FOLDER
    from metalora.experiments.studies import find_study, run_settings
    from metalora.util.checks import check_int
    from metalora.util.cluster import connect
    from metalora.util.errors import InputError, choices

    if name is None:
        _print_studies()
        return
    all_parts = find_study(name).parts
    for key in part or ():
        if key not in all_parts:
            raise InputError(f"The study {name} has no part {key!r}: use {choices(key, all_parts)}.")
    for option, value in (("seeds", seeds), ("jobs", jobs)):
        if value is not None:
            check_int(option, value)
    folder = out or (FOLDER if final else Path("results/development"))
    if figure is not None:
        _draw(name, folder, figure, final)
        return
    parts = {
        key: run_settings(config, data=data, download=download, final=final, seeds=seeds)
        for key, config in all_parts.items()
        if part is None or key in part
    }
    work = work / ("final" if final else "development") / name
    with connect(scheduler) as cluster:
        where = {"n_jobs": jobs, "log_to": log_to, "cluster": cluster}
        _run_parts(name, parts, folder / name, work, final, where)


def _print_studies() -> None:
    from metalora.experiments.studies import STUDIES

    rows = [[name, ", ".join(study.parts), study.question] for name, study in STUDIES.items()]
    print_table("Studies", ("name", "parts", "question"), rows)


def _draw(name: str, folder: Path, file: Path, final: bool) -> None:
    import pandas as pd

    from metalora.experiments.contexts import context_rows
    from metalora.experiments.gain_map import gain_map
    from metalora.experiments.studies import read_contexts, read_map
    from metalora.plots import save_figure
    from metalora.plots.context_curves import context_figure
    from metalora.plots.gain_curves import gain_figure
    from metalora.util.errors import InputError

    if name not in ("map", "contexts"):
        raise InputError(f"The study {name} has no figure of its own: leave --figure out, or name map or contexts.")
    comparisons = read_map(folder) if name == "map" else read_contexts(folder)
    if not comparisons:
        hint = "" if final else ", or add --final for the final rows"
        raise InputError(f"No part of the study {name} is finished in {folder}: run it{hint}.")
    if name == "map":
        figure = gain_figure(gain_map(comparisons), theme="print")
    else:
        rows = {part: context_rows(comparison) for part, comparison in comparisons.items()}
        named = [frame.assign(backbone=part + ", " + frame["backbone"]) for part, frame in rows.items()]
        figure = context_figure(pd.concat(named, ignore_index=True), theme="print")
    save_figure(figure, file)
    typer.echo(f"The figure is in {file}.")


def _run_parts(name: str, parts: dict[str, Any], folder: Path, work: Path, final: bool, where: dict[str, Any]) -> None:
    from rich.console import Console

    from metalora.experiments.comparison import RESULTS
    from metalora.experiments.results import load_comparison
    from metalora.experiments.runner import count_jobs
    from metalora.experiments.studies import log_final, run_part, stored_results
    from metalora.experiments.table_writers import to_terminal

    suites, notes = {}, {}
    for key, config in parts.items():
        stored_results(config, folder / key / RESULTS)  # refused before the first training
        parts[key], suites[key], notes[key] = check(f"Reading images for {key}", config)
        for note in notes[key]:
            typer.echo(f"Note: {note}", err=True)
    if final:
        log_final(name, parts, folder.parent)
    try:
        for key, config in parts.items():
            jobs = run_part(config, folder / key, work / key, suites[key], notes[key], **where)
            for _ in follow(f"{name}, {key}", jobs, work / key, count_jobs(config)):
                pass
    except KeyboardInterrupt as error:
        how = "those that ran are saved, and the same command resumes"
        raise leave(f"Stopped: finished trainings are kept, {how}.", 1) from error
    for key in parts:
        typer.echo(f"\n{name}, {key}")
        to_terminal(load_comparison(folder / key / RESULTS).table(), Console())
    typer.echo(f"The rows of every part, and its table, are in {folder}.")
