"""The command line: `python -m metalora VERB`.

Every verb imports what it needs when it runs, so that `--help` answers without loading torch.
"""

import typer

from metalora.cli import bench, bundle, compare, embed, info, inspect_fold, pretrain, study, train
from metalora.version import __version__

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"metalora {__version__}")
        raise typer.Exit


@app.callback()
def _metalora(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Low-rank adapters whose core is generated for each image: train, compare and look at them."""


for _module in (compare, train, embed, inspect_fold, bench, pretrain, bundle, study, info):
    _module.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave: exit code 0 done, 2 wrong input, 1 everything else."""
    app(arguments, prog_name="metalora")
