"""The bundled adapters: their folders and names, BACKBONE/METHOD for digits and BACKBONE/METHOD/SUITE for others."""

from pathlib import Path
from typing import NamedTuple

from metalora.adapters.methods import PAPER
from metalora.models.bundled_networks import BUNDLED
from metalora.util.errors import InputError, choices
from metalora.util.paths import ASSETS, expand

FOLDER = ASSETS / "adapters"
DIGITS = "digits"
ON_PHOTOGRAPHS = ("lora", "metalora-cp", "metalora-tr")  # LoRA has the total budget of TR
PHOTOGRAPHS = ("cifar10-corruptions", "cifar10-compositions")  # suites


class BundledName(NamedTuple):
    """What the name of a bundled adapter says."""

    backbone: str
    method: str
    suite: str

    def __str__(self) -> str:
        return "/".join(self[:2] if self.suite == DIGITS else self)


NAMES = {
    str(name): name
    for name in (
        *(BundledName(backbone, m, DIGITS) for backbone in BUNDLED for m in PAPER if PAPER[m].format is not None),
        *(BundledName(backbone, m, suite) for suite in PHOTOGRAPHS for backbone in BUNDLED for m in ON_PHOTOGRAPHS),
    )
}


def parse_bundled(name: str) -> BundledName:
    """Return backbone, method and suite of a bundled adapter.

    Raises:
        InputError: there is none of that name.
    """
    if name not in NAMES:
        raise InputError(f"Unknown adapter {name!r}: use {choices(name, NAMES)}.")
    return NAMES[name]


def bundled_folder(name: str) -> Path:
    """Return the folder of a bundled adapter.

    Raises:
        InputError: there is none of that name.
    """
    return FOLDER / str(parse_bundled(name)).replace("/", "-")


def adapter_folder(name: str | Path) -> Path:
    """Return the folder of an adapter, given its path or the name of a bundled one."""
    return bundled_folder(str(name)) if str(name) in NAMES and not Path(name).exists() else expand(name)
