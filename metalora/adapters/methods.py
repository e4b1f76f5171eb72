"""The registry of methods: one entry each, with all that others must know of a method without importing torch.

A new method is a format (see `formats.py`) and an entry: here, by `register`, or in another package that declares it
in its pyproject.toml:

    [project.entry-points."metalora.methods"]
    my-method = "my_package.my_method:METHOD"
"""

from collections.abc import Callable
from dataclasses import dataclass

from metalora.util.errors import InputError, choices
from metalora.util.registry import Registry


def square(reference_rank: int) -> int:
    """Return R², the rank at which A and B have as many entries as those of Meta-LoRA TR of rank R."""
    return reference_rank**2


@dataclass(frozen=True)
class Method:
    """A way to adapt a backbone.

    Attributes:
        title: Name in tables and in the app.
        format: Subclass of `Format`, or where it is, "module:Class"; None leaves the backbone as it is.
        paper: Where it was proposed.
        colour: "#rrggbb" of its curves and bars, for light and dark pages alike.
        generated: Whether the format has a core, which can be generated for each image.
        rank_for: R of Meta-LoRA TR → this method's rank beside it in a comparison.
        diagram: How its tensor network is drawn: "chain", "branches", "copy" or "ring"; None is not drawn.
        bench_rank: Rank in the benchmark.
    """

    title: str
    format: str | type | None
    paper: str
    colour: str = "#8A8A8A"
    generated: bool = False
    rank_for: Callable[[int], int] = square
    diagram: str | None = None
    bench_rank: int = 8


# The rows of the paper's Table I.
PAPER = {
    "original": Method("Original", None, "the backbone as it was trained"),
    "lora": Method(
        "LoRA",
        "metalora.adapters.lora:LoRA",
        "Hu et al. 2106.09685; convolutions as in arXiv 2504.00460, Eq. 5",
        "#0072B2",
        diagram="chain",
    ),
    "multi-lora": Method(
        "Multi-LoRA",
        "metalora.adapters.multi_lora:MultiLoRA",
        "Wang et al. 2311.11501",
        "#56B4E9",
        rank_for=lambda reference_rank: max(1, reference_rank**2 // 3),  # of each of three branches
        diagram="branches",
    ),
    "metalora-cp": Method(
        "Meta-LoRA CP",
        "metalora.adapters.cp:CP",
        "arXiv 2504.00460, Eq. 6",
        "#E69F00",
        generated=True,
        diagram="copy",
    ),
    "metalora-tr": Method(
        "Meta-LoRA TR",
        "metalora.adapters.tr:TR",
        "arXiv 2504.00460, Eq. 7",
        "#D55E00",
        generated=True,
        rank_for=lambda reference_rank: reference_rank,
        diagram="ring",
        bench_rank=3,
    ),
}

METHODS: Registry[Method] = Registry("metalora.methods", Method, PAPER)

# Compared with the methods in studies; the app does not offer them.
RIVALS = {
    "full": Method(
        "Full fine-tuning",
        "metalora.adapters.full:Full",
        "the weights of the adapted layers, all of them",
        "#CC79A7",
    ),
    "film": Method(
        "Generated FiLM",
        "metalora.adapters.film:FiLM",
        "Perez et al. 1709.07871, from the same codes",
        "#009E73",
        generated=True,
    ),
}

register = METHODS.register


def method(name: str) -> Method:
    """Return the entry called `name`, of methods or rivals.

    Raises:
        InputError: there is none; the message lists the names.
    """
    if name in RIVALS:
        return RIVALS[name]
    if not isinstance(name, str) or name not in METHODS:
        raise InputError(f"Unknown method {name!r}: use {choices(str(name), (*METHODS, *RIVALS))}.")
    return METHODS[name]
