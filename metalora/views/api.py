"""What programs ask of the app about pictures: plain values, all or an error."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metalora.evaluation.embedding import Protocol
from metalora.inspection.neighbours import examine
from metalora.inspection.user_images import Pictures, embed_pictures
from metalora.util.device import pick_device
from metalora.util.errors import InputError
from metalora.views.inspect import read_files, voters
from metalora.views.session import DEFAULT, RUN, Laboratory, OpenAdapter


def inspected(laboratory: Laboratory, visitor: str, name: str, files: Sequence[str | Path]) -> dict[str, Any]:
    """For programs: {"adapter", "images": [{"name", "cores", "strength", "neighbours"}], "similarity"}.

    Cores are nested lists by layer (none for a static method); strength is ‖ΔW‖ / ‖W‖ by layer; neighbours are the
    nearest gallery pictures with the adapter, nearest first; similarity is the cosine between cores, (N, N) or None.

    Raises:
        InputError: as `look`, or a file cannot be used.
    """
    opened, pictures = _all_of(laboratory, visitor, name, files)
    model, gallery = opened.model.to(pick_device()), opened.gallery
    found = examine(model, gallery, pictures.images(), pictures.known["name"], k=voters(gallery)).to_dict()
    wanted = ("name", "cores", "strength", "neighbours")
    images = [{key: image[key] for key in wanted} for image in found["images"]]
    return {"adapter": name or DEFAULT, "images": images, "similarity": found["similarity"]}


def embedded(laboratory: Laboratory, visitor: str, name: str, files: Sequence[str | Path]) -> dict[str, Any]:
    """For programs: {"adapter", "names", "embeddings"}: every picture with its own adapter, (N, D) as nested lists.

    Raises:
        InputError: as `inspected`.
    """
    opened, pictures = _all_of(laboratory, visitor, name, files)
    features = embed_pictures(opened.model, pictures, Protocol())
    names = pictures.known["name"].tolist()
    return {"adapter": name or DEFAULT, "names": names, "embeddings": features.tolist()}


def _all_of(
    laboratory: Laboratory, visitor: str, name: str, files: Sequence[str | Path]
) -> tuple[OpenAdapter, Pictures]:
    """An adapter and all of the pictures: a program counts on one answer for each file."""
    if name.startswith(RUN) and not visitor:
        raise InputError("An adapter of your own needs your visitor's id: give it as `visitor`.")
    opened = laboratory.open(visitor, name)
    pictures = read_files(files, opened.model.backbone.image_size)
    if pictures.skipped:
        raise InputError(f"{pictures.skipped[0][0]} cannot be used. {pictures.skipped[0][1]}")
    return opened, pictures
