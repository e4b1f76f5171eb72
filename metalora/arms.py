"""Rows of a comparison: a method, how its core comes about, and what it may know at use.

An arm's name is METHOD[-constant|-shuffled|-equal-budget][@SIZE], for instance "metalora-tr",
"metalora-tr-constant", "lora-equal-budget", "metalora-tr@8", "metalora-tr@all", "lora@8".
"""

import re
from dataclasses import dataclass

from metalora.errors import InputError
from metalora.methods import METHODS, choices, method

SET_SIZE = 8  # of training, for arms that are used with whole tasks
DEFAULT = ("original", "lora", "multi-lora", "metalora-cp", "metalora-tr", "metalora-tr@8", "lora-equal-budget")
CONTROLS = (
    "metalora-cp-constant",
    "metalora-cp-shuffled",
    "metalora-tr-constant",
    "metalora-tr-shuffled",
    "lora@8",
)
_NAME = re.compile(r"(?P<method>.*?)(-(?P<variant>constant|shuffled|equal-budget))?(@(?P<size>all|[1-9]\d*))?$")


@dataclass(frozen=True)
class Arm:
    """One row of a comparison.

    Attributes:
        set_size: images of a task that share what is known at use: 1, a number, or None for all.
    """

    name: str
    method: str
    variant: str | None = None
    set_size: int | None = 1

    @property
    def title(self) -> str:
        """As a table prints it."""
        words = method(self.method).title
        if self.variant:
            words += f", {self.variant.replace('-', ' ')}"
        if self.set_size != 1:
            words += f", sets of {self.set_size or 'all'}"
        return words

    @property
    def core(self) -> str:
        """What `AdapterConfig.core` must be."""
        return "constant" if self.variant == "constant" else "generated"

    @property
    def generated(self) -> bool:
        """Whether cores are generated for the images at hand: the rows that stars are for."""
        return method(self.method).generated and self.variant is None

    @property
    def static(self) -> bool:
        """Whether one adapter (or none) serves all images: candidates for the best static row."""
        return not method(self.method).generated or self.variant == "constant"

    @property
    def training_set_size(self) -> int:
        """Images of a set in training: only what generates learns from sets."""
        if self.static or self.set_size == 1:
            return 1
        return self.set_size or SET_SIZE

    @property
    def training(self) -> tuple:
        """Arms that agree in this share one training."""
        variant = None if self.variant == "shuffled" else self.variant
        return self.method, variant, self.training_set_size

    @property
    def assumption(self) -> str | None:
        """What a set row assumes, in words."""
        if self.set_size == 1:
            return None
        images = f"{self.set_size} unlabelled images" if self.set_size else "all unlabelled images of a side"
        how = "share one core" if method(self.method).generated else "are standardised together"
        return f"{self.name}: {images} that are known to come from one task {how}, in gallery and queries alike."


def arm(name: str) -> Arm:
    """The arm of that name.

    Raises:
        InputError: the name is none, or the combination makes no sense.
    """
    parts = _NAME.match(name)
    if parts["method"] not in METHODS:
        raise InputError(f"Unknown method {name!r}: use {choices(name, (*DEFAULT, *CONTROLS), most=12)}.")
    generated = METHODS[parts["method"]].generated
    if parts["variant"] in ("constant", "shuffled") and not generated:
        raise InputError(f"{name!r} makes no sense, {parts['method']} has no core: use metalora-cp or metalora-tr.")
    if parts["variant"] == "equal-budget" and parts["method"] != "lora":
        raise InputError(f"{name!r} is not offered: the equal-budget row is lora-equal-budget.")
    if parts["variant"] == "constant" and parts["size"]:
        raise InputError(f"{name!r} makes no sense: a constant core is the same for any set.")
    size = {None: 1, "all": None}.get(parts["size"], parts["size"])
    return Arm(name, parts["method"], parts["variant"], int(size) if size else None)
