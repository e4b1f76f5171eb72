"""The registry of compared methods: one entry each, with its paper."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from metalora.errors import InputError
from metalora.formats import CP, TR, LoRA, MultiLoRA


@dataclass(frozen=True)
class Method:
    """A way to adapt a backbone.

    Attributes:
        title: as tables and the app print it.
        format: class of `formats.py`; None leaves the backbone as it is.
        paper: where it was proposed.
    """

    title: str
    format: type | None
    paper: str

    @property
    def generated(self) -> bool:
        """Whether it has a core that can be generated for each image."""
        return self.format is not None and self.format.generated


METHODS = {
    "original": Method("Original", None, "the backbone as it was trained"),
    "lora": Method("LoRA", LoRA, "Hu et al. 2106.09685; convolutions as in arXiv 2504.00460, Eq. 5"),
    "multi-lora": Method("Multi-LoRA", MultiLoRA, "Wang et al. 2311.11501"),
    "metalora-cp": Method("Meta-LoRA CP", CP, "arXiv 2504.00460, Eq. 6"),
    "metalora-tr": Method("Meta-LoRA TR", TR, "arXiv 2504.00460, Eq. 7"),
}


def method(name: str) -> Method:
    """The entry called `name`; an unknown name is an InputError that lists them."""
    if name not in METHODS:
        raise InputError(f"Unknown method {name!r}: use {choices(name, METHODS)}.")
    return METHODS[name]


def choices(name: str, known: Iterable[str], most: int = 8) -> str:
    """The known names in one phrase, near misses of `name` first."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    listed = (near + [other for other in known if other not in near])[:most]
    more = f" or one of {len(known) - most} more" if len(known) > most else ""
    return ", ".join(listed) + more
