"""The neighbours of the images on the page, under every adapter that deserves a look beside their own."""

import torch

from metalora.inspection.movement import OTHER, OWN, STATIC
from metalora.inspection.neighbours import report_neighbours
from metalora.util.device import pick_device
from metalora.views.app_state import AppState
from metalora.views.inspect import gallery_k, keep_of_examples, reopen
from metalora.views.inspect_view import InspectView
from metalora.views.look import open_static, other_images, titles
from metalora.views.neighbour_table import Column, neighbour_table
from metalora.views.open_adapter import OpenAdapter


def neighbours_html(app_state: AppState, visitor: str, view: InspectView) -> str:
    """Return a table of the images' neighbours: by the original network, LoRA, their own core, another image's core.

    The other image is the next one on the page, or an example. LoRA is missing where none was trained on the same
    suite, the other core where images share one.

    Raises:
        InputError: the adapter changed since.
    """
    static = open_static(app_state, visitor, view)
    key = ("neighbours", static)
    return keep_of_examples(app_state, visitor, view, key, lambda: _table(app_state, visitor, view, static))


def _table(app_state: AppState, visitor: str, view: InspectView, static: OpenAdapter | None) -> str:
    opened = reopen(app_state, visitor, view)
    report, gallery, named = view.report, opened.gallery, titles(view, static)
    own = named[OWN] if view.has_cores and not view.pooled else view.method
    columns = [Column("original network", report.predicted_before, report.nearest_before, gallery)]
    if static is not None and not view.constant:
        columns.append(_static_column(static, view, named[STATIC]))
    columns.append(Column(own, report.predicted_after, report.nearest_after, gallery))
    if view.has_cores and not view.pooled and not view.constant:
        columns.append(_other_column(app_state, visitor, opened, view, named[OTHER]))
    return neighbour_table(view.names, view.images, columns, view.factors)


def _static_column(static: OpenAdapter, view: InspectView, title: str) -> Column:
    model, k = static.model.to(pick_device()), gallery_k(static.gallery)
    report = report_neighbours(model, static.gallery, view.images, k=k)
    return Column(title, report.predicted_after, report.nearest_after, static.gallery)


@torch.inference_mode()
def _other_column(app_state: AppState, visitor: str, opened: OpenAdapter, view: InspectView, title: str) -> Column:
    codes, model = view.report.inspection.codes, opened.model
    assert codes is not None
    if len(codes) > 1:
        others = codes.roll(-1, 0)
    else:
        others = model.codes(other_images(app_state, visitor, view, 0)[1][:1].to(pick_device()))
    cores = model.cores(others.to(pick_device()))
    embeddings = model(view.images.to(pick_device()), cores=cores).float().cpu()
    gallery, k = opened.gallery, gallery_k(opened.gallery)
    return Column(title, gallery.predict(embeddings, "adapted", k), gallery.nearest(embeddings, "adapted", k), gallery)
