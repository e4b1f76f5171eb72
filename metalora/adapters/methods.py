"""The registry of compared methods: one entry each, with its paper."""

from dataclasses import dataclass

from metalora.adapters.formats import CP, TR, FiLM, Full, LoRA, MultiLoRA
from metalora.util.errors import InputError, choices


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

# Held against the methods in studies, not adapters to choose in the app.
RIVALS = {
    "full": Method("Full fine-tuning", Full, "the weights of the adapted layers, all of them"),
    "film": Method("Generated FiLM", FiLM, "Perez et al. 1709.07871, from the same codes"),
}


def method(name: str) -> Method:
    """The entry called `name`, of methods or rivals; an unknown name is an InputError that lists them."""
    known = METHODS | RIVALS
    if name not in known:
        raise InputError(f"Unknown method {name!r}: use {choices(name, known)}.")
    return known[name]
