"""What programs ask of the app about pictures: plain values, all or an error."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metalora.evaluation.embedding import EmbedConfig
from metalora.inspection.neighbours import examine
from metalora.inspection.user_images import Pictures, embed_pictures
from metalora.util.device import pick_device
from metalora.util.errors import InputError
from metalora.views.app_state import DEFAULT, RUN, AppState, OpenAdapter
from metalora.views.inspect import gallery_k, read_files


def inspected(app_state: AppState, visitor: str, name: str, files: Sequence[str | Path]) -> dict[str, Any]:
    """For programs: {"adapter", "images": [{"name", "cores", "strength", "neighbours"}], "similarity"}.

    Cores are nested lists by layer (none for a static method); strength is ‖ΔW‖ / ‖W‖ by layer; neighbours are the
    nearest gallery pictures with the adapter, nearest first; similarity is the cosine between cores, (N, N) or None.

    Raises:
        InputError: as `look`, or a file cannot be used.
    """
    opened, pictures = _all_of(app_state, visitor, name, files)
    model, gallery = opened.model.to(pick_device()), opened.gallery
    found = examine(model, gallery, pictures.images(), pictures.known["name"], k=gallery_k(gallery)).to_dict()
    wanted = ("name", "cores", "strength", "neighbours")
    images = [{key: image[key] for key in wanted} for image in found["images"]]
    return {"adapter": name or DEFAULT, "images": images, "similarity": found["similarity"]}


def embedded(app_state: AppState, visitor: str, name: str, files: Sequence[str | Path]) -> dict[str, Any]:
    """For programs: {"adapter", "names", "embeddings"}: every picture with its own adapter, (N, D) as nested lists.

    Raises:
        InputError: as `inspected`.
    """
    opened, pictures = _all_of(app_state, visitor, name, files)
    features = embed_pictures(opened.model, pictures, EmbedConfig())
    names = pictures.known["name"].tolist()
    return {"adapter": name or DEFAULT, "names": names, "embeddings": features.tolist()}


def _all_of(app_state: AppState, visitor: str, name: str, files: Sequence[str | Path]) -> tuple[OpenAdapter, Pictures]:
    """An adapter and all of the pictures: a program counts on one answer for each file."""
    if name.startswith(RUN) and not visitor:
        raise InputError("An adapter of your own needs your visitor's id: give it as `visitor`.")
    opened = app_state.open(visitor, name)
    pictures = read_files(files, opened.model.backbone.image_size)
    if pictures.skipped:
        raise InputError(f"{pictures.skipped[0][0]} cannot be used. {pictures.skipped[0][1]}")
    return opened, pictures
