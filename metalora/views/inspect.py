"""A person's images under one adapter: what the app's Look tab and its endpoints show."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from metalora.adapters.methods import method
from metalora.inspection.files import write_inspection
from metalora.inspection.gallery import Gallery
from metalora.inspection.inspect_images import probable_factors
from metalora.inspection.neighbours import SwapResult, report_neighbours, swap_core
from metalora.inspection.uncertainty import core_uncertainty
from metalora.inspection.user_images import UserImages, read_paths
from metalora.models.adapted_model import AdaptedModel
from metalora.suites.archives import SUFFIXES
from metalora.suites.decoding import AS_DECLARED, Decoding
from metalora.util.device import pick_device
from metalora.util.errors import InputError
from metalora.views.app_state import DEFAULT, AppState
from metalora.views.examples import example_files
from metalora.views.inspect_view import InspectView
from metalora.views.neighbour_table import swap_table
from metalora.views.open_adapter import OpenAdapter

MAX_IMAGES = 16  # at once
K = 5  # neighbours
ROUNDING = 1e-6  # cosine distance below which two embeddings are the same

T = TypeVar("T")


def read_files(files: Sequence[str | Path], size: int, decoding: Decoding = AS_DECLARED) -> UserImages:
    """Read images that a server received, each one file, as squares of `size` pixels.

    Raises:
        InputError: there are none, or more than `MAX_IMAGES`, or none can be used.
    """
    if not files:
        raise InputError("There are no images: upload one or more.")
    if len(files) > MAX_IMAGES:
        raise InputError(f"These are {len(files)} files: give {MAX_IMAGES} images at most.")
    paths = [Path(file) for file in files]
    # `read_paths` also reads archives and folders: strangers may send single images only.
    usable = [path for path in paths if path.suffix.lower() in SUFFIXES]
    reason = "It is not an image of a supported format: save it as PNG or JPEG."
    others = tuple((path.name, reason) for path in paths if path not in usable)
    if not usable:
        raise InputError(f"No image can be used; {others[0][0]}: {reason}")
    images = read_paths(usable, size, decoding=decoding)
    return replace(images, skipped=(*others, *images.skipped))


def inspect_view(
    app_state: AppState, visitor: str, adapter: str, files: Sequence[str | Path] | None = None, pool: bool = False
) -> InspectView:
    """Inspect images under an adapter.

    Args:
        app_state: with the adapters.
        visitor: whose adapters can be named besides the bundled ones.
        adapter: its name.
        files: image files; None: the examples for this adapter.
        pool: the images share the core of their mean code; without effect where nothing is generated.

    Raises:
        InputError: no such adapter, or as `read_files`.
    """
    opened, adapter = app_state.open(visitor, adapter), adapter or DEFAULT
    if files is not None:
        return _inspect(opened, adapter, files, pool)

    def inspect_examples() -> InspectView:
        return replace(_inspect(opened, adapter, example_files(opened.config.suite.name), pool), examples=True)

    return opened.cached(("examples", pool), inspect_examples)


def keep_of_examples(
    app_state: AppState, visitor: str, view: InspectView, key: Hashable, compute: Callable[[], T]
) -> T:
    """Return what `compute` returns; where the images are the examples, it is kept under `key` for other visitors.

    Raises:
        InputError: as `reopen`, or as `compute`.
    """
    if not view.examples:
        return compute()
    opened = reopen(app_state, visitor, view)
    return opened.cached((view, key, opened.gallery.examples is None), compute)  # images may come later


def _inspect(opened: OpenAdapter, adapter: str, files: Sequence[str | Path], pool: bool) -> InspectView:
    model, gallery = opened.model.to(pick_device()), opened.gallery
    assert model.backbone.image_size is not None
    user_images = read_files(files, model.backbone.image_size, model.decoding)
    images, names = user_images.images(), user_images.table["name"]
    pool = pool and model.config.generates
    k = gallery_k(gallery)
    report = report_neighbours(model, gallery, images, names, pool=pool, k=k)
    uncertain = core_uncertainty(model, images, names, gallery, pool=pool, k=k) if model.config.gaussian else None
    return InspectView(
        adapter=adapter,
        adapter_hash=gallery.adapter,
        title=opened.title,
        method=method(model.config.method).title,
        set_sizes=opened.config.training.set_sizes,
        images=images,
        skipped=user_images.skipped,
        pooled=pool,
        factors=predicted_factors(model, gallery.source.factors, report.inspection.codes, pool),
        disagree=pool and disagree(model, gallery.source.factors, report.inspection.codes),
        report=report,
        uncertainty=uncertain,
    )


def predicted_factors(
    model: AdaptedModel, factors: Sequence[Sequence[str]], codes: Tensor | None, pool: bool = False
) -> tuple[str, ...]:
    """Describe the predicted factors of every image, see `InspectView.factors`.

    None are described where the adapter was trained further on a suite without the factors that it predicts.
    """
    if codes is None or not model.config.predicts(tuple(map(len, factors))):
        return ()
    if pool:
        codes = torch.cat([codes, model.mapping.pool(codes, torch.zeros(len(codes), dtype=torch.int64))[:1]])
    return tuple(
        ", ".join(f"{value} {probability:.0%}" for value, probability in image)
        for image in probable_factors(codes, factors)
    )


def disagree(model: AdaptedModel, factors: Sequence[Sequence[str]], codes: Tensor | None) -> bool:
    """Whether images show different values of some factor; False where their codes predict none."""
    if codes is None or not model.config.predicts(tuple(map(len, factors))):
        return False
    return len({tuple(value for value, _ in image) for image in probable_factors(codes, factors)}) > 1


def swap_view(
    app_state: AppState, visitor: str, view: InspectView, receiver: int, donor: int, fraction: float
) -> tuple[str, str]:
    """Give image `receiver` a core at `fraction` of the way from its own to `donor`'s (1: a swap).

    Returns:
        What that changes, as a sentence and as an HTML table.

    Raises:
        InputError: there is no core to swap, the adapter changed since, or as `swap_core`.
    """
    if view.swap_obstacle:
        raise InputError(view.swap_obstacle)
    opened = reopen(app_state, visitor, view)
    gallery, k = opened.gallery, gallery_k(opened.gallery)

    def swap() -> tuple[str, str]:
        result = swap_core(opened.model, gallery, view.images, receiver, donor, fraction, k=k)
        table = swap_table(view.report, view.images, receiver, result, gallery)
        return _describe_swap(view, receiver, donor, fraction, result), table

    return keep_of_examples(app_state, visitor, view, ("swap", repr((receiver, donor, fraction))), swap)


def _describe_swap(view: InspectView, receiver: int, donor: int, fraction: float, result: SwapResult) -> str:
    names, before, after = view.names, view.report.predicted_after[receiver], result.predicted
    core = "its own core" if donor == receiver or not fraction else f"{fraction:.0%} of the core of {names[donor]}"
    change = f"its class stays {after}" if after == before else f"its class turns from {before} into {after}"
    distance = result.distance if result.distance > ROUNDING else 0
    return f"{names[receiver]} with {core} moves by {distance:.2g} (cosine distance); {change}."


def constant_update(app_state: AppState, visitor: str, view: InspectView, layer: str) -> Tensor:
    """Return ΔW of a layer where one adapter is used for every image, (*weight.shape), on the CPU.

    Raises:
        InputError: it depends on the image, there is no such layer, or the adapter changed since.
    """
    return reopen(app_state, visitor, view).model.delta_weight(layer)[0].detach().cpu()


def reopen(app_state: AppState, visitor: str, view: InspectView) -> OpenAdapter:
    """Return the adapter of a view.

    Raises:
        InputError: it changed since, or there is none of that name for this visitor any more.
    """
    opened = app_state.open(visitor, view.adapter)
    if opened.gallery.adapter != view.adapter_hash:
        raise InputError("This adapter was trained further in the meantime: choose it again.")
    return opened


def save_inspection(app_state: AppState, visitor: str, view: InspectView) -> tuple[Path, Path]:
    """Write cores and strengths as CSV and npz into the visitor's folder, over those of an earlier view.

    Raises:
        InputError: this is no visitor's token, or the disk refuses.
    """
    return write_inspection(view.report.inspection, app_state.workspace.export_folder(visitor, "inspect"))


def gallery_k(gallery: Gallery) -> int:
    """Return how many neighbours are reported and vote: `K`, or all of a smaller gallery."""
    return min(K, len(gallery))
