"""Buttons that export an embedding: as a page that needs no server, and as a table."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from metalora.views.embedding import EmbeddingView
from metalora.views.embedding_files import CSV, TSV, write_page, write_table

from .components import served, show_errors
from .context import PRIVATE, Context

Draw = Callable[[EmbeddingView, str], list[Any]]
KINDS = {"html": "Export HTML", "csv": "Export CSV", "tsv": "Export TSV"}
TABLES = {"csv": CSV, "tsv": TSV}
NOTHING = "There is nothing to export yet: wait until the projection is there."
CLICK = """() => { setTimeout(() => {
  const file = document.querySelector('#embedding-%s');
  (file.matches('a, button') ? file : file.querySelector('a, button')).click();
}, 100); }"""


def export_buttons(context: Context, shown: gr.State, colour: gr.Radio, draw: Draw) -> None:
    """Lay out a button for each kind of file; `draw` makes a figure of each frame of the `EmbeddingView` in `shown`."""
    inputs = [context.visitor, shown, colour]
    with gr.Row():
        for kind, label in KINDS.items():
            button = gr.Button(label, size="sm", min_width=120, scale=0)
            # A download needs its file before it is clicked: written on demand, then clicked by the page.
            file = gr.DownloadButton(visible="hidden", elem_id=f"embedding-{kind}")
            write = show_errors(partial(_write, context.app_state, draw, kind))
            button.click(write, inputs, file, queue=False, **PRIVATE).success(None, None, None, js=CLICK % kind)


def _write(app_state: AppState, draw: Draw, kind: str, token: str, chart: EmbeddingView | None, colour: str) -> str:
    """Write a file into the visitor's folder and return where it is served."""
    if chart is None:
        raise InputError(NOTHING)
    folder = app_state.workspace.export_folder(token, "embedding")
    return served(
        write_table(chart, folder, TABLES[kind]) if kind in TABLES else write_page(chart, draw(chart, colour), folder)
    )
