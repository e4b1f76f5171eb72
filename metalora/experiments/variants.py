"""Rows of a comparison: a method, how its core comes about, and what it may know at use.

An arm's name is METHOD[-named][-VARIANT][@SIZE[-USE]], for instance "metalora-tr", "metalora-tr-constant",
"lora-equal-budget", "metalora-tr@8", "metalora-tr-factors@all", "lora@8-routed".
"""

import re
from dataclasses import dataclass

from metalora.adapters.methods import METHODS, RIVALS, method
from metalora.util.errors import InputError, choices
from metalora.util.renamed import upgrade_name

SET_SIZE = 8  # of training, for arms that are used with sets of any size
MOST_DIGITS = 6  # of a set's size; sets as large are whole tasks
DEFAULT = ("original", "lora", "multi-lora", "metalora-cp", "metalora-tr", "metalora-tr@8", "lora-equal-budget")
CONTROLS = (
    "metalora-cp-constant",
    "metalora-cp-shuffled",
    "metalora-tr-constant",
    "metalora-tr-shuffled",
    "lora@8",
)
_NAME = re.compile(
    r"(?P<method>.*?)(?P<factors>-factors)?(-(?P<control>constant|shuffled|oracle|equal-budget))?"
    r"(@(?P<size>all|[1-9]\d*)(-(?P<use>routed|bn-adapted|inverted))?)?",
    re.DOTALL,
)
USES = {  # what a static method can make of a set
    "standardised": "are standardised together",
    "routed": "search only the gallery sets whose mean is nearest",
    "bn-adapted": "give the BatchNorm layers their statistics",
    "inverted": "are read for their factors, and their shift is undone before the network sees them",
}


@dataclass(frozen=True)
class Variant:
    """One row of a comparison.

    Attributes:
        variant: a control ("constant", "shuffled"), the ceiling ("oracle": told the true factors), or "equal-budget".
        set_size: images of a task that share what is known at use: 1, a number, or None for all.
        named: the code names the suite's factors; for a static method naming is an auxiliary task of training.
        use: what a static method makes of a set, a key of `USES`.
        in_sets: trained with sets, whatever it is used with.
    """

    name: str
    method: str
    control: str | None = None
    set_size: int | None = 1
    factor_code: bool = False
    set_use: str | None = None
    in_sets: bool = False

    @property
    def title(self) -> str:
        """As a table prints it."""
        words = method(self.method).title
        if self.factor_code:
            words += ", factors named"
        if self.control:
            words += f", {self.control.replace('-', ' ')}"
        if self.in_sets and self.set_size == 1:
            words += ", single images"
        elif self.set_size != 1:
            words += f", sets of {self.set_size}" if self.set_size else ", whole tasks"
        if self.set_use:
            words += f", {self.set_use}"
        return words

    @property
    def core(self) -> str:
        """What `AdapterConfig.core` must be."""
        return "constant" if self.control == "constant" else "generated"

    @property
    def generated(self) -> bool:
        """Whether cores are generated for the images at hand: the rows that stars are for."""
        return method(self.method).generated and self.control is None

    @property
    def static(self) -> bool:
        """Whether one adapter (or none) serves all images: candidates for the best static row."""
        return not method(self.method).generated or self.control == "constant"

    @property
    def training_set_size(self) -> int:
        """Images of a set in training: only what generates learns from sets."""
        return SET_SIZE if self.in_sets and not self.static else 1

    @property
    def training(self) -> tuple:
        """Arms that agree in this share one training."""
        control = None if self.control in ("shuffled", "oracle") else self.control
        return self.method, control, self.factor_code, self.training_set_size

    @property
    def assumption(self) -> str | None:
        """What a row of sets or of the oracle assumes, in words without its name."""
        if self.control == "oracle":
            return "told the true factors of every image's task, a ceiling."
        if self.set_size == 1:
            return None
        images = f"{self.set_size} unlabelled images" if self.set_size else "all unlabelled images of a side"
        how = "share one core" if method(self.method).generated else USES[self.set_use or "standardised"]
        return f"{images} that are known to come from one task {how}, in gallery and queries alike."


def parse_variant(name: str) -> Variant:
    """The arm of that name.

    Raises:
        InputError: the name is none, or the combination makes no sense.
    """
    name = upgrade_name(name)
    parts = _NAME.fullmatch(name)
    if parts["method"] not in METHODS | RIVALS:
        raise InputError(f"Unknown method {name!r}: use {choices(name, (*DEFAULT, *CONTROLS), most=12)}.")
    generated, control, size = method(parts["method"]).generated, parts["control"], parts["size"]
    if control in ("constant", "shuffled", "oracle") and not generated:
        raise InputError(f"{name!r} makes no sense, {parts['method']} has no core: use metalora-cp or metalora-tr.")
    if control == "equal-budget" and parts["method"] != "lora":
        raise InputError(f"{name!r} is not offered: the equal-budget row is lora-equal-budget.")
    if control == "equal-budget" and parts["factors"]:
        raise InputError(f"{name!r} is not offered: LoRA of equal budget names nothing, use lora-equal-budget.")
    if control == "constant" and (size or parts["factors"]):
        raise InputError(f"{name!r} makes no sense: a constant core is the same for any set and names nothing.")
    if control == "oracle" and not parts["factors"]:
        raise InputError(f"{name!r} makes no sense: only a code of named factors can be told, as in {_told(name)}.")
    if parts["factors"] and parts["method"] == "original":
        raise InputError(f"{name!r} makes no sense: the original backbone is not trained to name anything.")
    if size == "1" and (not generated or control == "constant"):
        raise InputError(f"{name!r} makes no sense: one image is no set, the row without it is {parts['method']}.")
    if parts["use"] and generated:
        raise InputError(f"{name!r} is not offered: static methods have a use of sets, as in lora@8-{parts['use']}.")
    if size and size != "all" and len(size) > MOST_DIGITS:
        most = f"{10**MOST_DIGITS - 1:,}"
        raise InputError(f"{name!r} asks for sets of more than {most} images: use fewer, or @all for whole tasks.")
    used = {None: 1, "all": None}.get(size, size)
    in_sets = size is not None or control == "oracle"
    return Variant(
        name,
        parts["method"],
        control,
        int(used) if used else None,
        bool(parts["factors"]),
        parts["use"],
        in_sets,
    )


def _told(name: str) -> str:
    return name.replace("-oracle", "-named-oracle")
