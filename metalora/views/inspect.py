"""A person's pictures under one adapter: what the app's Inspect tab and its endpoints look at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from metalora.adapters.methods import method
from metalora.inspection.files import write_inspection
from metalora.inspection.gallery import Gallery
from metalora.inspection.inspect_images import Inspection, most_probable
from metalora.inspection.neighbours import Examination, Exchange, blend, examine
from metalora.inspection.user_images import Pictures, read_paths
from metalora.models.adapted_model import AdaptedModel
from metalora.models.backbones import ASSETS
from metalora.suites.archives import SUFFIXES
from metalora.util.device import pick_device
from metalora.util.errors import InputError
from metalora.views.app_state import DEFAULT, AppState, OpenAdapter
from metalora.views.neighbour_table import exchange_table, neighbour_table

MOST = 16  # pictures at once
K = 5  # neighbours
EXAMPLES = tuple(sorted((ASSETS / "examples").glob("*.png")))


@dataclass(frozen=True, eq=False, repr=False)
class InspectView:
    """N pictures under one adapter, kept between the events of a page. Made by `look`.

    Attributes:
        name: of the adapter, as `Laboratory.adapters` has it.
        adapter: its hash; another one of this name is another adapter.
        title: method and backbone, in words.
        method: of the adapter, in words.
        set_size: images of one core in training, None: all of a task.
        images: float RGB in [0, 1], (N, 3, S, S).
        skipped: (name, reason) of files that could not be used.
        pooled: the pictures share one core.
        read: the factors that were read off each picture, in words, and last, where pooled, off all of them together;
            empty where the code names none.
    """

    name: str
    adapter: str
    title: str
    method: str
    set_size: int | None
    images: Tensor
    skipped: tuple[tuple[str, str], ...]
    pooled: bool
    read: tuple[str, ...]
    examination: Examination

    @property
    def names(self) -> tuple[str, ...]:
        """Of the pictures, numbered, so that two of one name differ."""
        return tuple(f"{i}. {name}" for i, name in enumerate(self.examination.inspection.names, start=1))

    @property
    def numbered(self) -> Inspection:
        """The inspection with numbers for names, which fit into figures of any width."""
        return replace(self.examination.inspection, names=tuple(map(str, range(1, len(self.images) + 1))))

    @property
    def constant(self) -> bool:
        """One adapter serves all pictures."""
        return self.examination.inspection.constant

    @property
    def has_cores(self) -> bool:
        """There are cores to draw."""
        return self.examination.inspection.cores is not None

    @property
    def layers(self) -> list[str]:
        """Names of the adapted layers, shallow to deep."""
        return list(self.examination.inspection.strength)

    @property
    def strongest(self) -> str:
        """The layer whose updates are the strongest, over all pictures."""
        return str(self.examination.inspection.strength.mean().idxmax())

    @property
    def headline(self) -> str:
        """What is looked at, in a sentence or two."""
        count = f"{len(self.images)} picture{'s' if len(self.images) > 1 else ''}"
        if self.constant:
            return f"{self.title}, {count}. {self.method} has one adapter for every image: its strengths are constant."
        shared = ", one core for all of them" if self.pooled else ", a core for each"
        together = f" Read off them together: {self.read[-1]}." if self.pooled and self.read else ""
        return f"{self.title}, {count}{shared}.{together}{self._advice}"

    @property
    def _advice(self) -> str:
        if self.pooled == (self.set_size != 1):
            return ""
        if self.pooled:
            return " This adapter was trained on single pictures: a shared core is new to it."
        return " It was trained on sets: pictures that come from one task can share a core, see Pool."

    @property
    def omitted(self) -> str:
        """Files that could not be used, each with its reason; "" where there are none."""
        return " ".join(f"Left out: {name}. {reason}" for name, reason in self.skipped)

    @property
    def fixed(self) -> str:
        """Why no core can be exchanged; "" where one can."""
        if self.constant:
            return f"{self.method} has one adapter for every image: there is no core to exchange."
        if self.pooled:
            return "The pictures share one core: switch pooling off to exchange cores."
        if len(self.images) < 2:
            return "It takes two pictures to exchange a core: upload another one."
        return ""


def read_files(files: Sequence[str | Path], size: int) -> Pictures:
    """Pictures that a server received, each one file, as squares of `size` pixels.

    Raises:
        InputError: there are none, or over `MOST`, or none can be used.
    """
    if not files:
        raise InputError("There are no pictures: upload one or more.")
    if len(files) > MOST:
        raise InputError(f"These are {len(files)} files: give {MOST} pictures at most.")
    paths = [Path(file) for file in files]
    # Archives and folders are for `read_paths` of one's own disk; what strangers send is looked at one by one.
    usable = [path for path in paths if path.suffix.lower() in SUFFIXES]
    reason = "It is no picture of a known format: save it as PNG or JPEG."
    others = tuple((path.name, reason) for path in paths if path not in usable)
    if not usable:
        raise InputError(f"No picture can be used; {others[0][0]}: {reason}")
    pictures = read_paths(usable, size)
    return replace(pictures, skipped=(*others, *pictures.skipped))


def inspect_view(
    app_state: AppState, visitor: str, name: str, files: Sequence[str | Path], pool: bool = False
) -> tuple[InspectView, str]:
    """Look at pictures under an adapter; and their table of neighbours, as HTML.

    Args:
        visitor: whose adapters there are besides the bundled ones.
        name: of the adapter.
        pool: the pictures share the core of their mean code; without effect where nothing is generated.

    Raises:
        InputError: no such adapter, or as `read_files`.
    """
    opened = app_state.open(visitor, name)
    model, gallery = opened.model.to(pick_device()), opened.gallery
    pictures = read_files(files, model.backbone.image_size)
    pool, images = pool and model.config.generates, pictures.images()
    found = examine(model, gallery, images, pictures.known["name"], pool=pool, k=gallery_k(gallery))
    read = _read(model, gallery.suite.factors, found.inspection.codes, pool)
    seen = InspectView(
        name or DEFAULT,
        gallery.adapter,
        opened.title,
        method(model.config.method).title,
        opened.config.training.set_size,
        images,
        pictures.skipped,
        pool,
        read,
        found,
    )
    return seen, neighbour_table(found, images, gallery, read)


def _read(model: AdaptedModel, factors: Sequence[Sequence[str]], codes: Tensor | None, pool: bool) -> tuple[str, ...]:
    """See `Look.read`; nothing where an adapter goes on on a suite without the factors that it has learnt to name."""
    if codes is None or not model.config.predicts(tuple(map(len, factors))):
        return ()
    if pool:
        codes = torch.cat([codes, model.mapping.pool(codes, torch.zeros(len(codes), dtype=torch.int64))[:1]])
    return tuple(
        ", ".join(f"{value} {share:.0%}" for value, share in values) for values in most_probable(codes, factors)
    )


def exchange(
    app_state: AppState, visitor: str, seen: InspectView, receiver: int, donor: int, share: float
) -> tuple[Exchange, str]:
    """Picture `receiver` with a core at `share` of the way from its own to `donor`'s (1: a swap); and a table, as HTML.

    Raises:
        InputError: there is no core to exchange, the adapter changed since, or as `blend`.
    """
    if seen.fixed:
        raise InputError(seen.fixed)
    opened = _reopen(app_state, visitor, seen)
    found = blend(
        opened.model, opened.gallery, seen.images, receiver, receiver, donor, share, k=gallery_k(opened.gallery)
    )
    return found, exchange_table(seen.examination, seen.images, receiver, found, opened.gallery)


def constant_update(app_state: AppState, visitor: str, seen: InspectView, layer: str) -> Tensor:
    """ΔW of a layer where one adapter serves every image, (*weight.shape), on the CPU.

    Raises:
        InputError: it depends on the image, there is no such layer, or the adapter changed since.
    """
    return _reopen(app_state, visitor, seen).model.delta_weight(layer)[0].detach().cpu()


def _reopen(app_state: AppState, visitor: str, seen: InspectView) -> OpenAdapter:
    opened = app_state.open(visitor, seen.name)
    if opened.gallery.adapter != seen.adapter:
        raise InputError("This adapter was trained further in the meantime: choose it again.")
    return opened


def told(seen: InspectView, receiver: int, donor: int, share: float, found: Exchange) -> str:
    """What an exchange did, in a sentence."""
    names, before = seen.names, seen.examination.predicted_after[receiver]
    whose = "its own core" if donor == receiver or not share else f"{100 * share:.0f} % of the core of {names[donor]}"
    kept = "its class stays" if found.predicted == before else f"its class turns from {before} into"
    return f"{names[receiver]} with {whose} moves by {found.moved:.2g} (cosine distance); {kept} {found.predicted}."


def save_inspection(app_state: AppState, visitor: str, seen: InspectView) -> tuple[Path, Path]:
    """Write cores and strengths as CSV and npz into the visitor's folder, over those of an earlier look.

    Raises:
        InputError: this is no visitor's token, or the disk refuses.
    """
    folder = app_state.workspace.folder(visitor) / "looks" / "latest"
    return write_inspection(seen.examination.inspection, folder)


def gallery_k(gallery: Gallery) -> int:
    """How many neighbours are reported and vote: `K`, or all of a smaller gallery."""
    return min(K, len(gallery))
