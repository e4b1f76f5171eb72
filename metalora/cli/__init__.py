"""The command line: `python -m metalora VERB`.

Every verb imports torch, and whatever needs it, when it runs, so that `--help` answers at once.
"""

import typer

from metalora.cli import bench, bundle, compare, embed, info, inspect_fold, launch_app, pretrain, study, train
from metalora.util.distributed import first_speaks
from metalora.util.logs import set_up_logs
from metalora.version import __version__

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"metalora {__version__}")
        raise typer.Exit


@app.callback()
def _metalora(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Low-rank adapters whose core is generated for each image: train, compare and inspect them."""
    set_up_logs()


for _module in (launch_app, compare, train, embed, inspect_fold, bench, pretrain, bundle, study, info):
    _module.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: code 0 when done, 2 for wrong input, 1 for everything else."""
    with first_speaks():
        app(arguments, prog_name="metalora")
