"""Galleries of one or two adapters on planes, side by side or one turning into the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from metalora.experiments.table import format_percent
from metalora.inspection.gallery import Gallery
from metalora.inspection.placement import Superposition, superimpose
from metalora.inspection.projection import explained_variance
from metalora.inspection.projection_process import align_apart, project_apart
from metalora.inspection.spaces import SPACES, gallery_features
from metalora.util.errors import InputError
from metalora.views.embedding_points import K, point_table
from metalora.views.open_adapter import OpenAdapter

ARRANGEMENTS = {"morph": "one turns into the other", "beside": "side by side"}
MORPH = "morph"
ORIGINAL = "original"  # the space, and what stands for it in place of a second adapter


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
        return f"{self.kind} of {SPACES[self.space]}{self.settings}"

    @property
    def kind(self) -> str:
        """The method's name."""
        return "PCA" if self.method == "pca" else "Aligned UMAP" if self.aligned else "UMAP"

    @property
    def settings(self) -> str:
        """The method's settings, in words."""
        if self.method == "pca":
            return ": the two directions of largest variance"
        distance = 0.1 if self.aligned else self.min_dist
        return f" with cosine distance, {self.neighbours} neighbours, min_dist {distance:g}"


@dataclass(frozen=True)
class MapRequest:
    """Settings of the map.

    Attributes:
        adapter: its name in `AppState.adapters`.
        versus: another one, `ORIGINAL`, or "" for none.
        arrangement: one of `ARRANGEMENTS`.
        projection: how galleries are projected.
        files: a person's images on the map.
        version: hash of each adapter's trained numbers, which a resumed run changes.
    """

    adapter: str
    versus: str
    arrangement: str
    projection: Projection
    files: tuple[str, ...] = ()
    version: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Side:
    """What one scatter shows: a gallery in one space.

    Attributes:
        name: of the adapter, for `AppState.open`.
        opened: the adapter.
        space: one of `spaces.SPACES`.
    """

    name: str
    opened: OpenAdapter
    space: str

    @property
    def title(self) -> str:
        """What is shown, in words."""
        if self.space == ORIGINAL:
            return f"Original {self.opened.config.backbone}"
        return self.opened.title

    @property
    def features(self) -> Tensor:
        """The gallery in this space, (G, D)."""
        return gallery_features(self.opened.model, self.opened.gallery, self.space)


@dataclass(frozen=True, eq=False)
class EmbeddingView:
    """What is on the screen: the points of one or two galleries; of two, the first one is where the other comes from.

    Attributes:
        names: of the adapters, for `AppState.open`.
        titles: of the adapters, in words.
        spaces: in which each gallery is seen.
        projection: how the points were computed.
        frames: the points of each gallery, see `point_table`.
        classes: the label space of each gallery.
        moves: how each plane was laid over the last one; None where it stayed.
        explained: fractions of variance along the axes of each plane; None for UMAP.
        same_images: both galleries hold the same images, so that a row means the same one in both.
        precomputed: nothing had to be computed.
        request: what was asked for, where the page asked.
    """

    names: tuple[str, ...]
    titles: tuple[str, ...]
    spaces: tuple[str, ...]
    projection: Projection
    frames: tuple[pd.DataFrame, ...]
    classes: tuple[tuple[str, ...], ...]
    moves: tuple[Superposition | None, ...]
    explained: tuple[tuple[float, float] | None, ...]
    same_images: bool
    precomputed: bool
    request: MapRequest | None = None

    @property
    def morphs(self) -> bool:
        """Whether one gallery turns into the other on a single plot."""
        return self.same_images and self.request is not None and self.request.arrangement == MORPH

    def table(self) -> pd.DataFrame:
        """Return all points, for a file: "adapter", "space", "projection" and the frame's columns."""
        added = ["adapter", "space", "projection"]
        parts = [
            frame.assign(adapter=name, space=space, projection=self.caption(i))
            for i, (frame, name, space) in enumerate(zip(self.frames, self.names, self.spaces, strict=True))
        ]
        return pd.concat(parts, ignore_index=True)[[*added, *self.frames[0].columns]]

    def caption(self, i: int) -> str:
        """Say how plane `i` was computed."""
        turned = ", laid over the other plane" if self.moves[i] is not None else ""
        return f"{self.projection.kind} of {SPACES[self.spaces[i]]}{self.projection.settings}{turned}"

    def accuracy(self, i: int) -> str:
        """Return the share of images that their `K` nearest others classify correctly, in per cent."""
        return f"{format_percent(float(self.frames[i]['correct'].mean()))} %"

    def axes(self, i: int) -> tuple[str, str]:
        """Return the titles of the axes of plane `i`."""
        if self.explained[i] is None:
            return "UMAP 1", "UMAP 2"
        first, second = self.explained[i] or (0.0, 0.0)
        if self.moves[i] is not None:  # turned axes are no directions of largest variance any more
            return f"PCA 1 and 2, turned: {first + second:.0%} of variance", ""
        return f"PCA 1: {first:.0%} of variance", f"PCA 2: {second:.0%} of variance"

    def describe(self) -> str:
        """Say what is seen, how good it is, and how the planes came about."""
        accuracies = ", ".join(f"{title} {self.accuracy(i)}" for i, title in enumerate(self.titles))
        said = [f"{len(self.frames[-1])} images; accuracy by the {K} nearest others: {accuracies}."]
        said.append(f"{self.caption(len(self.frames) - 1)}{', computed before' if self.precomputed else ''}.")
        if any(self.moves):
            said.append(
                f"The two {self.projection.kind}s were computed apart; the first is only turned, mirrored, scaled and "
                "shifted onto the second (Procrustes)."
            )
        return " ".join(said)


