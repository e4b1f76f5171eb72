"""Variants: the rows of a comparison, each a method with its control and its use of sets.

As text a variant is METHOD[-factors][-CONTROL][@SIZE[-USE]], for instance "metalora-tr", "metalora-tr-constant",
"lora-equal-budget", "metalora-tr@8", "metalora-tr-factors@all", "lora@8-routed", "icrm-equal-budget@8".
"""

import re
from dataclasses import dataclass, replace

from metalora.adapters.methods import Method, method
from metalora.util.errors import InputError
from metalora.util.renamed import upgrade_name

REFERENCE = "metalora-tr"  # the method whose rank a comparison is given, and whose total budget "equal-budget" gets
TRAINING_SET_SIZE = 8  # of variants that are trained with sets, whatever size they are used with
CONTEXT_SIZES = (0, 1, 2, 4, 8, 25, 50)  # of sets at use, by which one training is measured; METHOD@contexts is all
CONTEXTS = "@contexts"
MAX_SIZE_DIGITS = 6  # sets of a million images are whole tasks
DEFAULT = ("original", "lora", "multi-lora", "metalora-cp", "metalora-tr", "metalora-tr@8", "lora-equal-budget")
CONTROLS = ("metalora-cp-constant", "metalora-cp-shuffled", "metalora-tr-constant", "metalora-tr-shuffled", "lora@8")
SET_USES = {  # what a static method can make of a set
    "standardised": "are standardised together",
    "routed": "search only the gallery sets whose mean is nearest",
    "bn-adapted": "give the BatchNorm layers their statistics",
    "inverted": "are read for their factors, and their transform is inverted before the network sees them",
    "augbn": "give the BatchNorm layers statistics of their own augmentations, mixed with the stored ones",
}
ON_STANDARD_EMBEDDINGS = (None, "standardised", "routed")  # uses of sets that begin behind the network
_TEXT = re.compile(
    r"(?P<method>.*?)(?P<factors>-factors)?(-(?P<control>constant|shuffled|oracle|equal-budget))?"
    r"(@(?P<size>all|0|[1-9]\d*)(-(?P<use>routed|bn-adapted|inverted|augbn))?)?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Variant:
    """One row of a comparison.

    Attributes:
        method: A name in the registry of methods.
        factor_code: The code predicts the suite's factors; for a static method this is an auxiliary task of training.
        control: "constant", "shuffled", "oracle" (a ceiling: embedded with the true factors), "equal-budget" (the rank
            at which it has the total budget of the reference method), or None.
        set_size: Images of a task that share a core, a context or a use: 1, a number, or None for the whole task; 0:
            no image is read, and all get the identity core.
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
        has_core, has_context, equal_budget = self._entry.generated, self.has_context, self.control == "equal-budget"
        core_control = self.control in ("constant", "shuffled", "oracle")
        is_single = self.set_size in (0, 1)
        rules = {
            f"{self.method} has no core, use metalora-cp or metalora-tr": core_control and not has_core,
            "use lora-equal-budget": (
                equal_budget
                and (self.method == REFERENCE or not self.is_trained or (self.factor_code and not has_core))
            ),
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
            f"AugBN is for single images, use {self.method}@1-augbn": self.set_use == "augbn" and self.set_size != 1,
            f"one image is not a set, use {self.method}": (
                self.in_sets and is_single and not (has_core or has_context or self.set_use == "augbn")
            ),
            f"the image is read in any case, use {self.method}@1": has_context and self.set_size == 0,
            f"the identity core is nobody's, use {self.method}@0": core_control and self.set_size == 0,
            f"only static methods use sets so, as in lora@8-{self.set_use}": self.set_use is not None and has_core,
            f"{self.method} uses sets in a way of its own, use {self.method}@8": bool(self.set_use) and has_context,
            f"the classes alone train it, use {self.method}": self.factor_code and has_context,
        }
        for reason, is_broken in rules.items():
            if is_broken:
                raise InputError(f"{str(self)!r} is not offered: {reason}.")

    def __str__(self) -> str:
        size = "all" if self.set_size is None else self.set_size
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
        if self.set_size == 0:
            words.append("no image read")
        elif self.set_size != 1:
            words.append("whole tasks" if self.set_size is None else f"sets of {self.set_size}")
        elif self.in_sets and self.set_use is None:
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
    def reads_images(self) -> bool:
        """Whether its mapping net reads images, rather than which task they are of."""
        return self.has_mapping_net and not self._entry.told

    @property
    def has_latent_code(self) -> bool:
        """Whether the classes alone train the code of its mapping net."""
        return self.reads_images and not self.factor_code

    @property
    def generated(self) -> bool:
        """Whether it is compared with static rows: cores are generated for the images, and it is not a control."""
        return self._entry.generated and self.control in (None, "equal-budget")

    @property
    def static(self) -> bool:
        """Whether one adapter (or none) is used for all images."""
        return not self.has_mapping_net

    @property
    def has_context(self) -> bool:
        """Whether it is trained to embed images given their set, with one adapter for all images."""
        return self._entry.context is not None

    @property
    def is_embedded_singly(self) -> bool:
        """Whether the network sees images as they are, one by one, whatever is made of sets behind it."""
        return self.static and not self.has_context and self.set_use in ON_STANDARD_EMBEDDINGS

    @property
    def has_head(self) -> bool:
        """Whether the head of its training can read its embeddings, which those standardised in sets are not for.

        Routing concerns neighbours only.
        """
        return self.is_trained and not (self.is_embedded_singly and self.set_size != 1)

    @property
    def training(self) -> "Variant":
        """The variant that stands for its training; those that agree in it share one training."""
        control = None if self.control in ("shuffled", "oracle") else self.control
        in_sets = self.in_sets and (self.has_mapping_net or self.has_context)
        return replace(self, control=control, set_size=1, set_use=None, in_sets=in_sets)

    @property
    def training_set_size(self) -> int:
        """Images of a set in training; only what reads them is trained with sets."""
        return TRAINING_SET_SIZE if self.training.in_sets else 1

    @property
    def assumption(self) -> str | None:
        """What it assumes to be known about the images, in words that follow its name; None for single images."""
        if self.control == "oracle":
            return "given the true factors of every image's task, a ceiling."
        if self._entry.told and self.control is None:
            return "given the task of every image; in an unseen task, all seen tasks count the same."
        if self.set_size == 0:
            return "no image is read: all get the identity core of the model that was trained with sets."
        if self.set_use == "augbn":
            return f"single images {SET_USES['augbn']}."
        if self.set_size == 1:
            return None
        images = "all unlabelled images of a split" if self.set_size is None else f"{self.set_size} unlabelled images"
        use = SET_USES[self.set_use or "standardised"]
        use = "share one core" if self._entry.generated else "are read together" if self.has_context else use
        return f"{images} that are known to come from one task {use}, in gallery and queries alike."

    @property
    def _entry(self) -> Method:
        return method(self.method)


def expand_contexts(text: str) -> list[str]:
    """Return METHOD@contexts as the texts of all `CONTEXT_SIZES` that the method offers; any other text alone."""
    if not text.endswith(CONTEXTS):
        return [text]
    name = text.removesuffix(CONTEXTS)
    sizes = CONTEXT_SIZES[parse_variant(name).has_context :]  # which has no identity core
    return [f"{name}@{size}" for size in sizes]


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
