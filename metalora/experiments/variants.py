"""Variants: the rows of a comparison, each a method with its control and its use of sets.

As text a variant is METHOD[-factors][-CONTROL][@SIZE[-USE]], for instance "metalora-tr", "metalora-tr-constant",
"lora-equal-budget", "metalora-tr@8", "metalora-tr-factors@all", "lora@8-routed".
"""

import re
from dataclasses import dataclass, replace

from metalora.adapters.methods import Method, method
from metalora.util.errors import InputError
from metalora.util.renamed import upgrade_name

REFERENCE = "metalora-tr"  # the method whose rank a comparison is given, and whose total budget "equal-budget" gets
TRAINING_SET_SIZE = 8  # of variants that are trained with sets, whatever size they are used with
MAX_SIZE_DIGITS = 6  # sets of a million images are whole tasks
DEFAULT = ("original", "lora", "multi-lora", "metalora-cp", "metalora-tr", "metalora-tr@8", "lora-equal-budget")
CONTROLS = ("metalora-cp-constant", "metalora-cp-shuffled", "metalora-tr-constant", "metalora-tr-shuffled", "lora@8")
SET_USES = {  # what a static method can make of a set
    "standardised": "are standardised together",
    "routed": "search only the gallery sets whose mean is nearest",
    "bn-adapted": "give the BatchNorm layers their statistics",
    "inverted": "are read for their factors, and their transform is inverted before the network sees them",
}
_TEXT = re.compile(
    r"(?P<method>.*?)(?P<factors>-factors)?(-(?P<control>constant|shuffled|oracle|equal-budget))?"
    r"(@(?P<size>all|[1-9]\d*)(-(?P<use>routed|bn-adapted|inverted))?)?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Variant:
    """One row of a comparison.

    Attributes:
        method: A name in the registry of methods.
        factor_code: The code predicts the suite's factors; for a static method this is an auxiliary task of training.
        control: "constant", "shuffled", "oracle" (a ceiling: embedded with the true factors), "equal-budget", or None.
        set_size: Images of a task that share a core or a use: 1, a number, or None for the whole task.
        set_use: What a static method makes of a set, a key of `SET_USES`; None: features are standardised.
        in_sets: Trained with sets, whatever size it is used with; implied by sets at use and by the oracle.

    Raises:
        InputError: There is no such method, or it has no such variant.
    """

    method: str
    factor_code: bool = False
    control: str | None = None
    set_size: int | None = 1
    set_use: str | None = None
    in_sets: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "in_sets", self.in_sets or self.set_size != 1 or self.control == "oracle")
        has_core, equal_budget = self._entry.generated, self.control == "equal-budget"
        core_control = self.control in ("constant", "shuffled", "oracle")
        rules = {
            f"{self.method} has no core, use metalora-cp or metalora-tr": core_control and not has_core,
            "use lora-equal-budget": equal_budget and (self.method != "lora" or self.factor_code),
            f"a constant core is the same for any set and predicts no factors, use {self.method}-constant": (
                self.control == "constant" and (self.in_sets or self.factor_code)
            ),
            f"true factors need a factor code, use {self.method}-factors-oracle": (
                self.control == "oracle" and not self.factor_code
            ),
            f"{self.method} is told the task, so it needs no sets and predicts no factors, use {self.method}": (
                self._entry.told and (self.in_sets or self.factor_code)
            ),
            "the original backbone is not trained, use original": self.factor_code and not self.is_trained,
            f"one image is not a set, use {self.method}": self.in_sets and self.set_size == 1 and not has_core,
            f"only static methods use sets so, as in lora@8-{self.set_use}": self.set_use is not None and has_core,
        }
        for reason, is_broken in rules.items():
            if is_broken:
                raise InputError(f"{str(self)!r} is not offered: {reason}.")

    def __str__(self) -> str:
        size = self.set_size or "all"
        parts = (
            self.method,
            "-factors" if self.factor_code else "",
            f"-{self.control}" if self.control else "",
            f"@{size}" if size != 1 or (self.in_sets and self.control != "oracle") else "",
            f"-{self.set_use}" if self.set_use else "",
        )
        return "".join(parts)

    @property
    def title(self) -> str:
        """The variant in words, as menus and figures show it."""
        words = [self._entry.title]
        if self.factor_code:
            words.append("factor code" if self._entry.generated else "factor prediction")
        if self.control:
            words.append(self.control.replace("-", " "))
        if self.set_size != 1:
            words.append(f"sets of {self.set_size}" if self.set_size else "whole tasks")
        elif self.in_sets:
            words.append("single images")
        return ", ".join([*words, *([self.set_use] if self.set_use else [])])

    @property
    def is_told(self) -> bool:
        """Whether it is told what others have to read from the image: its task, or that one's factors."""
        return self._entry.told or self.control == "oracle"

    @property
    def core(self) -> str:
        """The value of `AdapterConfig.core`."""
        return "constant" if self.control == "constant" else "generated"

    @property
    def is_trained(self) -> bool:
        """Whether there are adapters to train."""
        return self._entry.format is not None

    @property
    def has_mapping_net(self) -> bool:
        """Whether a mapping net generates its cores."""
        return self._entry.generated and self.core == "generated"

    @property
    def has_latent_code(self) -> bool:
        """Whether the classes alone train the code of its mapping net."""
        return self.has_mapping_net and not self.factor_code and not self._entry.told

    @property
    def generated(self) -> bool:
        """Whether it is compared with static rows: cores are generated for the images, and it is not a control."""
        return self._entry.generated and self.control is None

    @property
    def static(self) -> bool:
        """Whether one adapter (or none) is used for all images."""
        return not self.has_mapping_net

    @property
    def training(self) -> "Variant":
        """The variant that stands for its training; those that agree in it share one training."""
        control = None if self.control in ("shuffled", "oracle") else self.control
        in_sets = self.in_sets and self.has_mapping_net
        return replace(self, control=control, set_size=1, set_use=None, in_sets=in_sets)

    @property
    def training_set_size(self) -> int:
        """Images of a set in training; only mapping nets are trained with sets."""
        return TRAINING_SET_SIZE if self.training.in_sets else 1

    @property
    def assumption(self) -> str | None:
        """What it assumes to be known about the images, in words that follow its name; None for single images."""
        if self.control == "oracle":
            return "given the true factors of every image's task, a ceiling."
        if self._entry.told and self.control is None:
            return "given the task of every image; in an unseen task, all seen tasks count the same."
        if self.set_size == 1:
            return None
        images = f"{self.set_size} unlabelled images" if self.set_size else "all unlabelled images of a split"
        use = "share one core" if self._entry.generated else SET_USES[self.set_use or "standardised"]
        return f"{images} that are known to come from one task {use}, in gallery and queries alike."

    @property
    def _entry(self) -> Method:
        return method(self.method)


def parse_variant(text: str) -> Variant:
    """Read a variant from its text, in old spelling or new.

    Raises:
        InputError: There is no such method, or it has no such variant.
    """
    parts = _TEXT.fullmatch(upgrade_name(text))
    assert parts is not None, "the expression matches every text"
    size = parts["size"]
    if size and size != "all" and len(size) > MAX_SIZE_DIGITS:
        limit = f"{10**MAX_SIZE_DIGITS - 1:,}"
        raise InputError(
            f"{text[:40]!r} asks for sets of more than {limit} images: use fewer, or @all for whole tasks."
        )
    return Variant(
        parts["method"],
        factor_code=bool(parts["factors"]),
        control=parts["control"],
        set_size=None if size == "all" else int(size or 1),
        set_use=parts["use"],
        in_sets=size is not None,
    )
