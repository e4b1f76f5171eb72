"""Images under one adapter, as the Look tab shows them."""

from dataclasses import dataclass, replace

from torch import Tensor

from metalora.inspection.inspect_images import Inspection
from metalora.inspection.neighbours import NeighbourReport
from metalora.inspection.uncertainty import Uncertainty


@dataclass(frozen=True, eq=False, repr=False)
class InspectView:
    """N images under one adapter, kept between the events of a page. See `inspect.inspect_view`.

    Attributes:
        adapter: its name in `AppState.adapters`.
        adapter_hash: another hash under this name is another adapter.
        title: method and backbone, in words.
        method: of the adapter, in words.
        set_sizes: images of one core in training; 0: the identity core.
        images: float RGB in [0, 1], (N, 3, S, S).
        skipped: (name, reason) of files that could not be used.
        pooled: the images share one core.
        factors: the factors that were predicted of each image, in words, and last, where pooled, of all of them
            together; empty where the code predicts none.
        disagree: the images were pooled, though they show different values of some factor.
        report: cores, strengths and neighbours.
        uncertainty: of Gaussian cores; None where cores have no distribution.
        examples: the images are the examples, which every visitor sees first.
    """

    adapter: str
    adapter_hash: str
    title: str
    method: str
    set_sizes: tuple[int, ...]
    images: Tensor
    skipped: tuple[tuple[str, str], ...]
    pooled: bool
    factors: tuple[str, ...]
    disagree: bool
    report: NeighbourReport
    uncertainty: Uncertainty | None = None
    examples: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, numbered, so that two of one name differ."""
        return tuple(f"{i}. {name}" for i, name in enumerate(self.report.inspection.names, start=1))

    @property
    def numbered(self) -> Inspection:
        """The inspection with numbers for names, which fit into figures of any width."""
        return replace(self.report.inspection, names=tuple(map(str, range(1, len(self.images) + 1))))

    @property
    def constant(self) -> bool:
        """One adapter is used for all images."""
        return self.report.inspection.constant

    @property
    def has_cores(self) -> bool:
        """There are cores to draw."""
        return self.report.inspection.cores is not None

    @property
    def comparable(self) -> bool:
        """There are cores of two images or more to compare."""
        return self.has_cores and len(self.images) > 1 and not self.pooled

    @property
    def layers(self) -> list[str]:
        """Names of the adapted layers, shallow to deep."""
        return list(self.report.inspection.strength)

    @property
    def strongest_layer(self) -> str:
        """The layer whose updates are the strongest, over all images."""
        return str(self.report.inspection.strength.mean().idxmax())

    @property
    def headline(self) -> str:
        """What is inspected, in a sentence or two."""
        count = f"{len(self.images)} image{'s' if len(self.images) > 1 else ''}"
        if self.constant:
            return f"{self.title}, {count}. {self.method} has one adapter for every image: its strengths are constant."
        cores = ", one core for all of them" if self.pooled else ", a core for each"
        factors = f" Predicted of all together: {self.factors[-1]}." if self.pooled and self.factors else ""
        advice = ""
        if self.disagree:
            advice = " Warning: these images show different tasks, and one core cannot fit them all: switch Pool off."
        elif self.pooled and max(self.set_sizes) == 1:
            advice = " This adapter was trained on single images: a shared core is new to it."
        elif not self.pooled and 1 not in self.set_sizes:
            advice = " It was trained on sets: images that come from one task can share a core, see Pool."
        return f"{self.title}, {count}{cores}.{factors}{advice}"

    @property
    def skipped_message(self) -> str:
        """Files that could not be used, each with its reason; "" where there are none."""
        return " ".join(f"Left out: {name}. {reason}" for name, reason in self.skipped)

    @property
    def swap_obstacle(self) -> str:
        """Why no core can be swapped; "" where one can."""
        if self.constant:
            return f"{self.method} has one adapter for every image: there is no core to swap."
        if self.pooled:
            return "The images share one core: switch pooling off to swap cores."
        if len(self.images) < 2:
            return "It takes two images to swap a core: upload another one."
        return ""
