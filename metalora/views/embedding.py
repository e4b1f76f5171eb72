"""Galleries of one or two adapters on planes, side by side or aligned, as a page shows them."""

import functools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from metalora.experiments.table import format_percent
from metalora.inspection.gallery import Gallery, content_hash
from metalora.inspection.projection import align, neighbours, selection
from metalora.inspection.spaces import SPACES, generated, space
from metalora.plots.thumbnails import image_url
from metalora.util.errors import InputError
from metalora.views.app_state import OpenAdapter
from metalora.views.embedding_points import K, describe, points, sheet, strips

NEAREST = 10  # neighbours of a chosen picture


@dataclass(frozen=True)
class Projection:
    """How galleries get onto a plane; defaults are those of the planes that lie beside bundled adapters.

    Attributes:
        space: one of `atlas.SPACES`.
        method, neighbours, min_dist: as `projection.project`.
        aligned: two adapters in one plane, by aligned UMAP, which has its own min_dist of 0.1.
    """

    space: str = "adapted"
    method: str = "umap"
    neighbours: int = 15
    min_dist: float = 0.1
    aligned: bool = False

    @property
    def words(self) -> str:
        """What was done, for a caption."""
        if self.method == "pca":
            return f"PCA of {SPACES[self.space]}: the two directions of largest variance"
        kind = "Aligned UMAP" if self.aligned else "UMAP"
        return (
            f"{kind} of {SPACES[self.space]} with cosine distance, {self.neighbours} neighbours, "
            f"min_dist {0.1 if self.aligned else self.min_dist:g}"
        )


@dataclass(frozen=True, eq=False)
class Chart:
    """What is on the screen: one frame (see `atlas.describe`) for each of one or two adapters.

    Attributes:
        names: of the adapters, for `Laboratory.open`.
        titles: of the adapters, in words.
        classes: the label space of each.
        same: both galleries hold the same pictures, so that a row means the same one in both.
        before: nothing had to be computed.
    """

    names: tuple[str, ...]
    titles: tuple[str, ...]
    projection: Projection
    frames: tuple[pd.DataFrame, ...]
    classes: tuple[tuple[str, ...], ...]
    same: bool
    before: bool

    def table(self) -> pd.DataFrame:
        """All points, for a file: "adapter", "space", "projection" and the frame's columns."""
        where = {"space": self.projection.space, "projection": self.projection.words}
        parts = [frame.assign(adapter=name, **where) for name, frame in zip(self.names, self.frames, strict=True)]
        whole = pd.concat(parts, ignore_index=True)
        return whole[["adapter", "space", "projection", *self.frames[0].columns]]


def chart(names: Sequence[str], opened: Sequence[OpenAdapter], projection: Projection) -> Chart:
    """Lay the galleries of one or two adapters on planes.

    Raises:
        InputError: as `atlas.points` and `projection.align`; aligned without two adapters of the same pictures.
    """
    same = len(opened) == 2 and same_pictures(opened[0].gallery, opened[1].gallery)
    if not projection.aligned:
        frames = tuple(_frame(one, projection) for one in opened)
    elif len(opened) < 2:
        raise InputError("Aligning takes two adapters: choose a second one.")
    elif projection.method != "umap":
        raise InputError("PCA cannot be aligned: choose UMAP.")
    elif not same:
        raise InputError("The two galleries hold different pictures: choose adapters of one suite and random seed.")
    else:
        frames = _aligned(opened[0], opened[1], projection)
    before = not projection.aligned and all(_plane(one, projection) is not None for one in opened)
    titles, classes = tuple(one.title for one in opened), tuple(one.gallery.classes for one in opened)
    return Chart(tuple(names), titles, projection, frames, classes, same, before)


def same_pictures(a: Gallery, b: Gallery) -> bool:
    """Whether a row of one is the same picture as that row of the other."""
    return len(a) == len(b) and (a is b or content_hash(a) == content_hash(b))


def _remembered(most: int) -> Callable[[Callable], Callable]:
    """`functools.lru_cache` that keeps results, but not in memory the adapters, which the laboratory bounds."""

    def decorate(function: Callable) -> Callable:
        @functools.lru_cache(most)
        def known(*arguments: Any) -> Any:
            return function(*(one() if isinstance(one, weakref.ref) else one for one in arguments))

        @functools.wraps(function)
        def call(*arguments: Any) -> Any:
            return known(*(weakref.ref(one) if isinstance(one, OpenAdapter) else one for one in arguments))

        return call

    return decorate


