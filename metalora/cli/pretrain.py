"""`pretrain`: the bundled backbones, from scratch."""

from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.messages import Bar, print_table, time_left, write_json
from metalora.cli.options import TRAINING, Json, verb
from metalora.util.distributed import current_processes


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "pretrain", pretrain, TRAINING.only("precision", "device", "seed"), several=True)


def pretrain(
    backbone: Annotated[str, typer.Argument(help="resnet20 or mixer_nano.")],
    data: Annotated[Path, typer.Option(help="Folder or archive with train/CLASS/… and test/CLASS/….")],
    out: Annotated[Path, typer.Option(help="Folder for weights and card.")] = Path("assets"),
    checkpoint: Annotated[Path | None, typer.Option(help="File to save to and to resume from.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images in every cycle, instead of the recipe's.")
    ] = None,
    json: Json = None,
    **given: Any,
) -> None:
    """Train a bundled backbone from scratch and write its weights and card."""
    from metalora.training.pretraining import Pretraining

    with current_processes().together(in_turn=True):
        run = Pretraining(backbone, data, epochs=epochs, **given)
    with Bar(f"Training {backbone}") as bar:
        for event in run.fit(checkpoint):
            text = "  ".join(f"{name} {value:.3f}" for name, value in event.metrics.items())
            text = f"{time_left(event.seconds_left or 0.0)}  {text}  {event.images_per_second:.0f} images/s"
            bar.update(event.step, event.steps, text, line="validation" in event.metrics)
    # The data by its name only: its place means nothing to others.
    command = (
        f"python -m metalora pretrain {backbone} --data {data.name} "
        + (f"--epochs {run.epochs} " if run.epochs else "")
        + f"--seed {run.seed} --precision {run.precision}"
    )
    card = run.save(out, command)
    if not current_processes().is_first:
        return
    write_json(json, card)
    shown = ("test_accuracy", "validation_accuracy", "parameters", "epochs", "seed", "command")
    print_table(f"{backbone}, in {out}", ("", ""), [(name, str(card[name])) for name in shown])