def sides(opened: Sequence[tuple[str, OpenAdapter]], space: str) -> list[Side]:
    """Return what is shown, from where to where: other adapters first; `ORIGINAL` is the last one's backbone.

    Nothing is shown twice: there is one side only where both would be the same, or cores stand against features.

    Args:
        opened: (name, adapter), of which a name of `ORIGINAL` comes with the adapter that is shown.
        space: of the adapters.
    """
    found = [Side(name, adapter, space) for name, adapter in opened if name != ORIGINAL]
    if len(found) < len(opened) and space == "adapted":
        found.insert(0, Side(found[-1].name, found[-1].opened, ORIGINAL))
    return found


def embedding_view(shown: Sequence[Side], projection: Projection, request: MapRequest | None = None) -> EmbeddingView:
    """Project one or two galleries on planes; the first of two of the same images is laid over the second.

    Raises:
        InputError: as `project`, `align` and `gallery_features`; aligned without two galleries of the same images.
    """
    galleries = [side.opened.gallery for side in shown]
    same = len(shown) == 2 and same_images(*galleries)
    moves: tuple[Superposition | None, ...] = (None,) * len(shown)
    if projection.aligned:
        frames = _aligned_points(shown, projection, same)
    else:
        frames = tuple(_points(side, projection) for side in shown)
        if same:
            planes = [frame[["x", "y"]].to_numpy() for frame in frames]
            moves = (superimpose(*planes), None)
            frames = (_moved(frames[0], moves[0]), frames[1])
    pca = projection.method == "pca"
    return EmbeddingView(
        names=tuple(side.name for side in shown),
        titles=tuple(side.title for side in shown),
        spaces=tuple(side.space for side in shown),
        projection=projection,
        frames=frames,
        classes=tuple(gallery.classes for gallery in galleries),
        moves=moves,
        explained=tuple(explained_variance(side.features) if pca else None for side in shown),
        same_images=same,
        precomputed=all(_precomputed(side, projection) is not None for side in shown),
        request=request,
    )


def same_images(a: Gallery, b: Gallery) -> bool:
    """Check whether a row of one gallery is the same image as that row of the other."""
    return len(a) == len(b) and (a is b or a.content == b.content)


def _moved(frame: pd.DataFrame, move: Superposition | None) -> pd.DataFrame:
    assert move is not None
    plane = move(frame[["x", "y"]].to_numpy())
    return frame.assign(x=plane[:, 0], y=plane[:, 1])


def _points(side: Side, projection: Projection) -> pd.DataFrame:
    def compute() -> pd.DataFrame:
        plane = _precomputed(side, projection)
        if plane is not None:
            return point_table(side.opened.gallery, side.features, plane.numpy())
        settings: dict[str, Any] = {"neighbours": projection.neighbours, "min_dist": projection.min_dist}
        projected = project_apart(side.features, projection.method, **settings)
        return point_table(side.opened.gallery, side.features, projected)

    return side.opened.cached((projection, side.space), compute)


def _aligned_points(shown: Sequence[Side], projection: Projection, same: bool) -> tuple[pd.DataFrame, ...]:
    if len(shown) < 2:
        raise InputError("Aligning takes two maps: choose what to compare with, under Versus.")
    if projection.method != "umap":
        raise InputError("PCA cannot be aligned: choose UMAP.")
    if not same:
        raise InputError("The two galleries hold different images: choose adapters of one suite and random seed.")
    a, b = shown

    def compute() -> tuple[pd.DataFrame, ...]:
        features = [side.features for side in shown]
        planes = align_apart(features, neighbours=projection.neighbours)
        parts = zip(shown, features, planes, strict=True)
        return tuple(point_table(side.opened.gallery, space, plane) for side, space, plane in parts)

    return b.opened.cached((projection, a.opened.gallery.adapter, a.space, b.space), compute)


def _precomputed(side: Side, projection: Projection) -> Tensor | None:
    usual = projection == Projection(space=projection.space)
    return side.opened.planes.get(side.space) if usual else None


def waiting_message(shown: Sequence[Side], projection: Projection) -> str:
    """Return what to show while the points are computed."""
    count = sum(len(side.opened.gallery) for side in shown)
    if projection.method == "pca":
        return f"Computing PCA of {count} images …"
    if projection.aligned:
        return f"Aligning two UMAPs of {count // 2} images: about half a minute on two cores …"
    return f"Computing UMAP of {count} images: a few seconds, longer just after the start of the app …"