@_remembered(16)  # a change of mind is answered at once
def _frame(opened: OpenAdapter, projection: Projection) -> pd.DataFrame:
    settings = {name: getattr(projection, name) for name in ("method", "neighbours", "min_dist")}
    plane = _plane(opened, projection)
    return points(opened.model, opened.gallery, projection.space, **settings, plane=plane)


@_remembered(4)
def _aligned(a: OpenAdapter, b: OpenAdapter, projection: Projection) -> tuple[pd.DataFrame, ...]:
    features = [space(one.model, one.gallery, projection.space) for one in (a, b)]
    planes = align(features, neighbours=projection.neighbours)
    made = zip((a, b), features, planes, strict=True)
    return tuple(describe(one.gallery, own, plane) for one, own, plane in made)


def _plane(opened: OpenAdapter, projection: Projection) -> Tensor | None:
    """The plane that was computed before with these settings."""
    default = Projection(space=projection.space)
    return opened.planes.get(projection.space) if projection == default else None


@_remembered(8)
def pictures(opened: OpenAdapter) -> dict[str, Any]:
    """A gallery's pictures for hover cards: `atlas.sheet`, and "strips" of the adapters where they are generated."""
    cores = generated(opened.model, opened.gallery)
    return {**sheet(opened.gallery), "strips": None if cores is None else strips(cores)}


def lines(frame: pd.DataFrame) -> list[str]:
    """What is known of each point, in words."""
    told = zip(frame["label"], frame["task"], frame["predicted"], strict=True)
    return [f"class {label}, task {task}; its {K} nearest say {predicted}" for label, task, predicted in told]


def nearest(opened: OpenAdapter, projection: Projection, row: int) -> pd.DataFrame:
    """The pictures nearest to one, not on the plane but in the space that was projected, itself first.

    Returns:
        Columns index (a row of the gallery) and similarity (cosine).

    Raises:
        InputError: there is no such picture.
    """
    features = space(opened.model, opened.gallery, projection.space)
    found = neighbours(features, row, min(NEAREST, len(features) - 1))
    first = pd.DataFrame({"index": [row], "similarity": [1.0]})
    return pd.concat([first, found[["index", "similarity"]]], ignore_index=True)


def judged(frame: pd.DataFrame, rows: Sequence[int], classes: Sequence[str]) -> tuple[str, pd.DataFrame]:
    """What a lasso holds: a sentence with the k-NN accuracy, and the counts (columns class, pictures).

    Raises:
        InputError: a row that is not in the frame.
    """
    found = selection(frame, rows, classes)
    counts = found.classes.set_axis(["class", "pictures"], axis=1)
    if found.accuracy is None:
        return "Nothing is selected.", counts
    right, whole = format_percent(found.accuracy), format_percent(float(np.mean(frame["correct"])))
    sentence = f"{found.count} pictures, {right} % classified rightly by their {K} nearest others (all: {whole} %)."
    return sentence, counts


def duration(opened: Sequence[OpenAdapter], projection: Projection) -> str:
    """What to say while it computes."""
    count = sum(len(one.gallery) for one in opened)
    if projection.method == "pca":
        return f"Computing PCA of {count} pictures."
    if projection.aligned:
        return f"Aligning two UMAPs of {count // 2} pictures: this can take half a minute."
    return f"Computing UMAP of {count} pictures: a few seconds, longer just after the start of the app."


def neighbourhood(opened: OpenAdapter, made: Chart, side: int, row: int) -> tuple[list[int], dict[str, Any]]:
    """Rows of the pictures nearest to one, and what to show of them, the picture itself first.

    Args:
        side: which of the chart's adapters `opened` is.

    Returns:
        Rows without the picture itself, and {"heading", "tiles": [{"picture", "name", "lines"}]}.

    Raises:
        InputError: as `nearest`.
    """
    found = nearest(opened, made.projection, row)
    rows = found["index"].tolist()
    images = opened.gallery.suite.splits[opened.gallery.split][opened.gallery.rows[rows]].images()
    known = made.frames[side].iloc[rows]
    tiles = []
    for place, (image, name, label, task) in enumerate(
        zip(images, known["name"], known["label"], known["task"], strict=True)
    ):
        similarity = "this picture" if place == 0 else f"{place}: cosine {found['similarity'][place]:.2f}"
        tiles.append({"picture": image_url(image), "name": name, "lines": [similarity, f"class {label}", task]})
    heading = f"{made.titles[side]}: nearest in {SPACES[made.projection.space]}"
    return rows[1:], {"heading": heading, "tiles": tiles}
