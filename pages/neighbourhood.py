"""What is chosen on an embedding: one image with its neighbours, or a lasso with its counts."""

import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from metalora.views.embedding import EmbeddingView
from metalora.views.embedding_selection import describe_selection, neighbour_tiles

from .checked_blocks import event_value
from .components import Message, show_errors
from .context import PRIVATE, QUIET, Context
from .image_tiles import ImageTiles
from .plot import Plot, marks

EMPTY = "No selection: draw a loop around points with the lasso."


def neighbourhood(context: Context, shown: gr.State, plots: tuple[Plot, Plot]) -> None:
    """Lay out both for the `EmbeddingView` in `shown` and the scatters of its adapters, and wire their events."""
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            image = gr.Dropdown(
                [],
                value=None,
                label="Image and its ten nearest neighbours",
                info="Click a point, or choose by number or name; rings mark it and its neighbours.",
            )
            rows = (ImageTiles(), ImageTiles())
        with gr.Column(scale=1, min_width=240):
            selection = Message(EMPTY, kind="status")
            counts = gr.Dataframe(
                headers=["class", "images"],
                datatype=["str", "number"],
                label="Classes of the selection",
                interactive=False,
                max_height=260,
                visible=False,
            )
    show = show_errors(partial(_show_neighbours, context.app_state))
    image.change(show, [context.visitor, shown, image], [*rows, *plots], queue=False, **PRIVATE)
    for i, plot in enumerate(plots):
        scatter = Scatter(i)
        plot.point(scatter.choose, shown, image, **QUIET)
        plot.lasso(show_errors(scatter.count), shown, [selection, counts], **QUIET)
    shown.change(_reset, shown, [image, selection, counts], **QUIET)


def _show_neighbours(app_state: AppState, token: str, chart: EmbeddingView | None, chosen: str | None) -> list[Any]:
    """Return a row of tiles for each adapter, and rings for each scatter."""
    tiles: list[Any] = [None, None]
    rings: list[Any] = [{"marks": marks()}, {"marks": marks()}]
    if chart is None or chosen is None:
        # A new chart comes without rings. Nothing else may be sent: a tab that was not looked at yet keeps the
        # last message only, and that has to be the chart.
        return [*tiles, gr.skip(), gr.skip()]
    adapter, row = _named(chart, chosen)
    nearest: dict[int, list[int]] = {}
    for i in (0, 1) if chart.same_images else (adapter,):
        nearest[i], tiles[i] = neighbour_tiles(app_state.open(token, chart.names[i]), chart, i, row)
        rings[i] = {"marks": marks(row, nearest[i])}
    if chart.morphs:  # one plot, with the neighbours at both ends
        rings = [{"marks": marks(row, *nearest.values())}, gr.skip()]
    return [*tiles, *rings]


def _named(chart: EmbeddingView, chosen: Any) -> tuple[int, int]:
    """Return the numbers of the adapter and of the image that the menu names."""
    found = re.fullmatch(r"(\d):(\d{1,9})", str(chosen), re.ASCII)
    adapter, row = (int(found[1]), int(found[2])) if found else (-1, -1)
    if not (0 <= adapter < len(chart.frames) and 0 <= row < len(chart.frames[adapter])):
        raise InputError("There is no such image on the map: choose one of the list.")
    return adapter, row


@dataclass(frozen=True)
class Scatter:
    """The scatter of the chart's adapter number `adapter`."""

    adapter: int

    def choose(self, chart: EmbeddingView | None, event: gr.EventData) -> Any:
        """Return the clicked point as the menu of images names it."""
        row = event_value(event, "row", int)
        return gr.skip() if chart is None else f"{0 if chart.same_images else self.adapter}:{row}"

    def count(self, chart: EmbeddingView | None, event: gr.EventData) -> list[Any]:
        """Return counts and accuracies of a lasso; the other adapter's too, where images are the same."""
        rows = event_value(event, "rows", list)
        if chart is None or not rows:
            return [EMPTY, gr.update(visible=False)]
        adapters = [self.adapter, *([1 - self.adapter] if chart.same_images else [])]
        selections = [describe_selection(chart.frames[i], rows, chart.classes[i]) for i in adapters]
        texts = [f"{chart.titles[i]}: {text}" for i, (text, _) in zip(adapters, selections, strict=True)]
        return [" ".join(texts), gr.update(value=selections[0][1], visible=True)]


def _reset(chart: EmbeddingView | None) -> list[Any]:
    """Return the menu of a new chart's images, by number and name, none chosen; and no selection."""
    frames = () if chart is None else chart.frames[:1] if chart.same_images else chart.frames
    choices = [
        (f"{row}: {name}" if len(frames) == 1 else f"{chart.titles[i]}, {row}: {name}", f"{i}:{row}")
        for i, frame in enumerate(frames)
        for row, name in enumerate(frame["name"])
    ]
    return [gr.update(choices=choices, value=None), EMPTY, gr.update(visible=False)]
