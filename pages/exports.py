"""Buttons that export an embedding: as a page that needs no server, and as a table."""

from typing import Any

import gradio as gr

from metalora.util.errors import InputError
from metalora.views.embedding import Chart
from metalora.views.embedding_files import write_page, write_table
from pages.context import PRIVATE, Context
from pages.words import show_errors

WHAT = {"html": "Export HTML", "csv": "Export CSV"}
NOTHING = "There is nothing to export yet: wait until the projection is there."


def exports(context: Context, shown: gr.State, colour: gr.Radio, draw: Any) -> None:
    """Lay out a button for each kind of file.

    Args:
        shown: the `Chart` on the screen.
        draw: a chart and its colour → figures, one for each of its frames.
    """

    @show_errors
    def write(token: str, made: Chart | None, colour: str, kind: str) -> str:
        if made is None:
            raise InputError(NOTHING)
        folder = context.app_state.workspace.folder(token)
        return str(write_table(made, folder) if kind == "csv" else write_page(made, draw(made, colour), folder))

    with gr.Row():
        for kind, words in WHAT.items():
            button = gr.Button(words, size="sm", min_width=120, scale=0)
            # A download needs its file before it is clicked: written on demand, then clicked by the page.
            file = gr.DownloadButton(visible="hidden", elem_id=f"embedding-{kind}")
            event = button.click(
                lambda token, made, colour, kind=kind: write(token, made, colour, kind),
                [context.visitor, shown, colour],
                file,
                queue=False,
                **PRIVATE,
            )
            event.success(None, None, None, js=_CLICK % kind)


_CLICK = """() => { setTimeout(() => {
  const file = document.querySelector('#embedding-%s');
  (file.matches('a, button') ? file : file.querySelector('a, button')).click();
}, 100); }"""
