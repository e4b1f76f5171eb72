"""A person's own images on the map of a gallery."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metalora.evaluation.config import EmbedConfig
from metalora.inspection.placement import place
from metalora.inspection.user_images import UserImages, code_images, embed_images
from metalora.models.adapted_model import AdaptedModel
from metalora.plots.thumbnails import thumbnail
from metalora.views.app_state import AppState
from metalora.views.embedding import ORIGINAL, EmbeddingView, Side
from metalora.views.inspect import gallery_k, read_files

HOW = {
    "pca": "They are placed exactly, by the same principal components.",
    "umap": "A UMAP takes no further points: they are placed at the weighted mean of their five nearest images.",
}


@dataclass(frozen=True, eq=False)
class Guests:
    """Images on the map.

    Attributes:
        marks: for each side of the map, for each image: {"name", "image" (a data URL), "lines", "place" ([x, y])}.
        tiles: what to show of them below the map, None without any.
        problems: a sentence for each file that could not be used.
    """

    marks: tuple[list[dict[str, Any]], ...]
    tiles: dict[str, Any] | None
    problems: tuple[str, ...]


def place_guests(app_state: AppState, shown: Sequence[Side], view: EmbeddingView, files: Sequence[str]) -> Guests:
    """Embed images as each side does, each with its own adapter, and place them on its plane.

    Args:
        app_state: unused, but what `AppState.wrap_for_gpu` passes.
        shown: the sides of the view.
        view: on the screen.
        files: image files.

    Raises:
        InputError: too many files, or none can be used; the message names them.
    """
    if not files:
        return Guests(tuple([] for _ in shown), None, ())
    marks: list[list[dict[str, Any]]] = []
    skipped: tuple[tuple[str, str], ...] = ()
    for i, side in enumerate(shown):
        size = side.opened.model.backbone.image_size
        assert size is not None
        images = read_files(files, size, side.opened.model.decoding)
        marks.append(_marks(side, view, i, images))
        skipped = images.skipped
    problems = tuple(f"{name} cannot be used. {reason}" for name, reason in skipped)
    return Guests(tuple(marks), _tiles(view, marks), problems)


def embed_guests(model: AdaptedModel, images: UserImages, space: str) -> Tensor:
    """Embed images in a space of `spaces.SPACES`, each with its own adapter, (M, D) on the CPU."""
    if space == "cores":
        codes = code_images(model, images, EmbedConfig())
        assert codes is not None
        with torch.inference_mode():
            return model.cores(codes.to(next(model.parameters()).device)).to("cpu", torch.float32).flatten()
    if space == ORIGINAL:
        with model.disabled():
            return embed_images(model, images, EmbedConfig())
    return embed_images(model, images, EmbedConfig())


def _marks(side: Side, view: EmbeddingView, i: int, images: UserImages) -> list[dict[str, Any]]:
    gallery, features = side.opened.gallery, side.features
    embedded = embed_guests(side.opened.model, images, side.space)
    frame, move = view.frames[i], view.moves[i]
    if move is None or view.projection.method == "umap":  # a mean of moved points is the moved mean
        places = place(features, frame[["x", "y"]].to_numpy(), embedded, view.projection.method)
    else:
        places = move(place(features, frame[["x", "y"]].to_numpy(), embedded, view.projection.method))
    lines = [""] * len(images)
    if side.space != "cores":
        k = gallery_k(gallery)
        classes = gallery.predict(embedded, side.space, k)
        nearest = gallery.nearest(embedded, side.space, 1)
        lines = [
            f"{k} nearest say {name}; cosine {cosine:.2f}"
            for name, cosine in zip(classes, nearest["similarity"], strict=True)
        ]
    thumbnails = [thumbnail(image) for image in images.images()]
    parts = zip(images.table["name"], thumbnails, lines, places.tolist(), strict=True)
    return [{"name": name, "image": image, "lines": [line], "place": xy} for name, image, line, xy in parts]


def _tiles(view: EmbeddingView, marks: list[list[dict[str, Any]]]) -> dict[str, Any]:
    tiles = [
        {
            "image": guests[0]["image"],
            "name": guests[0]["name"],
            "lines": [guests[0]["name"], *(f"{t}: {g['lines'][0]}" for t, g in zip(view.titles, guests, strict=True))],
        }
        for guests in zip(*marks, strict=True)
    ]
    return {"heading": f"Your images. {HOW[view.projection.method]}", "tiles": tiles}
