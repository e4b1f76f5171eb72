"""What programs ask of the app about images: plain values for all of them, or an error."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metalora.evaluation.config import EmbedConfig
from metalora.inspection.user_images import embed_images
from metalora.util.errors import InputError
from metalora.views.app_state import DEFAULT, RUN, AppState
from metalora.views.inspect import inspect_view, read_files


def inspect_files(app_state: AppState, visitor: str, adapter: str, files: Sequence[str | Path]) -> dict[str, Any]:
    """Return {"adapter", "images": [{"name", "cores", "strength", "neighbours"}], "similarity"}.

    Cores are nested lists by layer (none for a static method); strength is ‖ΔW‖ / ‖W‖ by layer; neighbours are the
    nearest gallery images with the adapter, nearest first; similarity is the cosine between cores, (N, N) or None.

    Raises:
        InputError: as `inspect_view`, or a file cannot be used.
    """
    _check_visitor(visitor, adapter)
    view = inspect_view(app_state, visitor, adapter, files)
    _check_complete(view.skipped)
    report = view.report.to_dict()
    images = [{key: image[key] for key in ("name", "cores", "strength", "neighbours")} for image in report["images"]]
    return {"adapter": view.adapter, "images": images, "similarity": report["similarity"]}


def embed_files(app_state: AppState, visitor: str, adapter: str, files: Sequence[str | Path]) -> dict[str, Any]:
    """Return {"adapter", "names", "embeddings"}: every image with its own adapter, (N, D) as nested lists.

    Raises:
        InputError: as `inspect_files`.
    """
    _check_visitor(visitor, adapter)
    model = app_state.open(visitor, adapter).model
    assert model.backbone.image_size is not None
    images = read_files(files, model.backbone.image_size, model.decoding)
    _check_complete(images.skipped)
    embeddings = embed_images(model, images, EmbedConfig()).tolist()
    return {"adapter": adapter or DEFAULT, "names": images.table["name"].tolist(), "embeddings": embeddings}


def _check_visitor(visitor: str, adapter: str) -> None:
    if adapter.startswith(RUN) and not visitor:
        raise InputError("An adapter of your own needs your visitor's id: give it as `visitor`.")


def _check_complete(skipped: Sequence[tuple[str, str]]) -> None:
    """Check that every file was used: a program counts on one answer for each."""
    if skipped:
        raise InputError(f"{skipped[0][0]} cannot be used. {skipped[0][1]}")
