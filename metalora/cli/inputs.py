"""Inputs of `embed`, `inspect` and `fold`: images and a saved adapter."""

from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.messages import Bar, print_skipped
from metalora.cli.options import SUITE

Images = Annotated[list[Path] | None, typer.Argument(help="Images, folders or archives of them.", show_default=False)]
Adapter = Annotated[Path, typer.Option(help="Saved adapter: RUN/adapter, or a bundled one such as resnet20/lora.")]
Pool = Annotated[bool, typer.Option("--pool", help="The images of a task are one set and share a core.")]
READING = SUITE.only("image_size", "download")


def checked_file(out: Path, *suffixes: str, option: str = "--out") -> Path:
    """Check that an option names a file of one of the kinds, and return it."""
    from metalora.util.errors import InputError

    if out.suffix not in suffixes or out.is_dir():
        kinds = " or ".join(suffixes)
        raise InputError(f"{option} {out} is no {kinds} file: name one that ends with {kinds}.")
    return out


def load_adapter(adapter: Path, given: dict[str, Any]) -> Any:
    """Load a saved adapter, after a check of the device."""
    from metalora.models.loading import load
    from metalora.util.device import pick_device

    pick_device(given.get("device", "auto"))
    return load(adapter, download=given.get("download", False))


def load_original(backbone: str, given: dict[str, Any]) -> Any:
    """Load a backbone without adapters, after a check of the device."""
    from metalora.adapters.config import AdapterConfig
    from metalora.models.adapt import adapt
    from metalora.models.backbones import load_backbone
    from metalora.util.device import pick_device

    pick_device(given.get("device", "auto"))
    return adapt(load_backbone(backbone, download=given.get("download", False)), AdapterConfig("original"))


def read_images(model: Any, images: list[Path] | None, given: dict[str, Any]) -> Any:
    """Read the images that are named, or those of a suite."""
    from metalora.inspection.user_images import from_suite, read_paths
    from metalora.suites.load import load_suite

    with Bar("Reading images") as bar:
        if "suite" in given:
            user_images = from_suite(load_suite(SUITE.read(given), progress=bar.reading))
        else:
            size = given.get("image_size") or model.backbone.image_size
            user_images = read_paths(images or [], size, bar.reading, model.decoding)
    print_skipped(user_images.skipped)
    for note in user_images.notes:
        typer.echo(f"Note: {note}", err=True)
    return user_images
