"""Trained weights that a backbone lacks: what they take, and fetching them on demand."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from metalora.models.backbones import has_weights
from metalora.models.bundled_networks import BUNDLED
from metalora.models.timm_weights import cached_backbones, fetch_weights, weights_size
from metalora.runs.app_process import may_download
from metalora.util.errors import InputError

from .components import Message, Meter
from .context import PRIVATE, QUIET

HIDDEN = [gr.update(visible=False), gr.update(visible=False)]


def known_backbones() -> list[str]:
    """Return the backbones that need no fetching: the bundled ones, then those whose weights are on this machine."""
    return [*BUNDLED, *cached_backbones()]


def weights_panel(backbone: gr.Dropdown) -> Any:
    """Lay out what is offered while the weights of `backbone` are missing; return the event after they are fetched."""
    with gr.Row():
        ask = gr.Button("Fetch its weights", size="sm", visible=False, min_width=150)
        fetch = gr.Button("Fetch", size="sm", variant="primary", visible=False, min_width=150)
    said, meter = Message(kind="status"), Meter("Part of the weights that is fetched")
    buttons = [ask, fetch]
    backbone.change(_offer, backbone, [*buttons, said, meter], **QUIET)
    ask.click(_size, backbone, [*buttons, said], concurrency_limit=None, **PRIVATE)
    return fetch.click(
        _fetch, backbone, [*buttons, said, meter, backbone], concurrency_limit=1, show_progress="hidden", **PRIVATE
    )


def _offer(backbone: str) -> list[Any]:
    """Offer to ask for the weights of a backbone that lacks them, where downloads are allowed."""
    try:
        missing = may_download() and not has_weights(backbone)
    except InputError:  # the form says what is wrong with the name
        missing = False
    return [gr.update(visible=missing), gr.update(visible=False), "", ""]


def _size(backbone: str) -> list[Any]:
    """Ask the hub for the size, and offer to fetch."""
    try:
        size = weights_size(backbone) / 1e6
    except InputError as problem:
        return [gr.skip(), gr.skip(), str(problem)]
    return [gr.update(visible=False), gr.update(visible=True, value=f"Fetch {size:.1f} MB from the Hub"), ""]


def _fetch(backbone: str) -> Iterator[list[Any]]:
    """Fetch the weights, saying how much of them is here."""
    if not may_download():
        yield [*HIDDEN, "This server fetches no weights.", "", gr.skip()]
        return
    try:
        for done, total in fetch_weights(backbone):
            said = f"Fetching: {done / 1e6:.1f} of {total / 1e6:.1f} MB."
            yield [gr.skip(), gr.update(interactive=False), said, str(done / max(1, total)), gr.skip()]
    except InputError as problem:
        yield [gr.skip(), gr.update(interactive=True), str(problem), "", gr.skip()]
        return
    said = f"The weights of {backbone} are on this machine now."
    again = gr.update(visible=False, interactive=True)
    yield [gr.update(visible=False), again, said, "", gr.update(choices=known_backbones())]
