"""One image under one adapter, as the Look tab shows it: shifted by knobs, beside other adapters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go
import torch
from PIL import Image
from torch import Tensor

from metalora.inspection.inspect_images import inspect_images
from metalora.inspection.movement import CONSTANT, ORIGINAL, OTHER, OWN, STATIC, Movement, Playground, Unshifted
from metalora.inspection.spaces import gallery_cores
from metalora.plots.fingerprint import fingerprint, with_values_of
from metalora.plots.shifts import core_plane, movement_curves, with_image_at
from metalora.plots.thumbnails import thumbnail, to_pil
from metalora.suites.knobs import KNOBS, shift, trained_values
from metalora.suites.registry import SUITES
from metalora.util.errors import InputError
from metalora.util.files import hash_tensors
from metalora.views.app_state import DEFAULT, AppState
from metalora.views.examples import example_files
from metalora.views.inspect import inspect_view, keep_of_examples, predicted_factors, read_files, reopen
from metalora.views.inspect_view import InspectView
from metalora.views.look_table import look_table
from metalora.views.open_adapter import OpenAdapter

SIDE = 224  # pixels of the image
OPENING = {"blur": 6.0}  # how the first image is shifted, so that there is something to compare


@dataclass(frozen=True, eq=False)
class Look:
    """One shifted image under one adapter.

    Attributes:
        image: as HTML.
        fingerprint: the adapter of the shifted image, as plotly's JSON; None where none is generated.
        plane: its core among those of the gallery, as plotly's JSON; None where none is generated.
        table: what each adapter does, as HTML.
        verdict: what that amounts to, in a sentence.
    """

    image: str
    fingerprint: dict[str, Any] | None
    plane: dict[str, Any] | None
    table: str
    verdict: str


def choices(view: InspectView) -> list[tuple[Image.Image, str]]:
    """Return the images of a view as a menu shows them, each with its name."""
    sharp = Image.Resampling.NEAREST if view.images.shape[-1] < SIDE else Image.Resampling.BILINEAR
    return [
        (to_pil(image).resize((SIDE, SIDE), sharp), name) for image, name in zip(view.images, view.names, strict=True)
    ]


def other_images(app_state: AppState, visitor: str, view: InspectView, position: int) -> tuple[list[str], Tensor]:
    """Return names and images that another core can come from: the other images on the page, or the examples."""
    rows = [i for i in range(len(view.images)) if i != position]
    if rows:
        return [view.names[i] for i in rows], view.images[rows]
    opened, size = reopen(app_state, visitor, view), view.images.shape[-1]

    def read() -> tuple[list[str], Tensor]:
        examples = read_files(example_files(opened.config.suite.name), size, opened.model.decoding)
        return list(examples.table["name"]), examples.images()

    return opened.cached(("pixels of the examples", size), read)


def look(
    app_state: AppState, visitor: str, view: InspectView, position: int, donor: int, knobs: Mapping[str, Any]
) -> Look:
    """Shift one image of a view, and embed it by every adapter side by side.

    Args:
        app_state: with the adapters.
        visitor: whose adapters can be named besides the bundled ones.
        view: of the images.
        position: of the image.
        donor: position among `other_images` of the one whose core is tried.
        knobs: see `shift`.

    Raises:
        InputError: there is no such image, a knob has no such value, or the adapter changed since.
    """
    static = open_static(app_state, visitor, view)
    key = ("look", repr((position, donor, dict(knobs))), static)

    def compute() -> Look:
        return _look(app_state, visitor, view, position, donor, knobs, static)

    return keep_of_examples(app_state, visitor, view, key, compute)


def _look(
    app_state: AppState,
    visitor: str,
    view: InspectView,
    position: int,
    donor: int,
    knobs: Mapping[str, Any],
    static: OpenAdapter | None,
) -> Look:
    opened, playground, image = _playground(app_state, visitor, view, position, donor)
    shifted = shift(view.images[position][None], knobs)
    moved = playground.move(image, shifted)
    name, named = view.names[position], titles(view, static)
    factors: tuple[str, ...] = ()
    if moved.codes is not None:
        factors = predicted_factors(opened.model, opened.gallery.source.factors, moved.codes.cpu())
    figures: dict[str, Any] = {"fingerprint": None, "plane": None}
    if moved.cores is not None:
        figures = _figures(opened, image, moved, shifted, name)
    return Look(
        image=_image(shifted[0], name, factors),
        table=look_table(opened, static, moved, named, distances=is_shifted(knobs)),
        verdict=_verdict(moved, named) if is_shifted(knobs) else "",
        **figures,
    )


def first_look(app_state: AppState) -> Look:
    """Return what the tab shows first: the first example under the default adapter, with the opening knobs."""
    view = inspect_view(app_state, "", DEFAULT)
    return look(app_state, "", view, 0, 0, OPENING)


def sweep(app_state: AppState, visitor: str, view: InspectView, position: int, donor: int) -> go.Figure:
    """Turn every knob by itself through its range, and plot how far each adapter's embedding moves.

    Raises:
        InputError: as `look`.
    """
    opened, playground, image = _playground(app_state, visitor, view, position, donor)
    settings = [(name, value) for name, knob in KNOBS.items() for value in knob.values]
    shifted = torch.cat([shift(view.images[position][None], {name: value}) for name, value in settings])
    rows = playground.move(image, shifted).relative.assign(
        knob=[name for name, _ in settings], value=[value for _, value in settings]
    )
    rows = rows.melt(["knob", "value"], var_name="adapter", value_name="distance")
    shown = trained_values(_tasks(opened))
    return movement_curves(
        rows, opened.config.adapter.method, shown, titles(view, open_static(app_state, visitor, view))
    )


def trained_knobs(app_state: AppState, visitor: str, adapter: str) -> tuple[str, ...]:
    """Return the knobs whose shifts an adapter was trained on.

    Raises:
        InputError: there is no such adapter.
    """
    return tuple(trained_values(_tasks(app_state.open(visitor, adapter))))


def is_shifted(knobs: Mapping[str, Any]) -> bool:
    """Whether any knob is off its neutral value."""
    return any(value != KNOBS[name].neutral for name, value in knobs.items())


def open_static(app_state: AppState, visitor: str, view: InspectView) -> OpenAdapter | None:
    """Return the LoRA of the same backbone and suite; None where there is none."""
    twin = app_state.static_twin(visitor, view.adapter)
    return None if twin is None else app_state.open(visitor, twin)


def titles(view: InspectView, static: OpenAdapter | None) -> dict[str, str]:
    """Return adapter of a `Movement` → its name on the page."""
    lora = ""
    if static is not None:
        budget = sum(p.numel() for p in static.model.trained.parameters())
        lora = f"LoRA, {budget / 1000:.1f} k parameters"
    return {
        ORIGINAL: "original network",
        STATIC: lora,
        OWN: f"{view.method}, its own core",
        OTHER: f"{view.method}, another image's core",
        CONSTANT: f"{view.method}, one core for all",
    }


def _tasks(opened: OpenAdapter) -> Any:
    entry = SUITES.get(opened.config.suite.name)
    return None if entry is None else entry.tasks


def _playground(
    app_state: AppState, visitor: str, view: InspectView, position: int, donor: int
) -> tuple[OpenAdapter, Playground, Unshifted]:
    opened = reopen(app_state, visitor, view)
    if not 0 <= position < len(view.images):
        raise InputError(f"There is no image {position + 1}: choose one of {len(view.images)}.")
    static = app_state.static_twin(visitor, view.adapter)
    _, others = other_images(app_state, visitor, view, position)
    key = ("playground", hash_tensors({"others": others}), donor, static)

    def build() -> Playground:
        codes, model = opened.gallery.codes, opened.model
        return Playground(
            model,
            others,
            donor=donor,
            static=None
            if static is None
            else app_state.open(visitor, static).model.to(next(model.parameters()).device),
            constant=None if codes is None else codes.mean(0),
        )

    playground: Playground = opened.cached(key, build)
    image = view.images[position]
    return opened, playground, opened.cached((*key, hash_tensors({"image": image})), lambda: playground.read(image))


def _figures(
    opened: OpenAdapter, image: Unshifted, moved: Movement, shifted: Tensor, name: str
) -> dict[str, dict[str, Any]]:
    assert moved.cores is not None
    assert image.core is not None
    inspection = inspect_images(opened.model, shifted, [name], codes=moved.codes)

    def compute() -> tuple[Any, ...]:
        from sklearn.decomposition import PCA

        cores = gallery_cores(opened.model, opened.gallery)
        assert cores is not None
        pca = PCA(2, random_state=0).fit(cores.flatten().numpy())
        reference = cores.mean()
        limit = max((core - reference[layer]).abs().max().item() for layer, core in cores.items())
        plane = pca.transform(cores.flatten().numpy())
        drawn = (
            fingerprint(inspection, shifted, reference=reference, limit=limit, compact=True),
            core_plane(plane, list(opened.gallery.table["task"]), plane[0], plane[0]),
        )
        return reference, pca, *(json.loads(figure.to_json()) for figure in drawn)

    reference, pca, print_of_first, plane = opened.cached("cores of the gallery", compute)
    before, now = pca.transform(torch.cat([image.core, moved.cores.flatten().cpu()]).numpy())
    return {
        "fingerprint": with_values_of(print_of_first, inspection, reference),
        "plane": with_image_at(plane, before, now),
    }


def _image(image: Tensor, name: str, factors: tuple[str, ...]) -> str:
    read = f'<p class="read">It shows: {escape(factors[0])}</p>' if factors else ""
    picture = f'<img src="{thumbnail(image, SIDE)}" alt=""><figcaption>{escape(name)}</figcaption>'
    return f'<figure class="look">{picture}{read}</figure>'


def _verdict(moved: Movement, named: Mapping[str, str]) -> str:
    """Say which adapter's embedding moved least and most."""
    distance = moved.relative.iloc[0].sort_values()
    least, most = distance.index[0], distance.index[-1]
    return (
        f"Moved least by {named[least]} ({distance.iloc[0]:.2f}), most by {named[most]} ({distance.iloc[-1]:.2f}); "
        "1 is the distance of another image."
    )
