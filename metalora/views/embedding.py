"""Galleries of one or two adapters on planes, side by side or aligned, for a page and as files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from torch import Tensor

from metalora.inspection.gallery import Gallery
from metalora.inspection.projection import align, project
from metalora.inspection.spaces import SPACES, gallery_features
from metalora.plots.page import as_page
from metalora.util.errors import InputError
from metalora.util.files import write_text
from metalora.views.embedding_points import point_table
from metalora.views.open_adapter import OpenAdapter

HTML, CSV = "embedding.html", "embedding.csv"


@dataclass(frozen=True)
class Projection:
    """How galleries are projected on a plane; the defaults are those of the planes of bundled adapters.

    Attributes:
        space: one of `spaces.SPACES`.
        method: as `projection.project`.
        neighbours: as `projection.project`.
        min_dist: as `projection.project`.
        aligned: two adapters on one plane, by aligned UMAP, which has its own min_dist of 0.1.
    """

    space: str = "adapted"
    method: str = "umap"
    neighbours: int = 15
    min_dist: float = 0.1
    aligned: bool = False

    @property
    def caption(self) -> str:
        """What was done, in words."""
        if self.method == "pca":
            return f"PCA of {SPACES[self.space]}: the two directions of largest variance"
        kind = "Aligned UMAP" if self.aligned else "UMAP"
        return (
            f"{kind} of {SPACES[self.space]} with cosine distance, {self.neighbours} neighbours, "
            f"min_dist {0.1 if self.aligned else self.min_dist:g}"
        )


@dataclass(frozen=True, eq=False)
class EmbeddingView:
    """What is on the screen: the points of one or two adapters' galleries.

    Attributes:
        names: of the adapters, for `AppState.open`.
        titles: of the adapters, in words.
        projection: how the points were computed.
        frames: the points of each adapter, see `point_table`.
        classes: the label space of each adapter.
        same_images: both galleries hold the same images, so that a row means the same one in both.
        precomputed: nothing had to be computed.
    """

    names: tuple[str, ...]
    titles: tuple[str, ...]
    projection: Projection
    frames: tuple[pd.DataFrame, ...]
    classes: tuple[tuple[str, ...], ...]
    same_images: bool
    precomputed: bool

    def table(self) -> pd.DataFrame:
        """Return all points, for a file: "adapter", "space", "projection" and the frame's columns."""
        projection = {"space": self.projection.space, "projection": self.projection.caption}
        parts = [frame.assign(adapter=name, **projection) for name, frame in zip(self.names, self.frames, strict=True)]
        return pd.concat(parts, ignore_index=True)[["adapter", *projection, *self.frames[0].columns]]


def embedding_view(names: Sequence[str], opened: Sequence[OpenAdapter], projection: Projection) -> EmbeddingView:
    """Project the galleries of one or two adapters on planes.

    Raises:
        InputError: as `project`, `align` and `gallery_features`; aligned without two adapters of the same images.
    """
    same = len(opened) == 2 and same_images(opened[0].gallery, opened[1].gallery)
    if not projection.aligned:
        frames = tuple(_points(adapter, projection) for adapter in opened)
    elif len(opened) < 2:
        raise InputError("Aligning takes two adapters: choose a second one.")
    elif projection.method != "umap":
        raise InputError("PCA cannot be aligned: choose UMAP.")
    elif not same:
        raise InputError("The two galleries hold different images: choose adapters of one suite and random seed.")
    else:
        frames = _aligned_points(opened[0], opened[1], projection)
    return EmbeddingView(
        names=tuple(names),
        titles=tuple(adapter.title for adapter in opened),
        projection=projection,
        frames=frames,
        classes=tuple(adapter.gallery.classes for adapter in opened),
        same_images=same,
        precomputed=all(_precomputed(adapter, projection) is not None for adapter in opened),
    )


def same_images(a: Gallery, b: Gallery) -> bool:
    """Check whether a row of one gallery is the same image as that row of the other."""
    return len(a) == len(b) and (a is b or a.content == b.content)


def _points(adapter: OpenAdapter, projection: Projection) -> pd.DataFrame:
    def compute() -> pd.DataFrame:
        features = gallery_features(adapter.model, adapter.gallery, projection.space)
        plane = _precomputed(adapter, projection)
        if plane is not None:
            return point_table(adapter.gallery, features, plane.numpy())
        settings: dict[str, Any] = {"neighbours": projection.neighbours, "min_dist": projection.min_dist}
        return point_table(adapter.gallery, features, project(features, projection.method, **settings))

    return adapter.cached(projection, compute)


def _aligned_points(a: OpenAdapter, b: OpenAdapter, projection: Projection) -> tuple[pd.DataFrame, ...]:
    def compute() -> tuple[pd.DataFrame, ...]:
        features = [gallery_features(adapter.model, adapter.gallery, projection.space) for adapter in (a, b)]
        planes = align(features, neighbours=projection.neighbours)
        return tuple(
            point_table(adapter.gallery, space, plane)
            for adapter, space, plane in zip((a, b), features, planes, strict=True)
        )

    return a.cached((projection, b.gallery.adapter), compute)


def _precomputed(adapter: OpenAdapter, projection: Projection) -> Tensor | None:
    return adapter.planes.get(projection.space) if projection == Projection(space=projection.space) else None


def waiting_message(opened: Sequence[OpenAdapter], projection: Projection) -> str:
    """Return what to show while the points are computed."""
    count = sum(len(adapter.gallery) for adapter in opened)
    if projection.method == "pca":
        return f"Computing PCA of {count} images."
    if projection.aligned:
        return f"Aligning two UMAPs of {count // 2} images: this can take half a minute."
    return f"Computing UMAP of {count} images: a few seconds, longer just after the start of the app."


def write_page(view: EmbeddingView, figures: Sequence[go.Figure], folder: Path) -> Path:
    """Write `HTML`, a page that needs no server, into a folder and return its path.

    Args:
        view: to be written.
        figures: a scatter of each of its frames.
        folder: where to write.

    Raises:
        InputError: the disk refuses.
    """
    lines = [f"{view.projection.caption}."]
    if view.projection.method == "umap":
        lines.append("Distances on a UMAP are not metric.")
    write_text(folder / HTML, as_page(figures, view.frames, lines))
    return folder / HTML


def write_table(view: EmbeddingView, folder: Path) -> Path:
    """Write `CSV`, the view's table, into a folder and return its path.

    Raises:
        InputError: the disk refuses.
    """
    write_text(folder / CSV, view.table().to_csv(index=False, lineterminator="\n"))
    return folder / CSV
