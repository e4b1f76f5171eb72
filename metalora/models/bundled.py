"""The bundled adapters: their names, "BACKBONE/METHOD", and folders."""

from pathlib import Path

from metalora.adapters.methods import PAPER
from metalora.models.backbones import ASSETS, BUNDLED
from metalora.util.errors import InputError, choices
from metalora.util.paths import expand

FOLDER = ASSETS / "adapters"
NAMES = tuple(f"{backbone}/{name}" for backbone in BUNDLED for name in PAPER if PAPER[name].format is not None)


def bundled_folder(name: str) -> Path:
    """Return the folder of the bundled adapter "BACKBONE/METHOD".

    Raises:
        InputError: there is none of that name.
    """
    if name not in NAMES:
        raise InputError(f"Unknown adapter {name!r}: use {choices(name, NAMES)}.")
    return FOLDER / name.replace("/", "-")


def adapter_folder(name: str | Path) -> Path:
    """Return the folder of an adapter, given its path or the name of a bundled one."""
    return bundled_folder(str(name)) if str(name) in NAMES and not Path(name).exists() else expand(name)
