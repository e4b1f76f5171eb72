"""`bundle`: the adapters that come with the project, trained again."""

from pathlib import Path
from typing import Annotated

import typer

from metalora.cli.messages import Bar
from metalora.cli.options import verb


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "bundle", bundle)


def bundle(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="BACKBONE/METHOD or BACKBONE/METHOD/SUITE. Left out: all.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to. Left out: the project's own assets.")] = None,
    work: Annotated[Path, typer.Option(help="Folder of the runs, which are resumed.")] = Path("runs/bundle"),
) -> None:
    """Train the bundled adapters and embed their galleries, one after the other."""
    from metalora.models.bundled import NAMES, parse_bundled
    from metalora.runs.bundled_adapters import make

    chosen = names or list(NAMES)
    for name in chosen:
        parse_bundled(name)
    for name in chosen:
        with Bar(f"Training {name}") as bar:
            for event in make(name, work, out):
                bar.update(event.step, event.steps)
        typer.echo(f"{name} is trained.")
