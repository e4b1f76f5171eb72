"""Endpoints for programs: what the Inspect tab shows, as data. Errors are the sentences that the page shows."""

from typing import Any

import gradio as gr

from metalora.views.api import embedded, inspected
from metalora.views.app_state import DEFAULT
from metalora.views.inspect import MOST
from pages.context import COMPUTE, Context
from pages.words import show_errors

INSPECT = (
    f"The adapters that up to {MOST} pictures get: for every picture its core and the strength ‖ΔW‖ / ‖W‖ by layer, "
    "its nearest gallery pictures, and the cosine similarity between the cores. A file that cannot be read is an error "
    "that names it."
)
EMBED = f"Embeddings of up to {MOST} pictures, each with its own adapter: {{adapter, names, embeddings}}."


def endpoints(context: Context) -> None:
    """Register `/inspect_images` and `/embed`; nothing of them is seen on the page."""
    inspect_view, encode = context.app_state.wrap_for_gpu(inspected), context.app_state.wrap_for_gpu(embedded)

    @show_errors
    def inspect_images(files: list[str], adapter: str = DEFAULT, visitor: str = "") -> dict[str, Any]:
        return inspect_view(visitor, adapter, files)

    @show_errors
    def embed(files: list[str], adapter: str = DEFAULT, visitor: str = "") -> dict[str, Any]:
        return encode(visitor, adapter, files)

    for function, description in ((inspect_images, INSPECT), (embed, EMBED)):
        inputs = [
            gr.File(file_count="multiple", label="Pictures", visible=False),
            gr.Textbox(DEFAULT, label="Adapter: BACKBONE/METHOD of a bundled one, or run:ID of yours", visible=False),
            gr.Textbox("", label="Your visitor's id; bundled adapters need none", visible=False),
        ]
        gr.Button(visible=False).click(
            function,
            inputs,
            gr.JSON(label="Result", visible=False),
            api_name=function.__name__,
            api_description=description,
            **COMPUTE,
        )
