"""What is chosen on an embedding: one picture with its neighbours, or a lasso with its counts."""

from typing import Any

import gradio as gr

from metalora.views.embedding import Chart, judged
from metalora.views.embedding import neighbourhood as look_around
from pages.context import PRIVATE, QUIET, Context
from pages.plot import Plot, marks
from pages.tiles import Tiles
from pages.words import Message, show_errors

EMPTY = "No selection: draw a loop around points with the lasso."


def neighbourhood(context: Context, shown: gr.State, plots: tuple[Plot, Plot]) -> None:
    """Lay out both and wire their events.

    Args:
        shown: the `Chart` on the screen.
        plots: the scatters of its first and second adapter.
    """
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            picture = gr.Dropdown(
                [],
                value=None,
                label="Picture and its ten nearest neighbours",
                info="Click a point, or choose by number or name; rings mark it and its neighbours.",
            )
            rows = (Tiles(), Tiles())
        with gr.Column(scale=1, min_width=240):
            words = Message(EMPTY, kind="status")
            counts = gr.Dataframe(
                headers=["class", "pictures"],
                datatype=["str", "number"],
                label="Classes of the selection",
                interactive=False,
                max_height=260,
                visible=False,
            )

    @show_errors
    def choose(token: str, made: Chart | None, chosen: str | None) -> list[Any]:
        tiles: list[Any] = [None, None]
        ringed: list[Any] = [{"marks": marks()}, {"marks": marks()}]
        if made is None or chosen is None:
            # A new chart comes without rings. Nothing else may be sent: a tab that was not looked at yet keeps the
            # last message only, and that has to be the chart.
            return [*tiles, gr.skip(), gr.skip()]
        own, row = map(int, chosen.split(":"))
        for side in (0, 1) if made.same else (own,):
            opened = context.app_state.open(token, made.names[side])
            near, tiles[side] = look_around(opened, made, side, row)
            ringed[side] = {"marks": marks(row, near)}
        return [*tiles, *ringed]

    picture.change(choose, [context.visitor, shown, picture], [*rows, *plots], queue=False, **PRIVATE)
    for side, plot in enumerate(plots):
        plot.point(_clicked(side), shown, picture, **QUIET)
        plot.lasso(_counted(side), shown, [words, counts], **QUIET)
    shown.change(_menu, shown, [picture, words, counts], **QUIET)


def _clicked(side: int):
    """The clicked point of one of the plots, as the menu names it."""

    def clicked(made: Chart, event: gr.EventData) -> str:
        return f"{0 if made.same else side}:{event.row}"

    return clicked


def _menu(made: Chart | None) -> list[Any]:
    """Other points: all pictures by number and name, none chosen."""
    frames = () if made is None else made.frames[:1] if made.same else made.frames
    choices = [
        (f"{row}: {name}" if len(frames) == 1 else f"{made.titles[side]}, {row}: {name}", f"{side}:{row}")
        for side, frame in enumerate(frames)
        for row, name in enumerate(frame["name"])
    ]
    return [gr.update(choices=choices, value=None), EMPTY, gr.update(visible=False)]


def _counted(side: int):
    """Counts and accuracies of a lasso in one of the plots; the other adapter's too, where pictures are the same."""

    @show_errors
    def counted(made: Chart | None, event: gr.EventData) -> list[Any]:
        if made is None or not event.rows:
            return [EMPTY, gr.update(visible=False)]
        sides = [side, *([1 - side] if made.same else [])]
        found = [judged(made.frames[one], event.rows, made.classes[one]) for one in sides]
        said = [f"{made.titles[one]}: {words}" for one, (words, _) in zip(sides, found, strict=True)]
        return [" ".join(said), gr.update(value=found[0][1], visible=True)]

    return counted
