"""The command line: `python -m metalora VERB`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Low-rank adapters whose core is generated for each image."""


@app.command()
def pretrain(
    backbone: str,
    data: Annotated[Path, typer.Option(help="Folder or archive with train/CLASS/… and test/CLASS/….")],
    epochs: int = 50,
    seed: int = 0,
    device: str = "auto",
    precision: str = "float32",
    out: Path = Path("assets"),
    checkpoint: Path | None = None,
) -> None:
    """Train a bundled backbone from scratch and write its weights and card."""
    from metalora.pretraining import Pretraining

    run = Pretraining(backbone, data, epochs=epochs, seed=seed, device=device, precision=precision)
    for event in run.fit(checkpoint):
        if "validation" in event.metrics or event.step % 100 == 0:
            print(event, flush=True)
    command = f"python -m metalora pretrain {backbone} --data {data.name} --epochs {epochs} --seed {seed} --precision {precision}"
    print({k: v for k, v in run.save(out, command).items() if k != "validation_images"})
