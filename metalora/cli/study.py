"""`study`: the comparisons behind the README's figures and tables."""

from pathlib import Path
from typing import Annotated

import typer

from metalora.cli.messages import leave, tell_table
from metalora.cli.options import verb
from metalora.cli.progress import check, follow


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "study", study)


def study(
    name: Annotated[str | None, typer.Argument(help="Study; left out: list them.", show_default=False)] = None,
    part: Annotated[list[str] | None, typer.Option(help="Part of it; repeatable. Left out: all.")] = None,
    data: Annotated[str, typer.Option(help="Where CIFAR-10 lies.")] = "data",
    seeds: Annotated[int | None, typer.Option(help="At most so many seeds, the first ones.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch data that are not here.")] = False,
    final: Annotated[
        bool, typer.Option("--final", help="Score unseen tasks and test images; every call is logged.")
    ] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Of the study map: draw the gains that are there into this file and leave.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes at a time; left out: one per core on a CPU.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; left out: assets/results, or results/development.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder of the single trainings, which are kept.")] = Path(
        "results/studies"
    ),
) -> None:
    """Run a study, or what is missing of it: a named list of comparisons.

    Without --final it holds out seen tasks and validation images, for choices; with it the numbers count.
    """
    from rich.console import Console

    from metalora.experiments.comparison import RESULTS
    from metalora.experiments.gain_map import gain_map
    from metalora.experiments.results import FOLDER, load_comparison
    from metalora.experiments.runner import count_jobs
    from metalora.experiments.studies import STUDIES, log_final, read_map, run_part, settings, stored_results
    from metalora.experiments.studies import study as find
    from metalora.experiments.table_writers import to_terminal
    from metalora.plots import draw
    from metalora.plots.gain_curves import gain_map as gain_figure
    from metalora.util.checks import check_int
    from metalora.util.errors import InputError, choices

    if name is None:
        rows = [[key, ", ".join(found.parts), found.question] for key, found in STUDIES.items()]
        tell_table("Studies", ("name", "parts", "question"), rows)
        return
    known = find(name).parts
    for chosen in part or ():
        if chosen not in known:
            raise InputError(f"The study {name} has no part {chosen!r}: use {choices(chosen, known)}.")
    for count, value in (("seeds", seeds), ("jobs", jobs)):
        if value is not None:
            check_int(count, value)
    kind = "final" if final else "development"
    folder = out or (FOLDER if final else Path("results/development"))
    if figure is not None:
        if name != "map":
            raise InputError(f"The study {name} has no figure of its own: leave --figure out, or name map.")
        found = read_map(folder)
        if not found:
            hint = "" if final else ", or add --final for the final rows"
            raise InputError(f"No part of the map has run to its end in {folder}: run the study{hint}.")
        draw(gain_figure(gain_map(found), theme="print"), figure)
        typer.echo(f"The map is in {figure}.")
        return
    asked = {"data": data, "download": download, "final": final, "seeds": seeds}
    parts = {key: settings(known[key], **asked) for key in known if key in (part or known)}
    suites, notes = {}, {}
    for key, config in parts.items():
        stored_results(config, folder / name / key / RESULTS)  # what is wrong with them is told before a training
        suites[key], notes[key] = check(f"Reading pictures for {key}", config)
        for note in notes[key]:
            typer.echo(f"Note: {note}", err=True)
    if final:
        log_final(name, parts, folder)
    try:
        for key, config in parts.items():
            own = work / kind / name / key
            jobs = run_part(config, folder / name / key, own, suites[key].primary, jobs, notes[key])
            for _ in follow(f"{name}, {key}", jobs, own, count_jobs(config)):
                pass  # it tells
    except KeyboardInterrupt as error:
        raise leave("Stopped: finished trainings are kept, the same command goes on.", 1) from error
    for key in parts:
        typer.echo(f"\n{name}, {key}")
        to_terminal(load_comparison(folder / name / key / RESULTS).table(), Console())
    typer.echo(f"The rows of every part, and its table, are in {folder / name}.")
