"""What clients of the Model Context Protocol read beside the tools of `api`: resources and a prompt."""

import json
from urllib.parse import unquote

import gradio as gr
from gradio.mcp import prompt, resource

from metalora.experiments.results import bundled_results, compare_rows

from .components import show_errors
from .context import Context

PROMPT = """\
Show what an adapter that is generated for each image does, with the tools of this server.

1. Read metalora://adapters and choose one whose suite fits these images: {images}.
2. Call inspect_images with the images and this adapter. Compare the cosine similarity of their cores and the strength
   of the update by layer.
3. Call embed twice, with this adapter and with the LoRA of the same backbone and suite, and compare the cosine
   similarities of the embeddings.
4. Read metalora://results/primary%2Fmain and say how large the measured gain is, with its uncertainty.

Say in plain words what the images share, how their adapters differ, and what you cannot conclude from so few images."""


# Gradio takes what is no text for base64, so JSON is called plain text.
def resources(context: Context) -> None:
    """Register resources and prompt; without an MCP server they are endpoints like others."""

    @resource("metalora://adapters", description="Bundled adapters: name and title", mime_type="text/plain")
    def bundled_adapters() -> str:
        """Return the bundled adapters, name → title, as JSON."""
        return json.dumps(context.app_state.bundled_adapters())

    @resource("metalora://results", description="Names of measured results", mime_type="text/plain")
    def measured_results() -> str:
        """Return the names of the bundled comparisons, as JSON."""
        return json.dumps(bundled_results())

    @resource("metalora://results/{name}", description="Rows of a result", mime_type="text/plain")
    def measured_result(name: str) -> str:
        """Return the rows of a bundled comparison, as JSON.

        Args:
            name: of the comparison, such as primary%2Fmain.
        """
        return json.dumps(compare_rows(unquote(name)))

    @prompt(name="explain_adapters", description="Inspect images and explain their generated adapters")
    def explain_adapters(images: str) -> str:
        """Return the task of comparing images under generated adapters.

        Args:
            images: their files or addresses.
        """
        return PROMPT.format(images=images)

    text = {"visible": False}
    for function, inputs in (
        (bundled_adapters, []),
        (measured_results, []),
        (measured_result, [gr.Textbox("primary/main", label="Name of the results", **text)]),
        (explain_adapters, [gr.Textbox("", label="Images: files or addresses", **text)]),
    ):
        output = gr.Textbox(label="Result", **text)
        button = gr.Button(visible=False)
        button.click(show_errors(function), inputs, output, api_name=function.__name__, queue=False)
