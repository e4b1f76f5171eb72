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
    first_look: Annotated[bool, typer.Option("--first-look", help="Only draw what the app shows first.")] = False,
    cards: Annotated[
        bool, typer.Option("--cards", help="Train nothing: write the model cards of existing adapters.")
    ] = False,
) -> None:
    """Train the bundled adapters and embed their galleries, one after the other; then draw what the app shows first."""
    from metalora.models.bundled import NAMES, parse_bundled
    from metalora.runs.bundled_adapters import make

    chosen = [] if first_look else names or list(NAMES)
    for name in chosen:
        parse_bundled(name)
    if cards:
        _write_cards(chosen, out)
        return
    for name in chosen:
        with Bar(f"Training {name}") as bar:
            for event in make(name, work, out):
                bar.update(event.step, event.steps)
        typer.echo(f"{name} is trained.")
    if out is None:
        draw_first_look(work)


def draw_first_look(work: Path) -> None:
    """Compute what the app shows first, and write it where the app reads it."""
    from metalora.views.app_state import AppState
    from metalora.views.first_look import FIRST_LOOK, write_first_look
    from metalora.views.look import first_look

    write_first_look(first_look(AppState(work / "app")))
    typer.echo(f"{FIRST_LOOK.name} is drawn.")


def _write_cards(names: list[str], out: Path | None) -> None:
    from metalora.models.bundled import FOLDER, bundled_folder
    from metalora.runs.bundled_adapters import CARD, read_card
    from metalora.runs.model_cards import write_model_card

    for name in names:
        folder = (out or FOLDER) / bundled_folder(name).name
        if (folder / CARD).exists():
            write_model_card(folder, name, read_card(folder))
            typer.echo(f"The model card of {name} is written.")
